"""`wsi-engine export`: where files go, what is refused, and the formats that every reader takes."""

from __future__ import annotations

import csv
import gzip
import json
import re
import sqlite3
import sys
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import shapely

import wsi_engine
from tests.support.exported import CASES, case, corrected, polygons, truth, with_slide
from tests.support.results import write_result
from wsi_engine.cli import main
from wsi_engine.convert.annotation_store import read_annotation_store
from wsi_engine.errors import CorrectionsError, EngineError, ExportError, OutputError, ResultError
from wsi_engine.export import csv_table
from wsi_engine.export.export import export_result
from wsi_engine.export.formats import FORMATS, help_of, markdown, takers
from wsi_engine.export.options import HELP
from wsi_engine.installing import install_command
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.rules.rule import Severity
from wsi_engine.qupath.validation import validate

LIGHT = ("geoparquet", "csv", "geojson", "annotationstore", "labels")
"""Formats that need nothing but the engine."""


@pytest.fixture
def result(finished_run: Path, tmp_path: Path) -> Path:
    return corrected(finished_run, tmp_path)


@pytest.fixture(params=[*CASES, "corrected"])
def any_result(request, finished_run: Path, tmp_path: Path) -> Path:
    if request.param == "corrected":
        return corrected(finished_run, tmp_path)
    return case(tmp_path, request.param)


