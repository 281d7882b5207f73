"""Objects written: by the rules of QuPath 0.4 to 0.7, and the same when read again."""

from __future__ import annotations

import gzip
import json
import math
import uuid
import zipfile

import geojson
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.same_objects import assert_same_objects
from wsi_engine.errors import GeoJSONError, OutputError
from wsi_engine.qupath.objects import PathClass, PathObject, object_feature, object_features
from wsi_engine.qupath.reader import iter_objects, read_objects
from wsi_engine.qupath.roi import FIRST_PLANE, ROI, ImagePlane
from wsi_engine.qupath.shapes import ellipse_within
from wsi_engine.qupath.writer import write_objects

SQUARE = shapely.box(0, 0, 10, 10)
ID = "0c3f9781-c0f8-4a53-992d-76b8152f669e"


def annotation(geometry=SQUARE, **fields):
    return PathObject(object_type="annotation", roi=ROI(geometry), **fields)


def written(tmp_path, *objects, **options):
    path = tmp_path / "x.geojson"
    assert write_objects(path, objects, **options) == len(json.loads(path.read_text())["features"])
    return json.loads(path.read_text(encoding="utf-8"))["features"]


# Any object

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CLASS_NAMES = st.text("abcXYZ µ-+*0", min_size=1, max_size=6).map(str.strip).filter(bool)
CHANNEL = st.integers(0, 255)
COLOURS = st.tuples(CHANNEL, CHANNEL, CHANNEL)
CLASSES = st.builds(
    PathClass,
    st.lists(CLASS_NAMES, min_size=1, max_size=3).map(tuple),
    COLOURS | st.tuples(CHANNEL, CHANNEL, CHANNEL, st.integers(1, 254)),
)
PLANES = st.builds(ImagePlane, st.integers(-1, 3), st.integers(0, 9), st.integers(0, 9))
GRID = st.integers(-1000, 10_000_000).map(lambda n: n / 100)
POINTS = st.tuples(GRID, GRID)
# A third of it, the hole of HOLED, must be something on the grid of 0.01 px.
SIZES = st.integers(10, 100_000).map(lambda n: n / 100)
BOXES = st.builds(lambda x, y, w, h: shapely.box(x, y, x + w, y + h), GRID, GRID, SIZES, SIZES)
HOLED = BOXES.map(
    lambda box: box.difference(
        shapely.transform(box, lambda xy: np.round(xy.mean(0) + (xy - xy.mean(0)) / 3, 2))
    )
).filter(lambda g: g.geom_type == "Polygon" and g.is_valid)
ROUGH = (
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=3, max_size=12)
    .map(shapely.Polygon)
    .filter(lambda g: g.is_valid and g.area > 1)
)
SHAPES = (
    BOXES
    | HOLED
    | ROUGH.map(lambda g: shapely.transform(g, lambda xy: np.round(xy, 2))).filter(
        lambda g: g.is_valid
    )
    | POINTS.map(shapely.Point)
    | st.lists(POINTS, max_size=5).map(shapely.MultiPoint)
    | st.lists(POINTS, min_size=2, max_size=6).map(shapely.LineString)
    | st.builds(
        lambda box, gap: shapely.MultiPolygon(
            [box, shapely.transform(box, lambda xy: np.round(xy + np.ptp(xy, 0) + gap, 2))]
        ),
        BOXES,
        SIZES,
    )
)
ROIS = st.builds(ROI, SHAPES, PLANES) | BOXES.map(
    lambda box: ROI(ellipse_within(box), is_ellipse=True)
)
AREAS = st.builds(ROI, BOXES | HOLED, PLANES)
UNKNOWN = st.dictionaries(
    TEXT.map(lambda text: f"x{text}"),
    st.none() | st.booleans() | TEXT | st.lists(TEXT, max_size=2),
    max_size=2,
)
COMMON = {
    "id": st.uuids().map(str),
    "name": st.none() | TEXT,
    "classification": st.none() | CLASSES,
    "colour": st.none() | COLOURS,
    "is_locked": st.booleans(),
    "measurements": st.dictionaries(TEXT, st.floats(width=32), max_size=4),
    "metadata": st.dictionaries(TEXT, TEXT, max_size=3),
    "unknown_properties": UNKNOWN,
}


