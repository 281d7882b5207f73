"""Every way to write a feature, and what QuPath and so this package makes of it."""

from __future__ import annotations

import copy
import json
import math

import pytest
import shapely

from wsi_engine.qupath.colours import class_colour
from wsi_engine.qupath.parsing import parse_feature
from wsi_engine.qupath.problems import UnreadableError
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.roi import ImagePlane

RING = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]
SQUARE = {"type": "Polygon", "coordinates": [RING]}
UUID = "0c3f9781-c0f8-4a53-992d-76b8152f669e"


def parse(feature):
    notes = []
    return parse_feature(copy.deepcopy(feature), notes.append), notes


def with_properties(**properties):
    return {"type": "Feature", "geometry": SQUARE, "properties": properties}


def with_geometry(geometry, **members):
    return {"type": "Feature", "geometry": geometry, "properties": {}} | members


# Members of the feature

IDS = {
    UUID: (UUID, None),
    UUID.upper(): (UUID, None),
    "1-1-1-1-1": ("00000001-0001-0001-0001-000000000001", None),
    UUID.replace("-", ""): (None, "no UUID"),
    f"urn:uuid:{UUID}": (None, "no UUID"),
    "": (None, "no UUID"),
    5: (None, "its id is 5 and no UUID"),
    None: (None, "its id is null and no UUID, which QuPath refuses"),
}


@pytest.mark.parametrize(("value", "expected"), IDS.items())
def test_an_id_is_a_uuid_or_none(value, expected):
    item, notes = parse(with_properties() | {"id": value})
    identity, note = expected
    assert item.id == identity
    assert len(notes) == (note is not None)
    assert all(note in text for text in notes)


TYPES = {
    "annotation": {"objectType": "annotation"},
    "detection": {"objectType": "detection"},
    "cell": {"objectType": "cell"},
    "tile": {"objectType": "tile"},
    "tmaCore": {"objectType": "tmaCore"},
    "root": {"objectType": "root"},
}
ALIASES = [
    ("tmaCore", {"objectType": "tma_core"}),
    ("annotation", {"objectType": "PathAnnotationObject"}),
    ("detection", {"object_type": "PathDetectionObject"}),
    ("cell", {"objectType": "PathCellObject"}),
    ("tile", {"objectType": "PathTileObject"}),
    ("tmaCore", {"type": "TMACoreObject"}),
    ("root", {"objectType": "PathRootObject"}),
    ("detection", {"object_type": "detection"}),
    ("detection", {"type": "detection"}),
    ("cell", {"type": "tile", "object_type": "detection", "objectType": "cell"}),
    ("detection", {"type": "tile", "object_type": "detection"}),
    ("annotation", {}),
]


@pytest.mark.parametrize(("kind", "properties"), [*TYPES.items(), *ALIASES])
def test_the_type_of_an_object_has_many_names(kind, properties):
    item, notes = parse(with_properties(**properties))
    assert (item.object_type, notes) == (kind, [])


@pytest.mark.parametrize("value", ["Detection", "nucleus", None, 5, ["cell"], {}])
@pytest.mark.parametrize("key", ["objectType", "object_type", "type"])
def test_an_unknown_type_is_an_annotation_and_is_said(key, value):
    item, notes = parse(with_properties(**{key: value}))
    assert item.object_type == "annotation"
    assert len(notes) == 1
    assert "read as an annotation" in notes[0]


@pytest.mark.parametrize(
    ("legacy", "kind"), [("PathDetectionObject", "detection"), ("TMACoreObject", "tmaCore")]
)
def test_qupath_02_wrote_the_type_in_place_of_an_id(legacy, kind):
    item, notes = parse(with_properties() | {"id": legacy})
    assert (item.object_type, item.id, notes) == (kind, None, [])


def test_members_that_qupath_does_not_know_are_kept():
    item, notes = parse(with_properties(stain="HE", area=5, type="x", objectType="tile") | {"v": 1})
    assert item.unknown == {"v": 1}
    assert item.unknown_properties == {"stain": "HE", "area": 5, "type": "x"}
    assert item.measurements == {}
    assert notes == []


# Properties: what stands in the file, what is read, what is said of it

