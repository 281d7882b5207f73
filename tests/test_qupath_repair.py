"""The nearest file that QuPath takes: nothing goes missing in silence, and the rest is fine."""

from __future__ import annotations

import copy
import gzip
import json
import math
import re
from pathlib import Path

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.exports import shared_export
from tests.support.json_values import json_values
from wsi_engine.errors import GeoJSONError, OutputError, SettingsError
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.repair import MAX_GENERATIONS, Repair, repair
from wsi_engine.qupath.rules.rule import NEWEST
from wsi_engine.qupath.validation import validate

ID = "9f0d26a1-0000-4000-8000-000000000001"
SINCE_04 = ("0.4", "0.5", "0.6", "0.7")
RING = [[0, 0], [8, 0], [8, 5.25], [0, 5], [0, 0]]
POLYGON = {"type": "Polygon", "coordinates": [RING]}
TUMOUR = {"name": "Tumor", "color": [200, 0, 0]}


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def an_object(geometry=POLYGON, /, *, outside=None, **stated):
    properties = {"objectType": "annotation"} | stated
    return {"type": "Feature", "id": ID, "geometry": geometry, "properties": properties} | (
        outside or {}
    )


def repaired(folder: Path, document, version: str = NEWEST) -> tuple[list[dict], Repair]:
    source, target = folder / "in.geojson", folder / "out.geojson"
    source.write_text(document if isinstance(document, str) else json.dumps(document))
    done = repair(source, target, version)
    report = validate(target)
    assert report.is_clean_in(version), report.findings
    assert report.objects == done.written
    return json.loads(target.read_text())["features"], done


def changes(done: Repair) -> list[str]:
    return [change.what for change in done.changes]


def test_what_is_fine_stays_as_it_is(tmp_path):
    features = [
        an_object(classification=TUMOUR, measurements={"a": 0.1}, name="µ", isLocked=True),
        an_object(objectType="cell", outside={"nucleusGeometry": POLYGON, "id": ID[:-1] + "2"}),
    ]
    written, done = repaired(tmp_path, features)
    assert written == features
    assert changes(done) == []