def objects_of(kinds, children):
    plain = st.builds(
        PathObject, object_type=st.sampled_from(kinds), roi=ROIS, children=children, **COMMON
    )
    cell = st.builds(
        PathObject, object_type=st.just("cell"), roi=AREAS, nucleus=st.none() | AREAS, **COMMON
    )
    bare_cell = st.builds(
        PathObject, object_type=st.just("cell"), roi=st.none(), nucleus=AREAS, **COMMON
    )
    core = st.builds(
        PathObject,
        object_type=st.just("tmaCore"),
        roi=BOXES.map(lambda box: ROI(ellipse_within(box), is_ellipse=True)),
        is_missing=st.booleans(),
        children=children,
        **COMMON,
    )
    return plain | cell | bare_cell | core


LEAVES = objects_of(["annotation", "detection", "tile"], st.just([]))
OBJECTS = objects_of(["annotation", "detection", "tile"], st.lists(LEAVES, max_size=2))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(objects=st.lists(OBJECTS, max_size=3))
def test_any_object_is_the_same_when_read_again(tmp_path, objects):
    write_objects(tmp_path / "x.geojson", objects, non_finite="string")
    back = read_objects(tmp_path / "x.geojson", strict=True)
    assert_same_objects(objects, back)
    # What was read is on QuPath's grid: from now on nothing moves any more.
    write_objects(tmp_path / "y.geojson", back, non_finite="string")
    assert (tmp_path / "y.geojson").read_bytes() == (tmp_path / "x.geojson").read_bytes() or any(
        item.roi and item.roi.is_ellipse for top in objects for item in top.flattened()
    )


@settings(max_examples=200, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=3, max_size=9),
    more=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=3, max_size=9),
)
def test_any_outline_is_valid_on_the_very_numbers_that_are_written(points, more):
    """At 3 px across, rounding to 0.01 px makes outlines cross that did not before."""
    shape = shapely.MultiPolygon([shapely.Polygon(points), shapely.Polygon(more)])
    geometry = object_feature(annotation(shape))["geometry"]
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    text = json.loads(json.dumps(geometry, default=np.ndarray.tolist))
    back = shapely.from_geojson(json.dumps(text))
    assert back.is_valid or back.area == 0
    numbers = shapely.get_coordinates(back)
    assert (numbers == np.round(numbers, 2)).all()
    if geometry["type"] == "MultiPolygon":
        assert len(geometry["coordinates"]) > 1


@pytest.mark.parametrize("width", [0.01, 0.02, 0.03, 0.1, 7, 700])
@pytest.mark.parametrize("height", [0.01, 0.25, 100])
def test_an_ellipse_keeps_its_box_however_thin_it_is(tmp_path, width, height):
    """QuPath keeps nothing of the outline alone, and the tips of thin ones fall on a line."""
    box = shapely.box(3, 4, 3 + width, 4 + height)
    item = PathObject(object_type="annotation", roi=ROI(ellipse_within(box), is_ellipse=True))
    (feature,) = written(tmp_path, item)
    outline = shapely.from_geojson(json.dumps(feature["geometry"]))
    assert outline.is_valid
    np.testing.assert_allclose(outline.bounds, box.bounds, atol=1e-9)


def test_an_ellipse_below_the_grid_is_written_empty(tmp_path):
    box = shapely.box(3, 4, 3.001, 9)
    item = PathObject(object_type="annotation", roi=ROI(ellipse_within(box), is_ellipse=True))
    (feature,) = written(tmp_path, item)
    assert feature["geometry"]["coordinates"] == [[[0, 0]] * 5]


# The rules of the dialect


