"""One file in, one file out: kinds, places, ids, dialects, and what a user types."""

from __future__ import annotations

import gzip
import json
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from tests.support.exports import shared_export
from tests.support.same_objects import assert_same_objects
from tests.support.slides import noise, write_leica
from wsi_engine.cli import main
from wsi_engine.convert.convert import convert
from wsi_engine.convert.kinds import DIALECTS, kind_of_source, kind_of_target
from wsi_engine.convert.old_dialect import packed_colour
from wsi_engine.errors import ConversionError
from wsi_engine.nuclei.measure.shape import QUPATH_NAMES
from wsi_engine.qupath.reader import read_objects

SQUARE = [[2, 3], [2, 8], [7, 8], [7, 3]]
"""The contour through the pixel centres of six by six pixels."""


def cell(contour=SQUARE, number=1):
    return {"contour": contour, "centroid": [4.5, 5.5], "type_prob": 0.5, "type": number}


def hovernet(path, *cells, mag=40):
    nuclei = {str(k): item for k, item in enumerate(cells, 1)}
    path.write_text(json.dumps({"mag": mag, "nuc": nuclei}))
    return path


def cellvit(path, *cells):
    path.write_text(json.dumps({"type_map": {"1": "Neoplastic"}, "cells": list(cells)}))
    return path


def run_cli(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["convert", *(str(argument) for argument in arguments)])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return int(end.value.code or 0), printed.out, printed.err


# Kinds


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"type": "FeatureCollection", "features": []}', "qupath"),
        (b'\xef\xbb\xbf{"features": [], "type": "FeatureCollection"}', "qupath"),
        (b"[]", "qupath"),
        (b'[{"type": "Feature"}]', "qupath"),
        (b'{"type": "Polygon", "coordinates": []}', "qupath"),
        (b"PK\x03\x04", "qupath"),
        (b'{"wsi_metadata": {"nuc": 1}, "type_map": {}, "cells": []}', "cellvit"),
        (b'{"cells": []}', "cellvit"),
        (b'{"mag": 40, "nuc": {}}', "hovernet"),
        (b'{"nuc": {}}', "hovernet"),
        (b'{"5": {"bbox": [[1, 2], [3, 4]], "centroid": [1, 2], "contour": []}}', "hovernet"),
        (b"PAR1", "geoparquet"),
        (b"SQLite format 3\0", "tiatoolbox"),
        (b"\x93NUMPY", "labels"),
        (b"\x89PNG\r\n", "labels"),
        (b"II*\0", "labels"),
        (b"MM\0+", "labels"),
    ],
)
def test_the_kind_of_a_file_is_told_by_its_content(tmp_path, content, kind):
    (tmp_path / "x").write_bytes(content)
    assert kind_of_source(tmp_path / "x") == kind
    if content[:1] in b"{[":
        (tmp_path / "y").write_bytes(gzip.compress(content))
        assert kind_of_source(tmp_path / "y") == kind


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.txt", "say with --from"),
        ("cells.json.snappy", "unpack it"),
        ("0.dat", "save it as JSON"),
        ("absent", "no such file"),
    ],
)
def test_a_kind_that_cannot_be_told(tmp_path, name, words):
    if name != "absent":
        (tmp_path / name).write_bytes(b"\x80\x04 what")
    with pytest.raises(ConversionError, match=words):
        kind_of_source(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.geojson", "qupath"),
        ("a.GeoJSON.gz", "qupath"),
        ("a.json", "qupath"),
        ("a.zip", "qupath"),
        ("a.parquet", "geoparquet"),
        ("a.db", "tiatoolbox"),
    ],
)
def test_what_to_write_is_told_by_the_name(name, kind):
    assert kind_of_target(Path(name)) == kind
    for other in ("a.gz", "a.csv", "a", "a.png"):
        with pytest.raises(ConversionError, match="extension"):
            kind_of_target(Path(other))


# Between kinds


@pytest.mark.parametrize(
    "way", [["a.parquet"], ["a.db"], ["a.zip"], ["a.parquet", "b.db", "c.json"]]
)
def test_the_nuclei_of_a_run_come_back_by_every_way(tmp_path, finished_run, way):
    source = finished_run / "nuclei.geojson.gz"
    before = read_objects(source)
    assert len(before) > 20
    for name in [*way, "back.geojson.gz"]:
        assert convert(source, tmp_path / name).count == len(before)
        source = tmp_path / name
    assert_same_objects(before, read_objects(source))