TUMOR = (("Tumor",), (200, 0, 0))
POSITIVE = (("Tumor", "Positive"), (200, 50, 50))
CLASSES = [
    (None, None, None),
    ({}, None, None),
    ({"names": []}, None, None),
    ("Tumor", TUMOR, None),
    ("Tumor: Positive", (("Tumor", "Positive"), class_colour("Tumor: Positive")), None),
    ({"name": "Tumor", "color": [200, 0, 0]}, TUMOR, None),
    ({"name": "Tumor", "color": [1, 2, 3]}, (("Tumor",), (1, 2, 3)), None),
    ({"name": "Tumor", "color": None}, TUMOR, None),
    ({"name": "Tumor", "color": []}, TUMOR, None),
    ({"name": "Tumor", "color": [-3670016]}, TUMOR, None),
    ({"name": "Tumor", "color": [200, 0, 0, 128]}, (("Tumor",), (200, 0, 0, 128)), None),
    ({"name": "Tumor", "color": [200, 0, 0, 255]}, TUMOR, None),
    ({"name": "Tumor", "color": [200, 0, 0, 0]}, TUMOR, None),
    ({"names": ["Tumor", "Positive"], "color": [200, 50, 50]}, POSITIVE, None),
    ({"name": "Tumor: Positive", "color": [200, 50, 50]}, POSITIVE, None),
    ({"name": " Tumor :  Positive : ", "color": [200, 50, 50]}, POSITIVE, None),
    ({"name": "Tumor", "names": ["A"], "color": [200, 0, 0]}, TUMOR, None),
    ({"name": "Tumor", "colorRGB": -3670016}, TUMOR, None),
    (
        {"parentClass": {"name": "Tumor", "colorRGB": 0}, "name": "Positive", "colorRGB": -3657166},
        POSITIVE,
        None,
    ),
    # QuPath refuses these files; the meaning is clear, though.
    ({"name": "Tumor"}, TUMOR, "no colour"),
    ({"name": "Tumor", "color": -3670016}, TUMOR, "the colour of its class is no list"),
    ({"name": "Tumor", "color": [200.5, 0, 0]}, TUMOR, "fractions"),
    ({"name": "Tumor", "color": [200, 0]}, TUMOR, "three integers"),
    ({"name": "Tumor", "color": [300, 0, 0]}, TUMOR, "three integers"),
    ({"name": "Tumor", "color": [True, 0, 0]}, TUMOR, "three integers"),
    ({"names": ["Tumor: Positive"], "color": [200, 50, 50]}, POSITIVE, "has a colon"),
    ("Tu\nmor", (("Tu mor",), class_colour("Tu mor")), "more than one line"),
    # And here it is not.
    (": Positive", None, "blank name"),
    ("", None, "blank name"),
    ({"name": " ", "color": [1, 2, 3]}, None, "blank name"),
    ({"name": None, "color": [1, 2, 3]}, None, "the name of its class is null"),
    ({"names": [["a"]], "color": [1, 2, 3]}, None, "no list of strings"),
    ({"names": "Tumor", "color": [1, 2, 3]}, None, "no list of strings"),
    (5, None, "its classification is 5"),
    ([], None, "its classification is a list"),
]


@pytest.mark.parametrize(("value", "expected", "note"), CLASSES, ids=[str(c[0]) for c in CLASSES])
def test_a_class_is_written_in_many_ways(value, expected, note):
    for _ in range(2):  # what is remembered must be the same
        item, notes = parse(with_properties(classification=value))
        found = item.classification
        assert (found and (found.names, found.colour)) == expected
        assert len(notes) == (note is not None)
        assert all(note in text for text in notes)