def test_a_full_object_is_written_in_qupaths_words(tmp_path):
    item = PathObject(
        object_type="cell",
        roi=ROI(SQUARE, ImagePlane(z=2)),
        nucleus=ROI(shapely.box(2, 2, 4, 4), ImagePlane(z=2)),
        id=ID,
        name="A",
        classification=PathClass(("Tumor", "Positive"), (1, 2, 3, 128)),
        colour=(4, 5, 6),
        is_locked=True,
        measurements={"a": 0.1, "nan": math.nan, "inf": math.inf, "big": 1e300},
        metadata={"k": "v"},
        unknown={"v": 1, "gone": None},
        unknown_properties={"stain": None},
    )
    (feature,) = written(tmp_path, item)
    plane = {"plane": {"c": -1, "z": 2, "t": 0}}
    assert feature == {
        "type": "Feature",
        "id": ID,
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[10, 0], [10, 10], [0, 10], [0, 0], [10, 0]]],
        }
        | plane,
        "nucleusGeometry": {
            "type": "Polygon",
            "coordinates": [[[4, 2], [4, 4], [2, 4], [2, 2], [4, 2]]],
        }
        | plane,
        "properties": {
            "objectType": "cell",
            "name": "A",
            "color": [4, 5, 6],
            "classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3, 128]},
            "isLocked": True,
            "measurements": {"a": 0.1},
            "metadata": {"k": "v"},
            "stain": None,
        },
        "v": 1,
    }


def test_what_is_not_set_is_not_written(tmp_path):
    (feature,) = written(tmp_path, annotation(id=ID))
    assert feature["properties"] == {"objectType": "annotation"}
    assert set(feature) == {"type", "id", "geometry", "properties"}
    assert set(feature["geometry"]) == {"type", "coordinates"}


def test_an_object_without_id_gets_a_new_one_each(tmp_path):
    features = written(tmp_path, annotation(), annotation(), annotation(id=ID))
    ids = [feature["id"] for feature in features]
    assert ids[2] == ID
    assert len({str(uuid.UUID(identity)) for identity in ids}) == 3