@pytest.mark.parametrize(
    "name",
    [
        "01_annotations_all_shapes.geojson",
        "08_cells_nucleus_geometry.geojson",
        "12_hierarchy_nested_childObjects.geojson",
        "13_empty_rois.geojson",
        "14_unicode_names.geojson",
    ],
)
def test_what_qupath_wrote_stays_as_it_is(tmp_path, name):
    done = convert(shared_export(name), tmp_path / "x.geojson")
    assert done.left_out == 0
    before = read_objects(shared_export(name))
    assert_same_objects(before, read_objects(tmp_path / "x.geojson"))


@pytest.mark.parametrize(
    ("write", "name", "bounds"),
    [(hovernet, "Type 1", (2, 3, 8, 9)), (cellvit, "Neoplastic", (2, 3, 8, 9))],
)
def test_cells_become_detections_that_qupath_takes(tmp_path, write, name, bounds):
    source = write(tmp_path / "x.json", cell(), cell([[20, 20], [20, 26], [29, 26]]))
    assert convert(source, tmp_path / "x.geojson").count == 2
    features = json.loads((tmp_path / "x.geojson").read_bytes())["features"]
    for feature in features:
        assert feature["properties"]["objectType"] == "detection"
        assert feature["properties"]["classification"]["name"] == name
        assert len(feature["properties"]["classification"]["color"]) == 3
        assert uuid.UUID(feature["id"]).version == 5
        assert shapely.from_geojson(json.dumps(feature["geometry"])).is_valid
    assert shapely.from_geojson(json.dumps(features[0]["geometry"])).bounds == bounds


def test_as_is(tmp_path):
    convert(hovernet(tmp_path / "x.json", cell()), tmp_path / "x.geojson", as_is=True)
    assert read_objects(tmp_path / "x.geojson")[0].geometry.bounds == (2, 3, 7, 8)


# Places


@pytest.mark.parametrize(
    ("scale", "origin", "bounds"),
    [
        (None, (0, 0), (2, 3, 8, 9)),
        (2.0, (0, 0), (4, 6, 16, 18)),
        (0.25, (0, 0), (0.5, 0.75, 2, 2.25)),
        (None, (100, -3), (102, 0, 108, 6)),
        (0.5, (10, 20), (11, 21.5, 14, 24.5)),
    ],
)
def test_pixels_are_scaled_and_moved_in_this_order(tmp_path, scale, origin, bounds):
    source = hovernet(tmp_path / "x.json", cell())
    convert(source, tmp_path / "x.geojson", scale=scale, origin=origin)
    assert read_objects(tmp_path / "x.geojson")[0].geometry.bounds == bounds


def test_the_origin_of_a_cropped_slide_is_taken_off(tmp_path):
    write_leica(tmp_path / "slide.scn", noise(128, 128), (256, 64))
    source = hovernet(tmp_path / "x.json", cell([[300, 100], [300, 110], [310, 110]]))
    convert(source, tmp_path / "x.geojson", shift_bounds=tmp_path / "slide.scn")
    assert read_objects(tmp_path / "x.geojson")[0].geometry.bounds[:2] == (44, 36)


def test_every_part_of_an_object_moves(tmp_path):
    source = shared_export("08_cells_nucleus_geometry.geojson")
    convert(source, tmp_path / "x.geojson", origin=(1000, 500))
    for before, after in zip(
        read_objects(source), read_objects(tmp_path / "x.geojson"), strict=True
    ):
        for was, now in ((before.roi, after.roi), (before.nucleus, after.nucleus)):
            assert (was is None) == (now is None)
            if was is not None:
                way = np.array(now.geometry.bounds) - np.array(was.geometry.bounds)
                np.testing.assert_allclose(way, [1000, 500, 1000, 500], atol=0.011)


def test_the_magnification_of_hovernet_is_doubted_unless_a_scale_is_given(tmp_path, caplog):
    source = hovernet(tmp_path / "x.json", cell(), mag=20)
    convert(source, tmp_path / "x.geojson")
    assert "made at 20x" in caplog.text
    caplog.clear()
    convert(source, tmp_path / "x.geojson", scale=2)
    assert caplog.text == ""