MENDED = {
    "rounded": (
        an_object(polygon([[0, 0], [8.126, 0], [8, 5], [0, 0]])),
        {"geometry": polygon([[0, 0], [8.13, 0], [8, 5], [0, 0]])},
        "rounded coordinates",
    ),
    "closed": (an_object(polygon(RING[:-1])), {"geometry": POLYGON}, "closed a ring"),
    "one part": (
        an_object({"type": "MultiPolygon", "coordinates": [[RING]]}),
        {"geometry": POLYGON},
        None,
    ),
    "third coordinate": (
        an_object(polygon([[*p, 1] for p in RING])),
        {"geometry": POLYGON},
        "left out a third coordinate",
    ),
    "text for numbers": (
        an_object(polygon([[str(x), str(y)] for x, y in RING])),
        {"geometry": POLYGON},
        "made numbers of coordinates that were text",
    ),
    "NaN position": (
        an_object(polygon([*RING[:2], [math.nan, 1], *RING[2:]])),
        {"geometry": POLYGON},
        "left out a position that is no pair of numbers",
    ),
    "far position": (
        an_object(polygon([*RING[:2], [1e30, 1], *RING[2:]])),
        {"geometry": POLYGON},
        "left out a position farther away than any slide reaches",
    ),
    "plane": (
        an_object(POLYGON | {"plane": {"z": 2, "t": -1, "name": "x"}}),
        {"geometry": POLYGON | {"plane": {"z": 2}}},
        "left out parts of a plane that QuPath does not take",
    ),
    "no ellipse": (
        an_object(POLYGON | {"isEllipse": True}),
        {"geometry": POLYGON},
        "took isEllipse from an outline that is none",
    ),
    "line of one": (
        an_object({"type": "LineString", "coordinates": [[1, 2]]}),
        {"geometry": {"type": "Point", "coordinates": [1, 2]}},
        "made a point of a line without length",
    ),
    "bare geometry": (POLYGON, {"geometry": POLYGON}, "made a feature of a geometry"),
    "misplaced type": (
        {"type": "Feature", "id": ID, "geometry": POLYGON, "objectType": "tile"},
        {"properties": {"objectType": "tile"}},
        "moved members to where QuPath looks for them",
    ),
    "misplaced plane": (
        an_object(plane={"z": 1}),
        {"geometry": {"plane": {"z": 1}} | POLYGON},
        "moved members to where QuPath looks for them",
    ),
    "type in capitals": (
        an_object(objectType="Detection"),
        {"properties": {"objectType": "detection"}},
        "stated the object type: detection",
    ),
    "type of QuPath 0.2": (
        {"type": "Feature", "id": "PathTileObject", "geometry": POLYGON},
        {"properties": {"objectType": "tile"}},
        "gave an object an id",
    ),
    "nucleus of a detection": (
        an_object(objectType="detection", outside={"nucleusGeometry": POLYGON}),
        {"properties": {"objectType": "cell"}, "nucleusGeometry": POLYGON},
        "made a cell of a detection that has a nucleus",
    ),
    "properties null": (
        an_object(outside={"properties": None}),
        {"properties": {"objectType": "annotation"}},
        "left out properties that are none",
    ),
    "name number": (
        an_object(name=7),
        {"properties": {"objectType": "annotation", "name": "7"}},
        "made text of a name",
    ),
    "colour hex": (
        an_object(color="#ff0080"),
        {"properties": {"objectType": "annotation", "color": [255, 0, 128]}},
        "made numbers of a colour that was text",
    ),
    "class without colour": (
        an_object(classification={"name": "Stroma"}),
        {"classification": {"name": "Stroma", "color": [150, 200, 150]}},
        "gave a class its colour",
    ),
    "class in fractions": (
        an_object(classification={"name": "a", "color": [1.0, 0.5, 0]}),
        {"classification": {"name": "a", "color": [255, 128, 0]}},
        "brought a colour into the range from 0 to 255",
    ),
    "class of QuPath 0.2": (
        an_object(
            classification={
                "parentClass": {"name": "Tumor", "colorRGB": -3670016},
                "name": "Positive",
                "colorRGB": -377282,
            }
        ),
        {"classification": {"names": ["Tumor", "Positive"], "color": [250, 62, 62]}},
        "unpacked a colour",
    ),
    "class of colons": (
        an_object(classification=TUMOUR | {"name": ": Tumor :  low\ngrade "}),
        {"classification": {"names": ["Tumor", "low grade"], "color": [200, 0, 0]}},
        "cleaned the name of a class",
    ),
    "class number": (
        an_object(classification=3),
        {"classification": {"name": "3", "color": None}},
        "gave a class its colour",
    ),
    "NaN": (
        an_object(measurements={"a": math.nan, "b": 1.5, "c": "Infinity"}),
        {"measurements": {"a": "NaN", "b": 1.5, "c": "Infinity"}},
        "wrote measurements that are NaN or infinite as text",
    ),
    "null": (
        an_object(measurements={"a": None, "b": 1.5}),
        {"measurements": {"b": 1.5}},
        "left out measurements that are no numbers",
    ),
    "measurement of text": (
        an_object(measurements={"a": "0.25"}),
        {"measurements": {"a": 0.25}},
        "made numbers of measurements that were text",
    ),
    "list": (
        an_object(measurements=[{"name": "a", "value": 2}, {"name": "b"}]),
        {"measurements": {"a": 2}},
        "wrote a list of measurements as an object",
    ),
    "ring": (
        an_object({"type": "LinearRing", "coordinates": RING}),
        {"geometry": POLYGON},
        "made a polygon of a ring",
    ),
    "ring that is not nested": (
        an_object({"type": "Polygon", "coordinates": RING}),
        {"geometry": POLYGON},
        "made a polygon of a ring that was not nested",
    ),
    "smallest square": (
        an_object(polygon([[0, 0], [0.02, 0], [0.02, 0.02], [0, 0.02], [0, 0]])),
        {"geometry": polygon([[0, 0], [0.02, 0], [0.02, 0.02], [0, 0.02], [0, 0]])},
        None,
    ),
    "packed colour": (
        an_object(colorRGB=-65536),
        {"properties": {"objectType": "annotation", "color": [255, 0, 0]}},
        "unpacked a colour",
    ),
    "colour of text": (
        an_object(color=["255", "0", [0]]),
        {"properties": {"objectType": "annotation", "color": [255, 0, 0]}},
        "made numbers of a colour that was text",
    ),
    "class colour packed as a list": (
        an_object(classification={"name": "a", "colorRGB": [1, 2, 3]}),
        {"classification": {"name": "a", "color": [1, 2, 3]}},
        None,
    ),
    "class of an empty part": (
        an_object(classification=TUMOUR | {"name": "Tumor: "}),
        {"classification": TUMOUR},
        "cleaned the name of a class",
    ),
    "id in capitals": (
        an_object(outside={"id": ID.upper()}),
        {"id": ID},
        "wrote a UUID as QuPath does",
    ),
    "id in the properties": (
        an_object(id=ID.replace("9", "8"), outside={"id": "0"}),
        {"id": ID.replace("9", "8"), "properties": {"objectType": "annotation"}},
        "took the id from the properties",
    ),
    "id in the properties alone": (
        {"type": "Feature", "geometry": POLYGON, "properties": {"id": ID, "objectType": "tile"}},
        {"id": ID, "properties": {"objectType": "tile"}},
        "took the id from the properties",
    ),
    "id that is there twice": (
        an_object(id=ID),
        {"id": ID, "properties": {"objectType": "annotation"}},
        None,
    ),
    "columns of a table": (
        an_object(
            **{
                "classification.name": "Tumor",
                "classification.color": [200, 0, 0],
                "classification.names": None,
                "measurements.Area µm^2": 5.5,
                "measurements.Detection score": None,
                "measurements.a.b": 1,
                "metadata.Case ID": "7",
            }
        ),
        {
            "properties": {
                "objectType": "annotation",
                "classification": TUMOUR,
                "measurements": {"Area µm^2": 5.5, "a.b": 1},
                "metadata": {"Case ID": "7"},
            }
        },
        "gathered the columns of a table into the objects that they were",
    ),
    "columns of text": (
        an_object(**{"classification.name": "Tumor", "classification.color": "[ 200, 0, 0 ]"}),
        {"classification": TUMOUR},
        "gathered the columns of a table into the objects that they were",
    ),
    "JSON in a text": (
        an_object(classification=json.dumps(TUMOUR), measurements='{"a": 1.5}'),
        {"classification": TUMOUR, "measurements": {"a": 1.5}},
        "read JSON that was written as text",
    ),
    "Python in a text": (
        an_object(classification=str(TUMOUR)),
        {"classification": TUMOUR},
        "read JSON that was written as text",
    ),
    "unknown number": (
        an_object(area=5.5),
        {"measurements": {"area": 5.5}},
        "made measurements of numbers that QuPath would pass over",
    ),
    "unknown text": (
        an_object(outside={"scanner": "x"}),
        {"metadata": {"scanner": "x"}},
        "made metadata of members that QuPath would pass over",
    ),
    "unknown object": (
        an_object(stain={"a": [1]}),
        {"metadata": {"stain": '{"a": [1]}'}},
        "made metadata of members that QuPath would pass over",
    ),
}


