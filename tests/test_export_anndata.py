"""AnnData as it is read again, and what squidpy asks of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely

from tests.support.exported import CASES, case, corrected, polygons, truth, with_slide
from wsi_engine.export.export import export_result

anndata = pytest.importorskip("anndata", reason="extra `anndata`")


@pytest.fixture(params=[*CASES, "corrected"])
def folder(request, finished_run: Path, tmp_path: Path) -> Path:
    if request.param == "corrected":
        return corrected(finished_run, tmp_path)
    return case(tmp_path, request.param)


def exported(folder: Path):
    (path,) = export_result(folder, "anndata")
    return anndata.read_h5ad(path)


def test_every_value_is_there_again(folder):
    table, expected = exported(folder), truth(folder)
    left_out = {"id", "geometry", "bbox", "slide", "x", "y", "class", "score"}
    left_out |= {"name", "source", "roi", "roi_id"}
    names = [
        name
        for name in expected.column_names
        if name not in left_out and not name.startswith("probability: ")
    ]
    assert table.var_names.tolist() == names
    assert table.obs_names.tolist() == expected["id"].to_pylist()
    assert table.X.dtype == np.float32
    for k, name in enumerate(names):
        np.testing.assert_array_equal(table.X[:, k], expected[name].to_numpy())
    np.testing.assert_array_equal(table.obs["score"], expected["score"].to_numpy())
    classes = [name or "unclassified" for name in expected["class"].to_pylist()]
    assert isinstance(table.obs["class"].dtype, pd.CategoricalDtype)
    assert table.obs["class"].tolist() == classes
    for name in {"name", "source", "roi", "roi_id"} & {*expected.column_names}:
        assert isinstance(table.obs[name].dtype, pd.CategoricalDtype)
        found = [None if pd.isna(text) else text for text in table.obs[name]]
        assert found == expected[name].to_pylist()


def test_places_are_centroids_in_um(folder):
    with_slide(folder, mpp={"x": 0.25, "y": 0.5})
    centres = shapely.get_coordinates(shapely.centroid(polygons(folder)))
    np.testing.assert_allclose(exported(folder).obsm["spatial"], centres * [0.25, 0.5])


def test_probabilities_and_classes_are_in_the_order_of_the_model(folder):
    table, expected = exported(folder), truth(folder)
    names = [name for name in expected.column_names if name.startswith("probability: ")]
    assert ("probabilities" in table.obsm) == bool(names)
    if names:
        found = [f"probability: {name}" for name in table.uns["classes"]]
        assert found == names
        assert table.obs["class"].cat.categories.tolist()[: len(names)] == [*table.uns["classes"]]
        for k, name in enumerate(names):
            np.testing.assert_array_equal(
                table.obsm["probabilities"][:, k], expected[name].to_numpy()
            )


def test_columns_say_what_they_mean(finished_run, tmp_path):
    table = exported(corrected(finished_run, tmp_path))
    assert table.var.loc["Area µm^2", "unit"] == "µm^2"
    assert (table.var[["formula", "source"]] != "").all(axis=None)
    facts = json.loads(table.uns["wsi_engine"])
    assert facts["slide"]["mpp"] == {"x": 0.25, "y": 0.25}
    assert "Drawn; new" in table.obs["class"].cat.categories


def test_squidpy_does_not_take_nuclei_for_spots_of_a_visium_grid(folder):
    """It does so where there is this entry: nuclei had no neighbours, all distances were 1."""
    assert "spatial" not in exported(folder).uns


def test_missing_values_are_dealt_with_as_the_docs_say(folder):
    """The recipe of docs/exports.md leaves columns that PCA takes, and every nucleus."""
    table = exported(folder)
    whole = table[:, np.isfinite(table.X).mean(axis=0) > 0.95].copy()
    whole.X = np.where(np.isfinite(whole.X), whole.X, np.nanmedian(whole.X, axis=0))
    assert np.isfinite(whole.X).all()
    assert len(whole) == len(table)