def same(found, expected) -> None:
    """Numbers are equal as float32, and missing in the same places."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float32)
    np.testing.assert_array_equal(found.astype(np.float32), expected)


# --- where files go --------------------------------------------------------------------------


def test_by_default_files_lie_beside_the_result_named_after_the_slide(result):
    before = {path.name: path.read_bytes() for path in result.iterdir()}
    files = wsi_engine.export_result(result, LIGHT)
    assert [str(path.relative_to(result)) for path in files] == [
        "exports/sample.parquet",
        "exports/sample.csv",
        "exports/sample_columns.csv",
        "exports/sample.geojson.gz",
        "exports/sample.db",
        "exports/sample_labels.ome.tif",
    ]
    assert sorted(files) == sorted((result / "exports").iterdir())
    assert {p.name: p.read_bytes() for p in result.iterdir() if p.is_file()} == before


@pytest.mark.parametrize(
    ("to", "name", "expected"),
    [
        (["csv"], "a.csv", ["a.csv", "a_columns.csv"]),
        (["csv"], "A.B.CSV.gz", ["A.B.CSV.gz", "A.B_columns.csv"]),
        (["csv"], "there", ["there/sample.csv", "there/sample_columns.csv"]),
        ("geojson", "x.zip", ["x.zip"]),
        (["geoparquet", "labels"], "new", ["new/sample.parquet", "new/sample_labels.ome.tif"]),
        (["geoparquet", "geoparquet"], "a.parquet", ["a.parquet"]),
        ("csv", "new", ["new/sample.csv", "new/sample_columns.csv"]),
    ],
)
def test_a_path_is_a_file_or_a_folder(result, tmp_path, to, name, expected):
    (tmp_path / "there").mkdir()
    files = export_result(result, to, tmp_path / name)
    assert files == [tmp_path / path for path in expected]
    assert all(path.is_file() for path in files)


@pytest.mark.parametrize("to", LIGHT)
def test_the_same_result_gives_the_same_bytes_over_an_earlier_export(result, tmp_path, to):
    files = export_result(result, to)
    first = [path.read_bytes() for path in files]
    for path in files:
        path.write_bytes(b"of an earlier export")
    export_result(result, to)
    assert [path.read_bytes() for path in files] == first


@pytest.mark.parametrize("to", LIGHT)
def test_an_export_that_fails_leaves_the_earlier_one(result, to, monkeypatch):
    (first, *_) = export_result(result, to)
    before = first.read_bytes()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wsi_engine.writing.sync", fails)
    with pytest.raises(EngineError, match="disk is full"):
        export_result(result, to)
    assert first.read_bytes() == before
    assert not list(first.parent.glob(".*"))


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "xls"], "there is no format 'xls': give one of geoparquet, csv,"),
        (["--to", "csv", "-o", "a.txt"], "a.txt: csv is written as .csv or .csv.gz"),
        (["--to", "csv", "-o", "absent/a.csv"], "there is no such folder"),
        (["--to", "csv", "--to", "labels", "-o", "absent/a"], "there is no such folder"),
        (["--to", "csv", "--to", "labels", "-o", "file.csv"], "a file is in the way"),
        (["--to", "csv", "--mpp", "0.5"], "mpp is an option of labels"),
        (["--to", "labels", "--um"], "um is an option of geoparquet"),
        (["--to", "csv", "--split", "5"], "split is an option of geojson"),
        (["--to", "geojson", "--split", "0"], "split 0: give a whole number from 1"),
        (["--to", "labels", "--mpp", "-1"], "mpp -1: give the side of a pixel in µm"),
        (["--to", "labels", "--mpp", "nan"], "mpp nan"),
        (["--to", "labels", "--mpp", "0.0005"], "mpp 0.0005: the slide has 0.25 x 0.25 µm; give 0"),
        (["--to", "labels", "--mpp", "90000"], "one label pixel would be larger than sample"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    result, tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    Path("file.csv").touch()
    with pytest.raises(SystemExit) as end:
        main(["export", str(result), *arguments])
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("geoparquet", "nuclei.parquet"),
        ("geojson", "nuclei.geojson.gz"),
        ("geojson", "tissue.geojson"),
        ("csv", "regions.csv"),
        ("geoparquet", "linked.parquet"),
    ],
)
def test_a_result_is_not_overwritten_by_its_own_export(result, tmp_path, to, name):
    (result / "linked.parquet").symlink_to("nuclei.parquet")
    before = {path: path.read_bytes() for path in result.iterdir() if path.is_file()}
    with pytest.raises(ExportError, match="the name of a file of the result"):
        export_result(result, to, result / name)
    with pytest.raises(ExportError, match="the name of a file of the result"):
        export_result(result, to, tmp_path / "nowhere" / ".." / result.name / name)
    assert {path: path.read_bytes() for path in result.iterdir() if path.is_file()} == before
    assert all(path.is_file() for path in export_result(result, "geoparquet", result))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", None, "no finished result"),
        ("run.json", "{}", "not the record of a run"),
        ("nuclei.parquet", None, "nuclei.parquet is missing"),
        ("nuclei.parquet", "text", "nuclei.parquet cannot be read"),
        ("columns.json", None, "essential"),
        ("columns.json", "[3]", "essential"),
    ],
)
def test_a_folder_that_is_no_finished_result(result, name, content, words):
    (result / name).unlink()
    if content is not None:
        (result / name).write_text(content)
    with pytest.raises(EngineError, match=words):
        export_result(result, "geojson", measurements="essential")
    assert not list(result.glob("exports/*"))


@pytest.mark.parametrize(
    ("changed", "lacks"),
    [
        ({"slide": {"name": "a"}}, "slide.fingerprint"),
        ({"slide": []}, "slide"),
        ({"slide.bounds.width": "4000"}, "slide.bounds.width"),
        ({"slide.mpp": None}, "slide.mpp"),
        ({"slide.mpp.y": 0}, "slide.mpp.y"),
        ({"slide.mpp.x": -0.25}, "slide.mpp.x"),
        ({"slide.mpp.y": float("nan")}, "slide.mpp.y"),
        ({"settings": {}}, "settings.tissue"),
        ({"model": {"name": "m"}}, "model.classes"),
        ({"finished": None}, "finished"),
    ],
)
def test_a_record_that_does_not_tell_what_is_asked_of_it(result, changed, lacks):
    record = json.loads((result / "run.json").read_text("utf-8"))
    for name, value in changed.items():
        *inner, last = name.split(".")
        part = record
        for key in inner:
            part = part[key]
        part[last] = value
    (result / "run.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(ResultError, match=rf"run\.json .*\(it does not tell {lacks}\)"):
        export_result(result, "csv")


def test_corrections_that_cannot_be_read_are_not_passed_over(result):
    (result / "corrections.geojson.gz").write_bytes(b"spoilt")
    with pytest.raises(CorrectionsError, match=r"corrections\.geojson\.gz"):
        export_result(result, "geojson")


@pytest.mark.parametrize("to", ["anndata", "spatialdata"])
def test_a_missing_package_is_named_with_its_extra(result, monkeypatch, to):
    monkeypatch.setitem(sys.modules, to, None)
    with pytest.raises(ExportError, match=re.escape(install_command(to))):
        export_result(result, to)


def test_the_command_takes_the_formats_that_there_are(result, capsys):
    with pytest.raises(SystemExit) as end:
        main(["export", str(result), "--to", "csv", "--to", "geojson", "--split", "10"])
    assert not end.value.code
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("file: ")]
    count = len(truth(result))
    assert len(lines) == 2 + -(-count // 10)
    assert all(Path(line.removeprefix("file: ")).is_file() for line in lines)


def test_the_help_names_every_format(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in FORMATS)


def test_the_help_of_every_option_says_who_takes_it(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in HELP:
        assert f"{takers(option)}: " in help_of(option)
        assert takers(option)
        assert f"--{option} " in shown


def test_help_docstring_and_page_say_the_same_of_formats():
    documented = " ".join(export_result.__doc__.split())
    assert all(f"{option} {help_of(option)}" in documented for option in HELP)
    page = Path(__file__).parents[1] / "docs" / "exports.md"
    assert markdown() in page.read_text(encoding="utf-8")


def test_every_format_has_a_module_and_a_suffix_of_its_own():
    assert len({kind.suffixes[0] for kind in FORMATS.values()}) == len(FORMATS)
    for kind in FORMATS.values():
        assert callable(kind.write)


# --- GeoParquet ------------------------------------------------------------------------------


@pytest.mark.parametrize("um", [False, True])
def test_geopandas_reads_what_is_in_the_result(any_result, um):
    with_slide(any_result, mpp={"x": 0.25, "y": 0.5})
    (path,) = export_result(any_result, "geoparquet", um=um)
    frame, expected = geopandas.read_parquet(path), truth(any_result)
    scale = np.array([0.25, 0.5]) if um else np.ones(2)
    shapes = shapely.transform(polygons(any_result), lambda xy: xy * scale)
    assert frame.crs is None
    assert shapely.equals_identical(frame.geometry.to_numpy(), shapes).all()
    assert frame["id"].tolist() == expected["id"].to_pylist()
    assert [*frame.columns] == [name for name in expected.column_names if name != "bbox"]
    assert set(frame["slide"]) <= {any_result.name}
    for name in expected.column_names:
        if pa.types.is_float32(expected.schema.field(name).type):
            same(frame[name], expected[name])
    for k, axis in enumerate("xy"):
        np.testing.assert_allclose(frame[axis], expected[axis].to_numpy() * scale[k])
    classes = [None if pd.isna(name) else name for name in frame["class"]]
    assert classes == expected["class"].to_pylist()


def test_a_part_of_the_slide_is_read_by_its_box(result):
    (path,) = export_result(result, "geoparquet")
    shapes = polygons(result)
    left, top, right, bottom = shapely.total_bounds(shapes)
    box = (left, top, (left + right) / 2, (top + bottom) / 2)
    found = geopandas.read_parquet(path, bbox=box)
    bounds = shapely.bounds(shapes)
    expected = (bounds[:, :2] <= box[2:]).all(axis=1) & (bounds[:, 2:] >= box[:2]).all(axis=1)
    assert 0 < len(found) == expected.sum() < len(shapes)


def test_results_of_before_boxes_and_slides_get_both(tmp_path):
    folder = case(tmp_path, "values missing")
    (now,) = export_result(folder, "geoparquet", tmp_path / "now.parquet")
    table = pq.read_table(folder / "nuclei.parquet")
    pq.write_table(table.drop_columns(["bbox", "slide"]), folder / "nuclei.parquet")
    (before,) = export_result(folder, "geoparquet", tmp_path / "before.parquet")
    found, expected = pq.read_table(before), pq.read_table(now)
    assert found.select(expected.column_names).equals(expected)


def test_duckdb_reads_it_and_averages_over_what_is_defined(tmp_path):
    (path,) = export_result(case(tmp_path, "values missing"), "geoparquet")
    query = (
        'SELECT count(*), avg("Area µm^2"), min(bbox.xmin), max(bbox.ymax), count(geometry) '
        f"FROM '{path}'"
    )
    assert duckdb.sql(query).fetchall() == [(3, pytest.approx(6.25), 6.0, 4003.0, 3)]


def test_duckdb_numbers_classes_that_differ_by_case_alone(tmp_path):
    """As docs/exports.md says: nothing is lost, but a name is another one."""
    folder = write_result(
        tmp_path / "slide", [(9, 9), (50, 50)], classes=("Tumor", "tumor"), labels=[0, 1]
    )
    (path,) = export_result(folder, "geoparquet")
    assert {"probability: Tumor", "probability: tumor_1"} <= {*duckdb.sql(f"FROM '{path}'").columns}


def test_the_metadata_are_those_of_geoparquet_1_1(result):
    (path,) = export_result(result, "geoparquet")
    metadata = pq.read_schema(path).metadata
    sides = ("xmin", "ymin", "xmax", "ymax")
    assert json.loads(metadata[b"geo"]) == {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": ["Polygon"],
                "crs": None,
                "edges": "planar",
                "bbox": shapely.total_bounds(polygons(result)).tolist(),
                "covering": {"bbox": {side: ["bbox", side] for side in sides}},
            }
        },
    }
    field = pq.read_schema(path).field("bbox")
    assert [inner.name for inner in field.type] == [*sides]
    boxes = pq.read_table(path)["bbox"].combine_chunks().flatten()
    np.testing.assert_array_equal(np.column_stack(boxes), shapely.bounds(polygons(result)))


# --- CSV -------------------------------------------------------------------------------------


def shown(text: str | None) -> str | None:
    """As it is in a table for Excel."""
    return f"'{text}" if text and text[0] in "=+-@" else text


def test_excel_is_given_no_formulas(tmp_path):
    classes = ("=1+1", "+ve", "-ve", "@SUM(A1)", "A=B", "'=1")
    folder = write_result(
        tmp_path / "slide",
        [(100, 100 * k) for k in range(1, 7)],
        classes=classes,
        labels=range(6),
        measurements={"Offset": [-1.5, *range(5)]},
    )
    path, _ = export_result(folder, "csv")
    frame = pd.read_csv(path)
    assert frame["class"].tolist() == ["'=1+1", "'+ve", "'-ve", "'@SUM(A1)", "A=B", "'=1"]
    assert frame["Offset"][0] == -1.5
    packed, _ = export_result(folder, "csv", tmp_path / "x.csv.gz")
    assert pd.read_csv(packed)["class"].tolist() == [*classes]


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_pandas_reads_every_value(any_result, tmp_path, name):
    with_slide(any_result, mpp={"x": 0.25, "y": 0.5})
    path, dictionary = export_result(any_result, "csv", tmp_path / name)
    frame, expected = pd.read_csv(path, keep_default_na=False, na_values=[""]), truth(any_result)
    assert frame["id"].tolist() == expected["id"].to_pylist()
    places = [f"Centroid {axis} {unit}" for unit in ("px", "µm") for axis in "XY"]
    left_out = {"geometry", "bbox", "x", "y", "slide"}
    names = ["id", "class", "score", *places]
    names += [n for n in expected.column_names if n not in (*names, *left_out)]
    assert [*frame.columns] == names
    for column in set(names) - {*places}:
        if pa.types.is_float32(expected.schema.field(column).type):
            same(frame[column], expected[column])
        else:
            found = [None if pd.isna(text) else text for text in frame[column]]
            said = expected[column].to_pylist()
            assert found == (said if name.endswith(".gz") else [shown(text) for text in said])
    centres = shapely.get_coordinates(shapely.centroid(polygons(any_result)))
    found = frame[places].to_numpy(np.float64)
    np.testing.assert_allclose(found, np.hstack([centres, centres * [0.25, 0.5]]), atol=6e-4)
    with dictionary.open(encoding="utf-8-sig", newline="") as stream:
        rows = [*csv.DictReader(stream)]
    assert [row["name"] for row in rows] == names


def test_the_dictionary_says_what_columns_mean(result):
    _, dictionary = export_result(result, "csv")
    rows = pd.read_csv(dictionary, keep_default_na=False).set_index("name")
    assert (rows["formula"] != "").all()
    assert (rows["source"] != "").all()
    assert rows.loc["Area µm^2", "unit"] == "µm^2"
    assert rows.loc["Centroid X µm", "unit"] == "µm"


def test_excel_is_told_of_utf8_and_others_are_not_disturbed(result, tmp_path):
    path, dictionary = export_result(result, "csv", tmp_path / "a.csv")
    for file in (path, dictionary):
        assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    packed, _ = export_result(result, "csv", tmp_path / "b.csv.gz")
    assert gzip.decompress(packed.read_bytes()) == path.read_bytes()[3:]
    for file in (path, packed):
        assert pa.csv.read_csv(file).column_names[0] == "id"
        assert duckdb.sql(f"SELECT id FROM '{file}'").fetchall() == [
            (identity,) for identity in truth(result)["id"].to_pylist()
        ]


def test_rows_are_written_a_row_group_at_a_time(result, monkeypatch):
    """Memory must not grow with the slide."""
    written = []
    rows = csv_table._rows
    monkeypatch.setattr(csv_table, "_rows", lambda run, group, schema: (
        written.append(len(group)) or rows(run, group, schema)
    ))  # fmt: skip
    export_result(result, "csv")
    table = pq.ParquetFile(result / "nuclei.parquet").metadata
    assert written == [table.row_group(k).num_rows for k in range(table.num_row_groups)]


# --- GeoJSON ---------------------------------------------------------------------------------


def test_with_the_essential_measurements_it_is_the_file_of_the_run(result):
    """Corrected, named, coloured, with notes: nothing is lost on the way over the table."""
    (path,) = export_result(result, "geojson", measurements="essential")
    assert path.read_bytes() == (result / "nuclei.geojson.gz").read_bytes()
    first, *_, last = read_objects(path)
    assert (first.name, first.metadata["Note"], first.classification.colour) == (
        "odd one", "ask again", (1, 2, 3),
    )  # fmt: skip
    assert last.class_name == "Drawn; new"


@pytest.mark.parametrize("suffix", [".geojson", ".geojson.gz", ".zip", ".json"])
@pytest.mark.parametrize("which", ["all", "none"])
def test_qupath_gets_the_measurements_that_are_asked_for(any_result, tmp_path, which, suffix):
    (path,) = export_result(any_result, "geojson", tmp_path / f"x{suffix}", measurements=which)
    expected = truth(any_result)
    objects = read_objects(path, strict=True)
    assert [item.id for item in objects] == expected["id"].to_pylist()
    names = [field.name for field in expected.schema if pa.types.is_float32(field.type)]
    names = [n for n in names if which == "all" and not n.startswith("probability: ")]
    for item, row in zip(objects, expected.to_pylist(), strict=True):
        values = {"Detection score": row["score"]} | {n: row[n] for n in names if n != "score"}
        known = {n: np.float32(v) for n, v in values.items() if v == v}
        assert {n: np.float32(v) for n, v in item.measurements.items()} == known
    # Outlines by hand are not all on the 0.01 px grid.
    assert validate(path).severity() < Severity.LOST


@pytest.mark.parametrize("split", [1, 7, 10_000])
@pytest.mark.parametrize("suffix", [".geojson.gz", ".json", ".json.gz", ".zip"])
def test_files_of_a_size_that_qupath_likes(result, tmp_path, split, suffix):
    whole = read_objects(export_result(result, "geojson", tmp_path / "whole.geojson")[0])[:20]
    files = export_result(result, "geojson", tmp_path / f"x{suffix}", split=split)
    assert files[0].name == f"x_001{suffix}"
    sizes = [len(read_objects(file)) for file in files]
    assert sum(sizes) == len(truth(result))
    assert set(sizes[:-1]) <= {split}
    assert 0 < sizes[-1] <= split
    parts = [item for file in files[:20] for item in read_objects(file)][:20]
    assert parts == whole


def test_fewer_files_leave_none_of_the_earlier_ones(result, tmp_path):
    many = export_result(result, "geojson", tmp_path / "x.geojson", split=10)
    others = [tmp_path / name for name in ("x_notes.geojson", "x.geojson", "y_003.geojson")]
    for other in others:
        other.touch()
    few = export_result(result, "geojson", tmp_path / "x.geojson", split=1000)
    assert 1 == len(few) < len(many)
    assert not any(file.exists() for file in many[1:])
    assert all(other.exists() for other in others)


def test_nothing_in_one_file_of_many(tmp_path):
    (path,) = export_result(case(tmp_path, "nothing found"), "geojson", split=5)
    assert read_objects(path) == []


# --- annotation store ------------------------------------------------------------------------


def test_an_annotation_store_comes_back_as_it_went(any_result):
    (path,) = export_result(any_result, "annotationstore")
    expected, shapes = truth(any_result), polygons(any_result)
    found = list(read_annotation_store(path))
    assert [item.id for item in found] == expected["id"].to_pylist()
    assert shapely.equals_identical([item.geometry for item in found], shapes).all()
    names = [f.name for f in expected.schema if pa.types.is_float32(f.type) and f.name != "score"]
    for item, row in zip(found, expected.to_pylist(), strict=True):
        known = {name: np.float32(row[name]) for name in names if row[name] == row[name]}
        measured = {n: np.float32(v) for n, v in item.measurements.items()}
        measured.pop("Detection score", None)
        assert measured == known
        assert (item.class_name is None) == (row["class"] is None)


def test_a_store_cannot_hold_two_nuclei_of_one_id(tmp_path):
    folder = case(tmp_path, "values missing")
    table = truth(folder)
    ids = pa.array([table["id"][0].as_py()] * len(table))
    pq.write_table(table.set_column(0, table.schema.field("id"), ids), folder / "nuclei.parquet")
    with pytest.raises(OutputError, match=r"slide\.db: UNIQUE constraint"):
        export_result(folder, "annotationstore")


def test_tiatoolbox_counts_from_openslides_origin(tmp_path, monkeypatch):
    """It shows all of a slide, of which QuPath shows the bounds."""
    storage = pytest.importorskip("tiatoolbox.annotation.storage", reason="extra `tiatoolbox`")
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        # It asks for them only to learn how SQLite was compiled.
        compiled = staticmethod(lambda: ["ENABLE_RTREE"])
        monkeypatch.setattr(storage.SQLiteStore, "compile_options", compiled)
    folder = case(tmp_path, "values missing")
    with_slide(folder, bounds={"x": 500, "y": 70, "width": 4000, "height": 4000})
    (path,) = export_result(folder, "annotationstore")
    store = storage.SQLiteStore(path)
    for identity, shape in zip(truth(folder)["id"].to_pylist(), polygons(folder), strict=True):
        moved = shapely.transform(shape, lambda xy: xy + np.array([500, 70]))
        assert shapely.equals_identical(store[identity].geometry, moved)
    identity = truth(folder)["id"][0].as_py()
    assert store[identity].properties["Area µm^2"] == 12.5
    assert set(store.query((507, 87, 512, 92))) == {identity}
    store.close()


def test_without_tiatoolbox_the_store_is_written_all_the_same(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiatoolbox", None)
    (path,) = export_result(result, "annotationstore")
    with sqlite3.connect(path) as store:
        (count,) = store.execute("SELECT count(*) FROM annotations").fetchone()
    store.close()
    assert count == len(truth(result))