@pytest.mark.parametrize(("source", "expected", "said"), MENDED.values(), ids=MENDED)
def test_what_is_mended_and_said(tmp_path, source, expected, said):
    (feature,), done = repaired(tmp_path, [source])
    for key, value in expected.items():
        got = feature[key] if key in feature else feature["properties"][key]
        if key == "classification" and value["color"] is None:
            got = got | {"color": None}
        assert got == value
    assert said is None or said in changes(done)
    assert done.left_out == 0


def test_a_geometry_in_place_of_a_feature_is_kept(tmp_path):
    collection = {"type": "FeatureCollection", "features": [POLYGON]}
    (feature,), done = repaired(tmp_path, collection)
    assert feature["geometry"] == POLYGON
    assert "made a feature of a geometry" in changes(done)
    assert done.left_out == 0


def test_qupath_0_4_is_spared_what_is_no_number(tmp_path):
    source = an_object(measurements={"a": math.nan, "b": 1.5, "c": "Infinity"})
    (feature,), done = repaired(tmp_path, [source], "0.4")
    assert feature["properties"]["measurements"] == {"b": 1.5}
    assert "left out measurements that are NaN or infinite" in changes(done)


@pytest.mark.parametrize("version", ["0.2", "0.3", "1.0"])
def test_nothing_is_mended_for_a_qupath_of_another_dialect(tmp_path, version):
    source = tmp_path / "x.geojson"
    source.write_text("[]")
    with pytest.raises(SettingsError, match=f"for QuPath 0.4, 0.5, 0.6, 0.7, not {version}"):
        repair(source, tmp_path / "y.geojson", version)