NAN = math.nan
PROPERTIES = [
    ("name", "name", "A-1", "A-1", None),
    ("name", "name", "", "", None),
    ("name", "name", 5, "5", None),
    ("name", "name", 2.5, "2.5", None),
    ("name", "name", None, None, "its name is null, which QuPath refuses"),
    ("name", "name", {"a": 1}, None, "its name is an object"),
    ("color", "colour", [255, 128, 0], (255, 128, 0), None),
    ("color", "colour", -65536, (255, 0, 0), None),
    ("color", "colour", 255, (0, 0, 255), None),
    ("color", "colour", None, None, None),
    ("color", "colour", [0.5, 0, 0], (0, 0, 0), "fractions"),
    ("color", "colour", [1, 2, 3, 128], None, "four values"),
    ("color", "colour", "#ff8000", (255, 128, 0), "is a string, which QuPath refuses"),
    ("color", "colour", "red", None, "three integers"),
    ("color", "colour", [256, 0, 0], None, "three integers"),
    ("color", "colour", [-1, 0, 0], None, "three integers"),
    ("color", "colour", {"r": 1}, None, "three integers"),
    ("isLocked", "is_locked", True, True, None),
    ("isLocked", "is_locked", False, False, None),
    ("isLocked", "is_locked", None, False, None),
    ("isLocked", "is_locked", "true", True, None),
    ("isLocked", "is_locked", [], False, "isLocked is a list"),
    (
        "metadata",
        "metadata",
        {"a": "b", "n": 5, "t": True},
        {"a": "b", "n": "5", "t": "true"},
        None,
    ),
    ("metadata", "metadata", {"a": None, "b": "c"}, {"b": "c"}, "its metadata 'a' is null"),
    ("metadata", "metadata", [1], {}, "its metadata is a list"),
    ("measurements", "measurements", {"a": 1, "": 2.5}, {"a": 1.0, "": 2.5}, None),
    ("measurements", "measurements", {"a": 16777217}, {"a": 16777216.0}, None),
    ("measurements", "measurements", {"a": 1e300, "b": 1e-60}, {"a": math.inf, "b": 0.0}, None),
    ("measurements", "measurements", {"a": 10**400}, {"a": math.inf}, None),
    (
        "measurements",
        "measurements",
        {"a": "Infinity", "b": "-Infinity", "c": "1e3", "d": "inf"},
        {"a": math.inf, "b": -math.inf, "c": 1000.0, "d": math.inf},
        None,
    ),
    ("measurements", "measurements", None, {}, None),
    ("measurements", "measurements", {}, {}, None),
    ("measurements", "measurements", [], {}, None),
    ("measurements", "measurements", [{"name": "a", "value": 1}], {"a": 1.0}, None),
    ("measurements", "measurements", {"a": None, "b": 1}, {"b": 1.0}, "measurement 'a' is null"),
    ("measurements", "measurements", {"a": True}, {}, "measurement 'a' is true"),
    ("measurements", "measurements", {"a": [1]}, {}, "measurement 'a' is a list"),
    ("measurements", "measurements", {"a": "much"}, {}, "measurement 'a' is 'much'"),
    ("measurements", "measurements", [{"name": "a"}], {}, "measurement 'a' is null"),
    ("measurements", "measurements", [{"value": 1}], {}, "without a name"),
    ("measurements", "measurements", [5], {}, "holds 5 without a name"),
    ("measurements", "measurements", 5, {}, "its measurements are 5"),
    ("childObjects", "children", 5, [], "its childObjects are 5"),
    ("plane", "unknown_properties", {"z": 1}, {"plane": {"z": 1}}, "outside of its geometry"),
    ("isMissing", "unknown_properties", True, {"isMissing": True}, None),
]


@pytest.mark.parametrize(
    ("key", "field", "value", "expected", "note"),
    PROPERTIES,
    ids=[f"{p[0]}: {p[2]}"[:50] for p in PROPERTIES],
)
def test_properties(key, field, value, expected, note):
    item, notes = parse(with_properties(**{key: value}))
    assert getattr(item, field) == expected
    assert len(notes) == (note is not None)
    assert all(note in text for text in notes)


@pytest.mark.parametrize("value", ["NaN", NAN])
def test_nan_is_a_measurement(value):
    item, notes = parse(with_properties(measurements={"a": value}))
    assert math.isnan(item.measurements["a"])
    assert notes == []


def test_a_core_may_be_missing_and_is_an_ellipse():
    item, notes = parse(with_properties(objectType="tmaCore", isMissing=True))
    assert item.is_missing
    assert item.roi.is_ellipse
    assert item.geometry.area == pytest.approx(math.pi * 4, rel=1e-3)
    assert notes == []


@pytest.mark.parametrize("key", ["childObjects", "children"])
def test_children_are_nested_to_any_depth(key):
    notes = []
    feature = None
    for depth in range(300):
        nested = {key: [feature]} if feature else {}
        feature = with_properties(name=str(depth), **nested) | {"geometry": dict(SQUARE)}
    item = parse_feature(feature, notes.append)
    assert [below.name for below in item.flattened()] == [str(n) for n in range(299, -1, -1)]
    assert notes == []


@pytest.mark.parametrize(("properties", "note"), [(None, "are null"), ("missing", None)])
def test_properties_may_be_missing(properties, note):
    feature = with_geometry(SQUARE, properties=properties)
    if properties == "missing":
        del feature["properties"]
    item, notes = parse(feature)
    assert item.object_type == "annotation"
    assert len(notes) == (note is not None)


