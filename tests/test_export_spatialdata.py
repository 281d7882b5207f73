"""SpatialData stores and AnnData as scverse reads them again: `make test-spatialdata`."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
import shapely
import spatialdata
import squidpy
import tifffile

from tests.support.exported import CASES, case, corrected, polygons, truth, with_slide
from wsi_engine.errors import ExportError
from wsi_engine.export.export import export_result


@pytest.fixture(params=[name for name in CASES if name != "nothing found"] + ["corrected"])
def folder(request, finished_run: Path, tmp_path: Path) -> Path:
    if request.param == "corrected":
        return corrected(finished_run, tmp_path)
    return with_slide(case(tmp_path, request.param), mpp={"x": 0.25, "y": 0.5})


def test_shapes_and_their_table_are_read_again(folder):
    (path,) = export_result(folder, "spatialdata")
    store = spatialdata.read_zarr(path)
    shapes, expected = polygons(folder), truth(folder)
    assert shapely.equals_identical(store["nuclei"].geometry.to_numpy(), shapes).all()
    table = store["nuclei_table"]
    assert table.obs_names.tolist() == expected["id"].to_pylist()
    elements, joined = spatialdata.join_spatialelement_table(
        sdata=store, spatial_element_names="nuclei", table_name="nuclei_table", how="left"
    )
    assert len(elements["nuclei"]) == joined.n_obs == len(shapes)
    assert joined.obs["instance_id"].tolist() == store["nuclei"].index.tolist()


def test_in_um_they_lie_where_the_table_says(folder):
    (path,) = export_result(folder, "spatialdata")
    store = spatialdata.read_zarr(path)
    um = spatialdata.transform(store["nuclei"], to_coordinate_system="um")
    centres = shapely.get_coordinates(shapely.centroid(um.geometry.to_numpy()))
    np.testing.assert_allclose(centres, store["nuclei_table"].obsm["spatial"])


def test_labels_have_the_numbers_of_the_shapes(finished_run, tmp_path):
    folder = corrected(finished_run, tmp_path)
    (path,) = export_result(folder, "spatialdata", labels=True)
    (image,) = export_result(folder, "labels")
    store = spatialdata.read_zarr(path)
    pixels = store["nuclei_labels"]["scale0"]["image"].to_numpy()
    np.testing.assert_array_equal(pixels, tifffile.imread(image))
    numbers = {*np.unique(pixels).tolist()} - {0}
    assert numbers <= {*store["nuclei"].index}
    assert len(numbers) > len(store["nuclei"]) / 2
    coarser = store["nuclei_labels"]["scale1"]["image"].to_numpy()
    assert {*np.unique(coarser).tolist()} - {0} <= numbers


def test_a_store_that_is_there_is_left_alone(folder):
    (path,) = export_result(folder, "spatialdata")
    with pytest.raises(ExportError, match=r"slide\.zarr is there already|sample\.zarr is there"):
        export_result(folder, "spatialdata")
    assert spatialdata.read_zarr(path)["nuclei_table"].n_obs == len(truth(folder))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_slide_without_nuclei(tmp_path):
    """An element of no shapes is not possible there."""
    folder = case(tmp_path, "nothing found")
    with pytest.raises(ExportError, match="no nuclei"):
        export_result(folder, "spatialdata")


def test_squidpy_finds_the_neighbours_that_there_are(finished_run, tmp_path):
    (path,) = export_result(corrected(finished_run, tmp_path), "anndata")
    table = anndata.read_h5ad(path)
    squidpy.gr.spatial_neighbors(table, coord_type="generic", radius=20.0)
    found = table.obsp["spatial_distances"].toarray()
    centres = shapely.points(table.obsm["spatial"])
    apart = shapely.distance(centres[:, None], centres[None])
    expected = np.where(apart <= 20, apart, 0)
    assert expected.any()
    np.testing.assert_allclose(found, expected, atol=1e-6)