def test_a_data_file_of_qupath_is_not_mended(tmp_path):
    source = tmp_path / "x.qpdata"
    source.write_bytes(b"\xac\xed\x00\x05w\x14")
    with pytest.raises(GeoJSONError, match=r"x\.qpdata is a data file of QuPath"):
        repair(source, tmp_path / "y.geojson")
    assert not (tmp_path / "y.geojson").exists()


def core_of_line(height):
    line = {"type": "LineString", "coordinates": [[0, 0], [2, height]]}
    return an_object(line, objectType="tmaCore")


@pytest.mark.parametrize("height", [0.2, 1, 400])
def test_a_core_is_the_ellipse_in_the_box_of_what_was_drawn(tmp_path, height):
    (feature,), done = repaired(tmp_path, [core_of_line(height)])
    assert feature["geometry"]["isEllipse"]
    assert shapely.from_geojson(json.dumps(feature["geometry"])).bounds == (0, 0, 2, height)
    assert "drew the ellipse that QuPath makes of a TMA core" in changes(done)


@pytest.mark.parametrize("height", [0.01, 0.02, 0.0625])
def test_a_core_of_which_two_decimals_leave_no_ellipse_is_left_out(tmp_path, height):
    features, done = repaired(tmp_path, [core_of_line(height)])
    assert (features, done.left_out) == ([], 1)
    assert "left out a TMA core too thin for the coordinates that QuPath keeps" in changes(done)