def test_shape_is_measured_where_the_pixel_size_is_given(tmp_path):
    source = hovernet(tmp_path / "x.json", cell())
    for name in ("x.geojson", "x.parquet"):
        convert(source, tmp_path / name, mpp=0.5)
    (item,) = read_objects(tmp_path / "x.geojson")
    assert list(item.measurements) == ["Type probability", *QUPATH_NAMES]
    assert item.measurements["Area µm^2"] == pytest.approx(35.5 * 0.25)
    assert pq.read_table(tmp_path / "x.parquet")["Area µm^2"].to_pylist() == [35.5 * 0.25]


# Ids


def test_ids_are_the_same_every_time_and_those_of_other_files_are_not(tmp_path):
    cells = [cell(), cell(), cell([[20, 20], [20, 26], [29, 26]])]
    source = hovernet(tmp_path / "x.json", *cells)
    ids = []
    for name in ("a.geojson", "b.geojson"):
        convert(source, tmp_path / name)
        ids.append([item.id for item in read_objects(tmp_path / name)])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3  # though two are alike
    convert(hovernet(tmp_path / "y.json", *cells, cell()), tmp_path / "c.geojson")
    assert not set(ids[0]) & {item.id for item in read_objects(tmp_path / "c.geojson")}


def test_ids_that_are_there_are_kept(tmp_path, finished_run):
    convert(finished_run / "nuclei.parquet", tmp_path / "x.geojson")
    found = [item.id for item in read_objects(tmp_path / "x.geojson")]
    assert found == [item.id for item in read_objects(finished_run / "nuclei.geojson.gz")]


# Shapes


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        (shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)]), True),  # crosses itself
        (shapely.Polygon([(0, 0), (5, 0), (9, 0)]), False),
        (shapely.box(0, 0, 0.001, 0.001), False),
        (shapely.MultiPolygon([shapely.box(0, 0, 4, 4), shapely.box(2, 2, 6, 6)]), True),
        (shapely.Point(1, 2), True),
        (shapely.box(0, 0, 1 / 3, 2 / 3), True),
    ],
)
def test_shapes_are_valid_and_rounded_or_left_out(tmp_path, caplog, shape, kept):
    shapes = [shape, shapely.box(90, 90, 99, 99)]
    pq.write_table(pa.table({"geometry": shapely.to_wkb(shapes)}), tmp_path / "x.parquet")
    done = convert(tmp_path / "x.parquet", tmp_path / "y.parquet")
    assert (done.count, done.left_out) == (1 + int(kept), int(not kept))
    assert ("left out" in caplog.text) == (not kept)
    for raw in pq.read_table(tmp_path / "y.parquet")["geometry"].to_pylist():
        written = shapely.from_wkb(raw)
        assert written.is_valid
        points = shapely.get_coordinates(written)
        np.testing.assert_array_equal(points, np.round(points, 2))


@pytest.mark.parametrize("target", ["out.geojson", "out.parquet"])
def test_what_cannot_be_read_is_said_once(tmp_path, caplog, target):
    """A source that is read twice, for its columns and for its rows, is doubted once."""
    source = detections(tmp_path / "in.geojson", shapely.box(0, 0, 9, 9))
    document = json.loads(source.read_text())
    features = document["features"] if isinstance(document, dict) else document
    features.append({"type": "Feature", "geometry": {"type": "Blob"}, "properties": {}})
    source.write_text(json.dumps(document))
    assert convert(source, tmp_path / target).count == 1
    assert len([record for record in caplog.records if "Blob" in record.getMessage()]) == 1


# The dialect of QuPath 0.2 and 0.3


def test_old_features_say_the_type_twice_and_have_no_news(tmp_path):
    source = shared_export("01_annotations_all_shapes.geojson")
    convert(source, tmp_path / "x.geojson", dialect="0.3")
    for feature in json.loads((tmp_path / "x.geojson").read_bytes())["features"]:
        assert feature["id"] == "PathAnnotationObject"
        assert feature["properties"]["object_type"] == "annotation"
        assert "isLocked" in feature["properties"]
        assert isinstance(feature["properties"]["measurements"], list)
        assert not {"objectType", "metadata"} & feature["properties"].keys()
        assert "isEllipse" not in feature["geometry"]


@pytest.mark.parametrize(
    ("colour", "packed"),
    [
        ((200, 0, 0), -3670016),
        ((0, 0, 0), -16777216),
        ((255, 255, 255), -1),
        ((1, 2, 3, 4), 67174915),
    ],
)
def test_colours_are_packed_as_java_packs_them(colour, packed):
    assert packed_colour(colour) == packed


