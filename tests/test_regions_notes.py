"""Tables of regions tell where a core lies in its array, and what was noted of regions."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
import shapely

from tests.support.exports import shared_export
from tests.support.objects_by_hand import item
from tests.support.results import write_result
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.writer import write_objects
from wsi_engine.regions.cohort import build_cohort
from wsi_engine.regions.measure import measure_regions
from wsi_engine.regions.notes import core_places
from wsi_engine.results.region import Region, read_drawn_regions

NUCLEI = [(500, 500), (520, 500), (2000, 500), (500, 2000)]


def core(name, x, y, **known):
    made = item(shapely.Point(x, y).buffer(300), object_type="tmaCore", name=name)
    return replace(made, **known)


def written(path, *objects):
    write_objects(path, objects)
    return path


def region(made):
    return Region("annotation", made.name or "Annotation 1", made.geometry, made)


def places(*cores):
    return core_places([region(one) for one in cores])


ROWS_FIRST = [core("A-1", 0, 0), core("A-2", 900, 9), core("B-1", 5, 900), core("B-2", 900, 900)]
COLUMNS_FIRST = [core("1-A", 0, 0), core("2-A", 900, 9), core("1-B", 5, 900)]


def test_rows_and_columns_are_told_by_names_and_places():
    assert places(*ROWS_FIRST) == [("A", "1"), ("A", "2"), ("B", "1"), ("B", "2")]
    assert places(*COLUMNS_FIRST) == [("A", "1"), ("A", "2"), ("B", "1")]
    assert places(core("C-7", 0, 0)) == [("C", "7")]


@pytest.mark.parametrize("name", [None, "core 5", "A-", "-1", "A1"])
def test_a_core_of_another_name_has_no_place(name):
    assert places(core(name, 0, 0)) == [(None, None)]


def test_an_annotation_has_no_place_in_an_array():
    drawn = item(shapely.box(0, 0, 9, 9), object_type="annotation", name="A-1")
    assert places(drawn) == [(None, None)]


def test_a_missing_core_has_no_numbers_and_says_where_it_is(tmp_path, caplog):
    folder = write_result(tmp_path / "slide", NUCLEI)
    cores = [
        core("A-1", 500, 500, metadata={"Case ID": "007"}),
        core("A-2", 2000, 500, is_missing=True, metadata={"Case ID": "008"}),
    ]
    report = measure_regions(folder, written(tmp_path / "array.geojson", *cores))
    there, gone = report.table.to_pylist()[-2:]
    assert (there["Nuclei"], there["Case ID"], there["TMA row"]) == (2, "007", "A")
    known = {name: value for name, value in gone.items() if value is not None}
    del known["id"]
    assert known == {
        "slide": "slide",
        "region": "A-2",
        "kind": "annotation",
        "TMA row": "A",
        "TMA column": "2",
        "TMA missing": "yes",
        "Case ID": "008",
    }
    assert there["TMA missing"] == "no"
    slide = report.table.to_pylist()[0]
    assert slide["TMA row"] is slide["TMA missing"] is None
    assert "A-2" not in caplog.text
    back = {item.name: item for item in read_objects(folder / "regions.geojson")}
    assert back["A-2"].is_missing
    assert back["A-2"].measurements == {}


def test_without_cores_and_metadata_the_columns_are_as_they_were(tmp_path):
    folder = write_result(tmp_path / "slide", NUCLEI)
    drawn = item(shapely.box(0, 0, 900, 900), object_type="annotation")
    report = measure_regions(folder, written(tmp_path / "a.geojson", drawn))
    assert report.table.column_names[4:7] == ["id", "Area mm^2", "Searched area mm^2"]


def test_metadata_called_as_another_column_get_a_number(tmp_path):
    folder = write_result(tmp_path / "slide", NUCLEI)
    noted = {"Nuclei": "many", "slide": "x", "TMA row": "north"}
    drawn = item(shapely.box(0, 0, 900, 900), object_type="annotation")
    path = written(tmp_path / "a.geojson", replace(drawn, metadata=noted))
    row = measure_regions(folder, path).table.to_pylist()[-1]
    assert [row[f"{name} (2)"] for name in noted] == ["many", "x", "north"]
    assert row["Nuclei"] == 2


def test_the_dictionary_and_the_cohort_have_them(tmp_path):
    for name in ("one", "two"):
        folder = write_result(tmp_path / "out" / name, NUCLEI)
        cores = [core("A-1", 500, 500, metadata={"Case ID": f"case of {name}"})]
        if name == "one":
            measure_regions(folder, written(tmp_path / "array.geojson", *cores))
    meanings = json.loads((tmp_path / "out" / "one" / "regions_columns.json").read_text("utf-8"))
    assert {entry["name"] for entry in meanings} >= {
        "TMA row",
        "TMA column",
        "TMA missing",
        "Case ID",
    }
    table = build_cohort(tmp_path / "out").table
    assert set(table["Case ID"].to_pylist()) == {None, "case of one"}
    assert set(table["TMA column"].to_pylist()) == {None, "1"}
    assert set(table["TMA missing"].to_pylist()) == {None, "no"}
    head = next(csv.reader((tmp_path / "out" / "cohort.csv").open(encoding="utf-8-sig")))
    assert {"TMA row", "TMA column", "TMA missing", "Case ID"} <= set(head)


def test_the_cores_that_qupath_exported_have_their_places():
    cores = read_drawn_regions(shared_export("09_tma_cores_incl_missing.geojson"))
    assert [core.name for core in cores] == ["A-1", "A-2", "B-1", "B-2"]
    assert core_places(cores) == [("A", "1"), ("A", "2"), ("B", "1"), ("B", "2")]
    assert [core.is_missing for core in cores] == [False, False, True, False]