SHAPES = {
    "hole of one point": (polygon(RING, [[3, 3]] * 4), 41),
    "part of one point": (
        {"type": "MultiPolygon", "coordinates": [[RING], [[[50, 50]] * 5]]},
        41,
    ),
    "bow tie": (polygon([[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]), 8),
    "hole outside": (polygon(RING, [[20, 20], [22, 20], [22, 22], [20, 20]]), 41),
    "overlapping parts": (
        {
            "type": "MultiPolygon",
            "coordinates": [[[[x, 0], [x + 4, 0], [x + 4, 4], [x, 4], [x, 0]]] for x in (0, 2)],
        },
        24,
    ),
    "collection": ({"type": "GeometryCollection", "geometries": [POLYGON, POLYGON]}, 41),
}


@pytest.mark.parametrize(("geometry", "area"), SHAPES.values(), ids=SHAPES)
def test_shapes_keep_the_area_that_they_cover(tmp_path, geometry, area):
    (feature,), _ = repaired(tmp_path, [an_object(geometry)])
    assert shapely.from_geojson(json.dumps(feature["geometry"])).area == pytest.approx(area)


def test_what_qupath_has_no_object_for_becomes_several(tmp_path):
    lines = {"type": "MultiLineString", "coordinates": [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]}
    mixed = {"type": "GeometryCollection", "geometries": [POLYGON, lines]}
    features, done = repaired(tmp_path, [an_object(mixed, name="a")])
    assert [f["geometry"]["type"] for f in features] == ["Polygon", "LineString", "LineString"]
    assert len({f["id"] for f in features}) == 3
    assert {f["properties"]["name"] for f in features} == {"a"}
    assert "made a feature of each line" in changes(done)


def test_ids_become_uuids_that_are_the_same_every_time(tmp_path):
    stated = [ID, ID, "7", "7", 7, None, ID.upper(), "1-1-1-1-1"]
    source = [an_object(outside={"id": identity}) for identity in stated]
    first, done = repaired(tmp_path, source)
    again, _ = repaired(tmp_path, source)
    ids = [feature["id"] for feature in first]
    assert ids[0] == ID
    assert len(set(ids)) == len(ids)
    assert first == again
    assert "gave an object another id than that of an earlier one" in changes(done)


def test_a_class_has_one_colour(tmp_path):
    colours = [[1, 2, 3], [4, 5, 6]]
    source = [an_object(classification={"name": "a", "color": colour}) for colour in colours]
    features, done = repaired(tmp_path, source)
    assert [f["properties"]["classification"]["color"] for f in features] == [colours[0]] * 2
    assert "gave a class the colour that it had before" in changes(done)


def test_children_stay_with_their_parent_and_survive_it(tmp_path):
    parent = an_object(childObjects=[an_object(polygon(RING[:-1])), 5])
    without_shape = an_object(None, childObjects=[an_object(name="child")])
    features, done = repaired(tmp_path, [parent, without_shape])
    first, second = features
    assert first["properties"]["childObjects"][0]["geometry"] == POLYGON
    assert second["properties"]["name"] == "child"
    assert (done.written, done.left_out) == (3, 2)


def test_very_many_generations_are_flattened(tmp_path):
    family = an_object()
    for _ in range(200):
        family = an_object(childObjects=[family])
    features, done = repaired(tmp_path, json.dumps([family]))
    generations = 0
    while features:
        features = [c for f in features for c in f["properties"].get("childObjects", [])]
        generations += 1
    assert (done.written, generations) == (201, MAX_GENERATIONS + 1)
    assert "made features of children that are nested too deeply" in changes(done)


def test_measurements_that_were_columns_keep_their_order(tmp_path):
    names = ["c", "a", "b"]
    columns = {f"measurements.{name}": k for k, name in enumerate(names)}
    (feature,), _ = repaired(tmp_path, [an_object(**columns)])
    assert list(feature["properties"]["measurements"]) == names


NOT_MENDED = {
    "null": (None, "left out what is no feature"),
    "no geometry": (an_object(None), "left out a feature without a shape"),
    "no area": (an_object(polygon([[0, 0], [9, 0], [0, 0]])), "left out a feature without a shape"),
    "empty": (an_object({}), "left out a feature without a shape"),
}


@pytest.mark.parametrize(("source", "said"), NOT_MENDED.values(), ids=NOT_MENDED)
def test_what_cannot_be_mended_is_left_out_and_said(tmp_path, source, said):
    features, done = repaired(tmp_path, {"type": "FeatureCollection", "features": [source]})
    assert features == []
    assert done.left_out == 1
    (change,) = [change for change in done.changes if change.what == said]
    assert change.first.index == 0


def test_of_a_damaged_file_what_stands_before_is_kept(tmp_path):
    second = json.dumps(an_object(outside={"id": ID[:-1] + "2"}))
    features, done = repaired(tmp_path, f"[{json.dumps(an_object())},{second[:50]}")
    assert len(features) == 1
    assert re.match("left out the rest: .*truncated", changes(done)[-1])


def test_the_source_may_be_its_own_target(tmp_path):
    path = tmp_path / "x.geojson"
    path.write_text(json.dumps([an_object(classification={"name": "a"})]))
    repair(path, path)
    assert validate(path).is_clean


def test_a_target_by_the_name_of_gzip_is_gzipped(tmp_path):
    source, target = tmp_path / "x.geojson", tmp_path / "y.geojson.gz"
    source.write_text(json.dumps([an_object()]))
    repair(source, target)
    assert json.loads(gzip.decompress(target.read_bytes()))["features"] == [an_object()]


def test_a_target_that_qupath_would_not_read_is_an_error(tmp_path):
    source = tmp_path / "x.geojson"
    source.write_text("[]")
    with pytest.raises(OutputError, match=r"x\.txt: QuPath reads"):
        repair(source, tmp_path / "x.txt")
    with pytest.raises(OutputError, match="no such folder"):
        repair(source, tmp_path / "gone" / "x.geojson")
    with pytest.raises(GeoJSONError, match="no such file"):
        repair(tmp_path / "gone.geojson", tmp_path / "y.geojson")
    assert not (tmp_path / "y.geojson").exists()


def test_every_export_is_clean_afterwards(tmp_path):
    exports = sorted(shared_export("README.txt").parent.glob("*json*"))
    assert len(exports) > 20
    for path in exports:
        before, done = validate(path), repair(path, tmp_path / "x.geojson", "0.4")
        after = validate(tmp_path / "x.geojson")
        assert after.is_clean
        assert not any(after.aborts(version) for version in SINCE_04)
        if before.is_clean:
            assert after.objects == before.objects
            assert done.left_out == 0


# Any feature at all

GOOD = an_object(
    classification=TUMOUR,
    measurements={"a": 1.5, "b": 2},
    metadata={"c": "d"},
    name="e",
    color=[1, 2, 3],
    childObjects=[an_object(outside={"id": "1-2-3-4-5"})],
) | {"nucleusGeometry": polygon(RING[::-1])}

numbers = st.one_of(
    st.integers(0, 40),
    st.floats(0, 40),
    st.floats(-1e6, 1e6),
    st.sampled_from([math.nan, math.inf, 131_072.01, 262_144.03, 1e300, 0.005, "3.5", None]),
)
positions = st.lists(numbers, min_size=1, max_size=3) | st.tuples(numbers, numbers).map(list)
rings = st.lists(positions, max_size=9) | st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6)).map(list), min_size=4, max_size=9
).map(lambda ring: [*ring, ring[0]])
odd_geometries = st.one_of(
    st.builds(lambda c: {"type": "Polygon", "coordinates": c}, st.lists(rings, max_size=3)),
    st.builds(
        lambda c: {"type": "MultiPolygon", "coordinates": c},
        st.lists(st.lists(rings, max_size=2), max_size=3),
    ),
    st.builds(
        lambda kind, c: {"type": kind, "coordinates": c},
        st.sampled_from(["LineString", "MultiPoint"]),
        rings,
    ),
    st.builds(lambda c: {"type": "MultiLineString", "coordinates": c}, st.lists(rings, max_size=3)),
    st.builds(lambda c: {"type": "Point", "coordinates": c}, positions),
    json_values(),
)