def test_old_derived_classes_hold_their_parent(tmp_path):
    source = shared_export("05_annotations_classified_and_derived.geojson")
    convert(source, tmp_path / "x.geojson", dialect="0.2")
    found = [
        feature["properties"].get("classification")
        for feature in json.loads((tmp_path / "x.geojson").read_bytes())["features"]
    ]
    tumor = {"name": "Tumor", "colorRGB": -3670016}
    assert tumor in found
    assert any(c and c.get("parentClass") == tumor and c["name"] == "Positive" for c in found)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["old_v0.2.3_mixed_feature_collection.geojson"])
def test_every_dialect_reads_the_same(tmp_path, name, dialect):
    convert(shared_export(name), tmp_path / "x.geojson", dialect=dialect)
    before, after = read_objects(shared_export(name)), read_objects(tmp_path / "x.geojson")
    for was, now in zip(before, after, strict=True):
        assert (was.object_type, was.class_name, was.name) == (
            now.object_type,
            now.class_name,
            now.name,
        )
        assert (was.is_locked, was.colour, was.classification) == (
            now.is_locked,
            now.colour,
            now.classification,
        )
        assert {k: v for k, v in was.measurements.items() if v == v} == now.measurements


# What a user types, and what goes wrong


def test_the_command_says_what_it_did(capsys, tmp_path):
    source = cellvit(tmp_path / "cells.json", cell(), cell(number=7))
    code, out, _ = run_cli(capsys, source, tmp_path / "x.geojson.gz", "--origin", "10,20.5")
    assert code == 0
    assert "cellvit" in out
    found = read_objects(tmp_path / "x.geojson.gz")
    assert found[0].geometry.bounds == (12, 23.5, 18, 29.5)
    assert [item.class_name for item in found] == ["Neoplastic", "Type 7"]


