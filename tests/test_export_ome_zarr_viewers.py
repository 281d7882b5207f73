"""Label images in OME-Zarr as spatialdata and napari read them: `make test-spatialdata`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spatialdata
import tifffile
from napari.layers import Labels
from napari_ome_zarr import napari_get_reader

from tests.support.exported import case, corrected, truth, with_slide
from tests.support.slides import noise
from tests.support.zarrs import write_ome_zarr
from wsi_engine.export.export import export_result


@pytest.fixture
def folder(finished_run: Path, tmp_path: Path) -> Path:
    return corrected(finished_run, tmp_path)


def layers(path: Path) -> list[tuple]:
    read = napari_get_reader(str(path))
    assert read is not None
    return read(str(path))


def test_napari_shows_the_labels_with_colours_and_properties(folder):
    (path,) = export_result(folder, "ome-zarr")
    ((data, metadata, kind),) = layers(path / "labels" / "nuclei")
    assert kind == "labels"
    layer = Labels(data, **metadata)
    (image,) = export_result(folder, "labels")
    np.testing.assert_array_equal(np.asarray(layer.data[0]), tifffile.imread(image))
    run_mpp = 0.25
    assert layer.scale.tolist() == [run_mpp, run_mpp]
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    rows = truth(folder).to_pylist()
    assert list(layer.properties["id"]) == [row["id"] for row in rows]
    np.testing.assert_allclose(layer.get_color(1)[:3], np.array([1, 2, 3]) / 255, atol=1e-6)
    np.testing.assert_allclose(layer.get_color(2)[:3], np.array([128] * 3) / 255, atol=1e-6)


def test_napari_makes_no_group_beside_the_result(folder):
    """Its plugin opens what lies two folders above a label image, and makes it if need be."""
    (path,) = export_result(folder, "ome-zarr")
    before = sorted(folder.rglob("*"))
    layers(path / "labels" / "nuclei")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["one nucleus", "nothing found", "corrected"])
def test_spatialdata_reads_the_labels(finished_run, tmp_path, name):
    folder = corrected(finished_run, tmp_path) if name == "corrected" else with_slide(
        case(tmp_path, name), mpp={"x": 0.25, "y": 0.5}
    )  # fmt: skip
    (path,) = export_result(folder, "ome-zarr")
    with pytest.warns(UserWarning, match="not stored in the most current format"):
        store = spatialdata.read_zarr(path)
    pixels = store["nuclei"]["scale0"]["image"].to_numpy()
    (image,) = export_result(folder, "labels")
    np.testing.assert_array_equal(pixels, tifffile.imread(image))
    extent = spatialdata.get_extent(store["nuclei"], coordinate_system="global")
    assert (extent["x"], extent["y"]) == ((0, pixels.shape[1]), (0, pixels.shape[0]))


def test_a_slide_that_napari_reads_is_read_alike(tmp_path):
    image = noise(300, 200)
    path = write_ome_zarr(tmp_path / "slide.zarr", image)
    ((data, _, kind),) = layers(path)
    assert kind == "image"
    np.testing.assert_array_equal(np.moveaxis(np.asarray(data[0]), 0, -1), image)