@st.composite
def mutated(draw):
    """A good feature of which some members, anywhere, are replaced, dropped or added."""
    feature = copy.deepcopy(GOOD)
    feature["properties"]["objectType"] = draw(
        st.sampled_from(["annotation", "detection", "cell", "tile", "tmaCore", "root", "Cell", 3])
    )
    if draw(st.booleans()):
        feature["geometry"] = draw(odd_geometries)
    for _ in range(draw(st.integers(0, 3))):
        holder = feature
        while True:
            inner = [v for v in holder.values() if isinstance(v, dict) and v]
            if not inner or draw(st.booleans()):
                break
            holder = draw(st.sampled_from(inner))
        name = draw(st.sampled_from(sorted(holder, key=str)) | st.text(max_size=5))
        if draw(st.booleans()):
            holder[name] = draw(json_values())
        else:
            holder.pop(name, None)
    return feature


@given(features=st.lists(mutated(), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_any_feature_is_mended_or_left_out_with_a_word(tmp_path_factory, features):
    folder = tmp_path_factory.getbasetemp()
    written, done = repaired(folder, {"type": "FeatureCollection", "features": features})
    assert done.written + done.left_out >= len(features)
    after = validate(folder / "out.geojson")
    assert not any(after.aborts(version) for version in SINCE_04 if version != "0.4")
    repair(folder / "in.geojson", folder / "old.geojson", "0.4")
    assert not validate(folder / "old.geojson").aborts("0.4")
    objects = list(read_objects(folder / "out.geojson"))
    assert len(objects) == len(written)
    assert all(item.geometry.is_valid for item in objects)
    again = repair(folder / "out.geojson", folder / "again.geojson")
    assert changes(again) == []


@given(value=json_values())
@settings(max_examples=200, deadline=None)
def test_any_json_is_mended_or_left_out(tmp_path_factory, value):
    repaired(tmp_path_factory.getbasetemp(), json.dumps(value))


@pytest.mark.parametrize(
    "raw", [b"", b"\xff\xfe", b"[" * 100_000, b"\x1f\x8b\x08", b'{"a":' * 5000]
)
def test_garbage_leaves_an_empty_collection_and_a_word(tmp_path, raw):
    source, target = tmp_path / "x.geojson", tmp_path / "y.geojson"
    source.write_bytes(raw)
    done = repair(source, target)
    assert json.loads(target.read_text())["features"] == []
    assert done.changes


def test_of_a_broken_archive_there_is_nothing_to_mend(tmp_path):
    source = tmp_path / "x.zip"
    source.write_bytes(b"PK\x05\x06")
    with pytest.raises(GeoJSONError, match=r"x\.zip cannot be read"):
        repair(source, tmp_path / "y.geojson")
    assert not (tmp_path / "y.geojson").exists()