def test_the_kind_can_be_forced_and_types_be_given(capsys, tmp_path):
    (tmp_path / "types.json").write_text('{"1": ["neopla", [255, 0, 0]]}')
    source = tmp_path / "odd.json"
    source.write_text(json.dumps({"made": "by hand", "features": 3, "nuc": {"1": cell()}}))
    assert kind_of_source(source) == "qupath"
    options = ["--from", "hovernet", "--types", tmp_path / "types.json", "--scale", "1"]
    code, *_ = run_cli(capsys, source, tmp_path / "x.geojson", *options)
    assert code == 0
    (item,) = read_objects(tmp_path / "x.geojson")
    assert (item.class_name, item.classification.colour) == ("neopla", (255, 0, 0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.json", "x.geojson"], ["absent.json", "no such file"]),
        (["x.json", "x.csv"], ["x.csv", "extension"]),
        (["x.json", "x.geojson", "--dialect", "0.1"], ["dialect 0.1", "0.7"]),
        (["x.json", "x.geojson", "--from", "magic"], ["kind magic", "cellvit"]),
        (["x.json", "x.geojson", "--scale", "0"], ["scale 0"]),
        (["x.json", "x.geojson", "--scale", "nan"], ["scale nan"]),
        (["x.json", "x.geojson", "--mpp", "-1"], ["mpp -1"]),
        (["x.json", "x.geojson", "--origin", "5"], ["--origin 5", "two numbers"]),
        (["x.json", "x.geojson", "--origin", "a,b"], ["--origin a,b"]),
        (["x.json", "x.geojson", "--origin", "nan,0"], ["origin"]),
        (["x.json", "x.geojson", "--types", "absent"], ["absent", "no such file"]),
        (["x.json", "x.geojson", "--shift-bounds", "absent.svs"], ["absent.svs", "no such file"]),
        (["x.json", "deep/x.geojson"], ["x.geojson", "no such folder"]),
        (["x.json", "x.geojson", "--from", "tiatoolbox"], ["x.json", "annotation store"]),
        (["x.json", "x.geojson", "--from", "geoparquet"], ["x.json", "GeoParquet"]),
        (["x.json", "x.geojson", "--from", "labels"], ["x.json", "cannot be read"]),
        (["x.json", "x.geojson", "--from", "cellvit"], ["x.json", "no file of CellViT"]),
        (["broken.json", "x.geojson"], ["broken.json", "nucleus 2"]),
        (["broken.json", "x.parquet"], ["broken.json", "nucleus 2"]),
        (["broken.json", "x.db"], ["broken.json", "nucleus 2"]),
        (["folder", "x.geojson"], ["folder", "cannot be read"]),
    ],
)
def test_one_sentence_for_what_is_wrong_and_nothing_half_written(
    capsys, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    hovernet(tmp_path / "x.json", cell())
    hovernet(tmp_path / "broken.json", cell(), {"contour": "?"})
    (tmp_path / "folder").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    code, _, err = run_cli(capsys, *arguments)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def detections(path, *shapes):
    features = [
        {
            "type": "Feature",
            "id": str(uuid.UUID(int=k)),
            "geometry": shapely.geometry.mapping(shape),
            "properties": {"objectType": "detection", "measurements": {"M": 1.0}},
        }
        for k, shape in enumerate(shapes, 1)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize("target", ["out.geojson", "out.parquet", "out.db"])
def test_parts_that_do_not_touch_are_objects_of_their_own(tmp_path, caplog, target):
    squares = [shapely.box(x, 0, x + side, side) for x, side in ((0, 10), (50, 20), (90, 5))]
    source = detections(tmp_path / "in.geojson", shapely.MultiPolygon(squares), squares[0])
    done = convert(source, tmp_path / target, origin=(5, 5))
    assert (done.count, done.left_out) == (4, 0)
    assert "1 objects have several parts that do not touch" in caplog.text
    convert(tmp_path / target, tmp_path / "back.geojson")
    found = read_objects(tmp_path / "back.geojson")
    assert sorted(item.geometry.area for item in found) == [25, 100, 100, 400]
    [largest] = [item for item in found if item.geometry.area == 400]
    assert largest.id == str(uuid.UUID(int=1))
    assert len({item.id for item in found}) == 4
    measured = [item.measurements.get("M") for item in found if item.id == str(uuid.UUID(int=2))]
    assert measured == [1.0]
    assert sum(bool(item.measurements) for item in found) == 1


def test_an_outline_that_crosses_itself_keeps_both_halves(tmp_path):
    bow_tie = {"contour": [[0, 0], [40, 40], [40, 0], [0, 40]], "centroid": [9, 9], "type": 1}
    source = hovernet(tmp_path / "x.json", bow_tie | {"type_prob": 0.5})
    convert(source, tmp_path / "out.geojson", as_is=True)
    [item] = read_objects(tmp_path / "out.geojson")
    assert item.geometry.area == pytest.approx(800)


def test_a_file_of_which_nothing_is_left_is_an_error(tmp_path):
    source = detections(tmp_path / "in.geojson", shapely.box(0, 0, 10, 10))
    with pytest.raises(ConversionError, match=r"in\.geojson: none of its 1 objects has an area"):
        convert(source, tmp_path / "out.geojson", scale=1e-6)
    assert not (tmp_path / "out.geojson").exists()


@pytest.mark.parametrize("target", ["out.geojson", "out.parquet"])
@pytest.mark.parametrize(
    ("geometry", "why"),
    [
        ({"type": "Polygon", "coordinates": [[0, 0], [9, 0], [9, 9]]}, "in place of"),
        ({"type": "GeometryCollection", "geometries": []}, "a GeometryCollection"),
    ],
)
def test_a_file_of_which_nothing_can_be_read_is_an_error(tmp_path, geometry, why, target):
    """A ring that is not nested; a collection, which QuPath does not have."""
    features = [{"type": "Feature", "geometry": geometry, "properties": {}}] * 2
    source = tmp_path / "in.geojson"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(ConversionError, match=rf"none of the 2 objects .*in\.geojson.*{why}"):
        convert(source, tmp_path / target)
    assert not (tmp_path / target).exists()


def test_an_empty_file_has_nothing_to_lose(tmp_path):
    source = tmp_path / "in.geojson"
    source.write_text('{"type": "FeatureCollection", "features": []}')
    assert convert(source, tmp_path / "out.geojson").count == 0


def test_utf_16_is_told_as_such(tmp_path):
    source = tmp_path / "in.geojson"
    source.write_bytes('{"type": "FeatureCollection", "features": []}'.encode("utf-16"))
    with pytest.raises(ConversionError, match=r"in\.geojson is UTF-16: save it as UTF-8"):
        convert(source, tmp_path / "out.geojson")


def test_a_failed_conversion_leaves_the_old_file(tmp_path):
    target = tmp_path / "x.geojson"
    target.write_text("old")
    with pytest.raises(ConversionError):
        convert(hovernet(tmp_path / "x.json", {"contour": "?"}), target)
    assert target.read_text() == "old"
    convert(hovernet(tmp_path / "x.json", cell()), target)
    assert len(read_objects(target)) == 1