def test_values_that_are_not_finite_are_left_out_or_words(tmp_path):
    item = annotation(measurements={"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.5})
    (plain,) = written(tmp_path, item)
    assert plain["properties"]["measurements"] == {"d": 1.5}
    (worded,) = written(tmp_path, item, non_finite="string")
    assert worded["properties"]["measurements"] == {
        "a": "NaN",
        "b": "Infinity",
        "c": "-Infinity",
        "d": 1.5,
    }


def test_children_stay_nested_and_roots_have_no_shape(tmp_path):
    root = PathObject(object_type="root", roi=None, children=[annotation(name="a"), annotation()])
    root.children[0].children.append(annotation(name="b"))
    (feature,) = written(tmp_path, root)
    assert feature["geometry"] == {}
    first, second = feature["properties"]["childObjects"]
    assert first["properties"]["childObjects"][0]["properties"]["name"] == "b"
    assert "childObjects" not in second["properties"]


SHAPES_WRITTEN = {
    "one part": (shapely.MultiPolygon([SQUARE]), "Polygon"),
    "two parts": (shapely.MultiPolygon([SQUARE, shapely.box(20, 0, 30, 9)]), "MultiPolygon"),
    "parts that touch": (shapely.MultiPolygon([SQUARE, shapely.box(10, 0, 30, 9)]), "Polygon"),
    "third ordinate": (shapely.force_3d(SQUARE, 5), "Polygon"),
    "ring": (SQUARE.exterior, "LineString"),
    "line in two pieces": (shapely.from_wkt("MULTILINESTRING((0 0,1 1),(1 1,2 0))"), "LineString"),
    "nothing": (shapely.Polygon(), "Polygon"),
    "no points": (shapely.Point(), "MultiPoint"),
}


@pytest.mark.parametrize(("geometry", "kind"), SHAPES_WRITTEN.values(), ids=SHAPES_WRITTEN)
def test_shapes_take_the_form_that_every_version_reads(tmp_path, geometry, kind):
    (feature,) = written(tmp_path, annotation(geometry))
    assert feature["geometry"]["type"] == kind
    (back,) = read_objects(tmp_path / "x.geojson", strict=True)
    assert back.geometry.area == pytest.approx(shapely.union_all(geometry).area)
    assert not back.geometry.has_z


def test_several_lines_become_several_objects(tmp_path, caplog):
    lines = shapely.from_wkt("MULTILINESTRING((0 0,1 1),(5 5,6 6))")
    child = annotation(name="child")
    first, second = written(tmp_path, annotation(lines, id=ID, name="n", children=[child]))
    assert first["id"] == ID != second["id"]
    assert first["properties"]["name"] == second["properties"]["name"] == "n"
    assert "childObjects" not in second["properties"]
    assert "several lines is written as one object for each" in caplog.text


def test_a_shape_that_vanishes_is_told_of(tmp_path, caplog):
    (feature,) = written(tmp_path, annotation(shapely.box(5, 5, 5.001, 9)))
    assert feature["geometry"]["coordinates"] == [[[0, 0]] * 5]
    assert "thinner than 0.01 px" in caplog.text


IMPOSSIBLE = {
    "no shape": (PathObject(object_type="annotation", roi=None, id=ID), f"annotation {ID} has no"),
    "cell of nothing": (PathObject(object_type="cell", roi=None), "cell without id has no shape"),
    "collection": (annotation(shapely.GeometryCollection([SQUARE])), "has no GeometryCollection"),
    "not finite": (annotation(shapely.Point(1, math.inf)), "not finite"),
    "half a character": (annotation(name="\ud800"), "feature 1 cannot be written"),
}


@pytest.mark.parametrize(("item", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_qupath_cannot_hold_is_an_error_and_leaves_no_file(tmp_path, item, message):
    with pytest.raises(GeoJSONError, match=message):
        write_objects(tmp_path / "x.geojson", [annotation(), item])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="there is no such folder"):
        write_objects(tmp_path / "gone" / "x.geojson", [annotation()])


# Files


@pytest.mark.parametrize("name", ["x.geojson", "x.geojson.gz", "x.zip", "x.geojson.zip"])
def test_the_name_decides_on_the_packing(tmp_path, name):
    objects = [annotation(id=ID, name=str(n)) for n in range(5)]
    path = tmp_path / name
    assert write_objects(path, iter(objects)) == 5
    assert_same_objects(objects, read_objects(path, strict=True))
    first = path.read_bytes()
    write_objects(path, objects)
    assert path.read_bytes() == first
    if name.endswith(".zip"):
        assert zipfile.ZipFile(path).namelist() == ["x.geojson"]
    elif name.endswith(".gz"):
        assert gzip.decompress(first).startswith(b'{"type":"FeatureCollection"')


def test_a_file_may_be_rewritten_while_it_is_read(tmp_path):
    path = tmp_path / "x.geojson"
    write_objects(path, [annotation(id=ID, name=str(n)) for n in range(50)])
    assert write_objects(path, (item for item in iter_objects(path) if item.name != "7")) == 49
    assert len(read_objects(path)) == 49


# Other packages


def test_others_take_objects_as_geojson(tmp_path):
    item = annotation(id=ID, name="A", measurements={"a": 1.5})
    assert shapely.geometry.shape(item).equals(SQUARE)
    feature = item.to_geojson()
    assert isinstance(feature, geojson.Feature)
    assert feature.is_valid
    assert feature["properties"]["measurements"] == {"a": 1.5}
    assert json.loads(geojson.dumps(feature)) == item.__geo_interface__
    assert object_feature(item).keys() == item.__geo_interface__.keys()


def test_geopandas_takes_objects():
    geopandas = pytest.importorskip("geopandas")
    bare = PathObject(object_type="root", roi=None)
    frame = geopandas.GeoDataFrame.from_features([annotation(name="A"), bare])
    assert frame.geometry[0].equals(SQUARE)
    assert frame.geometry[1] is None
    assert list(frame["objectType"]) == ["annotation", "root"]


def test_nothing_gives_nothing():
    assert object_features([]) == []
    assert ROI(SQUARE).plane == FIRST_PLANE
