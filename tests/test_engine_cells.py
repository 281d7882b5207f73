"""A run that makes cells: what QuPath gets, what is measured, whatever the tiles and workers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely.geometry import shape

import wsi_engine
from tests.support.exports import shared_export
from wsi_engine.qupath.validation import validate
from wsi_engine.results.nucleus_table import read_nuclei
from wsi_engine.sample import SampleTruth

SETTINGS = {"model": "watershed", "cells": 5, "regions": False, "report": False}


def features_of(folder: Path) -> list[dict]:
    return json.loads(gzip.decompress((folder / "nuclei.geojson.gz").read_bytes()))["features"]


@pytest.fixture(scope="module")
def with_cells(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    found = wsi_engine.run(sample.slide_path, folder, **SETTINGS).folder
    assert found is not None
    return found


@pytest.fixture(scope="module")
def without(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nuclei")
    found = wsi_engine.run(sample.slide_path, folder, **(SETTINGS | {"cells": None})).folder
    assert found is not None
    return found


def outlines(features: list[dict], member: str) -> np.ndarray:
    return np.array([shape(feature[member]) for feature in features], object)


def test_qupath_gets_cells_around_the_nuclei_that_a_run_without_them_finds(
    with_cells: Path, without: Path
):
    cells, nuclei = features_of(with_cells), features_of(without)
    assert len(cells) == len(nuclei) > 100
    assert {feature["properties"]["objectType"] for feature in cells} == {"cell"}
    assert {feature["properties"]["objectType"] for feature in nuclei} == {"detection"}
    own = {feature["id"]: feature["geometry"] for feature in nuclei}
    assert {f["id"]: f["nucleusGeometry"] for f in cells} == own
    around = outlines(cells, "geometry")
    assert shapely.covers(around, outlines(cells, "nucleusGeometry")).all()
    report = validate(with_cells / "nuclei.geojson.gz")
    assert not report.aborts("0.4")
    assert not report.aborts("0.7")


def test_measurements_have_the_names_of_qupaths_cells(with_cells: Path, sample: SampleTruth):
    exported = json.loads(shared_export("08_cells_nucleus_geometry.geojson").read_text("utf-8"))
    names = {name for f in exported["features"] for name in f["properties"].get("measurements", {})}
    stains = {
        f"{part}: {stain}: Mean"
        for part in ("Nucleus", "Cytoplasm", "Cell")
        for stain in ("Hematoxylin", "Eosin")
    }
    for feature in features_of(with_cells):
        measured = feature["properties"]["measurements"]
        assert names <= measured.keys()
        assert measured.keys() & stains
        area = sample.mpp**2 * shape(feature["geometry"]).area
        assert measured["Cell: Area µm^2"] == pytest.approx(area, rel=1e-5)
        ratio = measured["Nucleus: Area µm^2"] / measured["Cell: Area µm^2"]
        assert measured["Nucleus/Cell area ratio"] == pytest.approx(ratio, rel=1e-5)
    (typical, *_) = features_of(with_cells)
    assert stains <= typical["properties"]["measurements"].keys()


def test_the_cell_is_measured_on_the_pixels_of_nucleus_and_cytoplasm(with_cells: Path):
    table = read_nuclei(with_cells / "nuclei.parquet").arrow.to_pandas()
    nucleus, cytoplasm, cell = (
        table[f"{part}Hematoxylin: Mean"].to_numpy() for part in ("", "Cytoplasm: ", "Cell: ")
    )
    low, high = np.fmin(nucleus, cytoplasm), np.fmax(nucleus, cytoplasm)
    assert ((cell >= low - 1e-6) & (cell <= high + 1e-6)).all()
    # Pixels of cytoplasm and outlines of cells share out the space at the same borders.
    share = (cytoplasm - cell) / (cytoplasm - nucleus)
    ratio = table["Nucleus/Cell area ratio"].to_numpy()
    assert np.nanmedian(np.abs(share - ratio)) < 0.03
    least = table["Cell: Hematoxylin: Min"].to_numpy()
    parts = (table["Hematoxylin: Min"], table["Cytoplasm: Hematoxylin: Min"])
    np.testing.assert_array_equal(least, np.fmin(*parts))


def test_cells_are_the_same_whatever_the_tiles_and_the_threads(
    with_cells: Path, sample: SampleTruth, tmp_path: Path
):
    changed = SETTINGS | {"tile_size": 256}
    tiled = wsi_engine.run(sample.slide_path, tmp_path / "tiled", **changed).folder
    assert tiled is not None
    # Ids are of places; the few that a classical method places elsewhere are no matter here.
    first = {f["id"]: f for f in features_of(with_cells)}
    second = {f["id"]: f for f in features_of(tiled)}
    assert len(first.keys() & second.keys()) > 0.95 * len(first)
    same = sum(second.get(identity) == feature for identity, feature in first.items())
    assert same > 0.95 * len(first)
    for workers in (1, 3):
        again = wsi_engine.run(
            sample.slide_path, tmp_path / f"by {workers}", **SETTINGS, workers=workers
        ).folder
        assert again is not None
        for name in ("nuclei.geojson.gz", "nuclei.parquet", "columns.json"):
            assert (again / name).read_bytes() == (with_cells / name).read_bytes()


def test_nuclei_of_another_program_get_the_same_cells(
    with_cells: Path, sample: SampleTruth, tmp_path: Path
):
    source = with_cells / "nuclei.geojson.gz"
    again = wsi_engine.measure(sample.slide_path, source, tmp_path, cells=5).folder
    assert again is not None
    first, second = ({f["id"]: f for f in features_of(folder)} for folder in (with_cells, again))
    assert first.keys() == second.keys()
    for identity, feature in first.items():
        assert second[identity]["geometry"] == feature["geometry"]
        assert second[identity]["nucleusGeometry"] == feature["nucleusGeometry"]


def test_where_a_nucleus_was_deleted_its_neighbours_cells_grow(
    with_cells: Path, sample: SampleTruth, tmp_path: Path
):
    result = wsi_engine.run(sample.slide_path, tmp_path, **SETTINGS).folder
    assert result is not None
    before = {f["id"]: f for f in features_of(result)}
    crowded = min(
        before.values(),
        key=lambda f: f["properties"]["measurements"]["Nearest neighbor distance µm"],
    )
    found = wsi_engine.read_objects(result / "nuclei.geojson.gz")
    kept = [item for item in found if item.id != crowded["id"]]
    wsi_engine.write_objects(tmp_path / "corrected.geojson", kept)
    applied = wsi_engine.apply_corrections(tmp_path / "corrected.geojson", result)
    assert (applied.deleted, applied.edited, applied.added) == (1, 0, 0)
    after = {f["id"]: f for f in features_of(result)}
    assert before.keys() - after.keys() == {crowded["id"]}
    assert {f["properties"]["objectType"] for f in after.values()} == {"cell"}
    grown = [
        i for i in after if shape(after[i]["geometry"]).area > shape(before[i]["geometry"]).area
    ]
    assert 0 < len(grown) < 20
    assert all(after[i]["geometry"] == before[i]["geometry"] for i in after if i not in set(grown))
    for feature in after.values():
        area = sample.mpp**2 * shape(feature["geometry"]).area
        measured = feature["properties"]["measurements"]["Cell: Area µm^2"]
        assert measured == pytest.approx(area, rel=1e-5)