# Geometries


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


HOLE = [[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]
GEOMETRIES = [
    ({"type": "Point", "coordinates": [1, 2]}, "POINT (1 2)", None),
    ({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}, "MULTIPOINT (1 2, 3 4)", None),
    ({"type": "MultiPoint", "coordinates": []}, "MULTIPOINT EMPTY", None),
    ({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, "LINESTRING (1 2, 3 4)", None),
    ({"type": "LineString", "coordinates": [[3, 3], [3, 3]]}, "LINESTRING (3 3, 3 3)", None),
    ({"type": "LineString", "coordinates": [[3, 3]]}, "LINESTRING (3 3, 3 3)", "single point"),
    (
        {"type": "MultiLineString", "coordinates": [[[0, 0], [1, 1]], [[5, 5], [6, 6]]]},
        "MULTILINESTRING ((0 0, 1 1), (5 5, 6 6))",
        "can then no longer export",
    ),
    (SQUARE, "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0))", None),
    (polygon(RING[::-1]), "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0))", None),
    (polygon([[*p, 7] for p in RING]), "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0))", None),
    (
        polygon([[str(x), y] for x, y in RING]),
        "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0))",
        None,
    ),
    (
        polygon(RING, HOLE),
        "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 2 1, 2 2, 1 2, 1 1))",
        None,
    ),
    (
        {"type": "MultiPolygon", "coordinates": [[RING], [[[9, 9], [9, 8], [8, 8], [9, 9]]]]},
        "MULTIPOLYGON (((0 0, 4 0, 4 4, 0 4, 0 0)), ((9 9, 9 8, 8 8, 9 9)))",
        None,
    ),
    (
        {"type": "MultiPolygon", "coordinates": [[RING]]},
        "MULTIPOLYGON (((0 0, 4 0, 4 4, 0 4, 0 0)))",
        None,
    ),
    # QuPath keeps an empty rectangle.
    (polygon(), "POLYGON EMPTY", None),
    (polygon([[0, 0]] * 5), "POLYGON EMPTY", None),
    (polygon([]), "POLYGON EMPTY", None),
    (polygon([[0, 0], [1, 1], [0, 0]]), "POLYGON EMPTY", "fewer than three corners"),
    # QuPath refuses these; what is meant is clear.
    (polygon(RING[:-1]), "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0))", "not closed"),
    (
        polygon([[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]),
        "MULTIPOLYGON (((0 0, 2 2, 0 4, 0 0)), ((4 0, 4 4, 2 2, 4 0)))",
        "not valid (Self-intersection[2 2])",
    ),
    (
        {
            "type": "MultiPolygon",
            "coordinates": [[RING], [[[4, 0], [8, 0], [8, 4], [4, 4], [4, 0]]]],
        },
        "POLYGON ((0 0, 8 0, 8 4, 0 4, 0 0))",
        "not valid",
    ),
]


@pytest.mark.parametrize(
    ("member", "wkt", "note"), GEOMETRIES, ids=[f"{g[1][:30]} {g[2] or ''}" for g in GEOMETRIES]
)
def test_geometries(tmp_path, member, wkt, note):
    expected = shapely.from_wkt(wkt)
    single, notes = parse(with_geometry(member))
    (tmp_path / "x.json").write_text(json.dumps([with_geometry(member)]), encoding="utf-8")
    (batched,) = read_objects(tmp_path / "x.json")
    for item in (single, batched):
        assert item.geometry.geom_type == expected.geom_type
        if expected.area:
            assert item.geometry.equals(expected)
        else:
            assert item.geometry == expected
    assert len(notes) == (note is not None)
    assert all(note in text for text in notes)


UNREADABLE = [
    (None, "it has no geometry"),
    ({}, "it has no geometry"),
    ("POINT (1 1)", "its geometry is 'POINT"),
    ([1], "its geometry is a list"),
    ({"type": "Circle", "coordinates": [1, 2]}, "has the type 'Circle'"),
    ({"type": ["Point"], "coordinates": [1, 2]}, "has the type a list"),
    ({"type": "GeometryCollection", "geometries": []}, "GeometryCollection"),
    ({"type": "Polygon"}, "no list of coordinates"),
    ({"type": "Polygon", "coordinates": None}, "no list of coordinates"),
    ({"type": "Polygon", "coordinates": [1, 2, 3]}, "hold 1 in place of a list"),
    ({"type": "MultiPolygon", "coordinates": [1]}, "hold 1 in place of a polygon"),
    ({"type": "MultiLineString", "coordinates": [1]}, "hold 1 in place of a list"),
    ({"type": "Point", "coordinates": [1]}, "in place of [x, y]"),
    ({"type": "Point", "coordinates": ["a", 2]}, "a coordinate is 'a'"),
    ({"type": "Point", "coordinates": [None, 2]}, "a coordinate is null"),
    ({"type": "Point", "coordinates": [True, 2]}, "a coordinate is true"),
    (polygon([[0, 0], [True, 0], [4, 4], [0, 0]]), "a coordinate is true"),
    (polygon([[0, 0], [NAN, 0], [4, 4], [0, 0]]), "beyond any image"),
    (polygon([[0, 0], [math.inf, 0], [4, 4], [0, 0]]), "beyond any image"),
    (polygon([[0, 0], [1e308, 0], [4, 4], [0, 0]]), "beyond any image"),
    (polygon([[0, 0], [10**400, 0], [4, 4], [0, 0]]), "beyond any image"),
]


@pytest.mark.parametrize(("member", "reason"), UNREADABLE, ids=[str(u[0])[:60] for u in UNREADABLE])
def test_geometries_without_a_meaning(member, reason):
    with pytest.raises(UnreadableError) as caught:
        parse(with_geometry(member))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        (None, "it is null and no Feature"),
        (5, "it is 5 and no Feature"),
        ([], "it is a list and no Feature"),
        ({"geometry": SQUARE}, "its type is null"),
        ({"type": "feature", "geometry": SQUARE}, "its type is 'feature'"),
        ({"type": "Feature", "properties": {}}, "it has no geometry"),
        ({"type": "Feature", "geometry": SQUARE, "properties": [1]}, "its properties are a list"),
    ],
)
def test_what_is_no_feature(feature, reason):
    with pytest.raises(UnreadableError, match=reason):
        parse(feature)


PLANES = [
    ({}, ImagePlane(), None),
    ({"z": 2}, ImagePlane(z=2), None),
    ({"c": 1, "z": 2, "t": 3}, ImagePlane(1, 2, 3), None),
    ({"z": 2.0}, ImagePlane(z=2), None),
    ({"z": -1, "t": 4}, ImagePlane(t=4), "z = -1"),
    ({"z": 1.5}, ImagePlane(), "z = 1.5"),
    ({"z": "top"}, ImagePlane(), "z = 'top'"),
    ({"z": 1, "q": 5}, ImagePlane(z=1), "the member 'q'"),
    (None, ImagePlane(), "its plane is null"),
    (5, ImagePlane(), "its plane is 5"),
]


@pytest.mark.parametrize(("plane", "expected", "note"), PLANES)
def test_a_plane_is_a_member_of_the_geometry(plane, expected, note):
    item, notes = parse(with_geometry(SQUARE | {"plane": plane}))
    assert item.roi.plane == expected
    assert len(notes) == (note is not None)
    assert all(note in text for text in notes)


def test_an_ellipse_is_that_of_its_bounding_box():
    outline = polygon([[10, 20], [50, 20], [50, 40], [10, 40], [10, 20]])
    item, notes = parse(with_geometry(outline | {"isEllipse": True}))
    assert item.roi.is_ellipse
    assert item.geometry.bounds == pytest.approx((10, 20, 50, 40))
    assert item.geometry.area == pytest.approx(math.pi * 20 * 10, rel=1e-3)
    assert notes == []
    elsewhere = with_geometry(outline)
    elsewhere["properties"]["isEllipse"] = True
    assert not parse(elsewhere)[0].roi.is_ellipse


def test_a_nucleus_belongs_to_a_cell():
    inner = polygon(HOLE)
    cell = with_geometry(SQUARE, nucleusGeometry=inner, properties={"objectType": "cell"})
    item, notes = parse(cell)
    assert (item.roi.geometry.area, item.nucleus.geometry.area, notes) == (16, 1, [])
    item, notes = parse(cell | {"geometry": {}})
    assert (item.roi, item.geometry.area, notes) == (None, 1, [])
    item, notes = parse(cell | {"nucleusGeometry": None})
    assert item.nucleus is None
    assert len(notes) == 1
    item, notes = parse(cell | {"properties": {"objectType": "detection"}})
    assert (item.nucleus, item.unknown) == (None, {"nucleusGeometry": inner})
    assert len(notes) == 1
