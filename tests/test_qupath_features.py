"""What QuPath reads: every rule of its dialect, checked on the bytes that are written."""

from __future__ import annotations

import gzip
import json
import re
import uuid

import geojson
import numpy as np
import orjson
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.exports import shared_export
from tests.support.nuclei_by_hand import some_nuclei
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.qupath.colours import QUPATH_COLOURS, class_colour
from wsi_engine.qupath.features import annotation_feature, detection_features
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.writer import GeoJSONWriter, write_features

ID = "6f1a1d3c-5f0e-5d6c-8f43-0123456789ab"
CLASSES = ("Tumor", "Immune cells", "something of our own")
SQUARE = shapely.box(0, 0, 10, 10)
HOLED = SQUARE - shapely.box(2, 2, 4, 4)


def detections(count=12, seed=0, classes=CLASSES, measurements=None):
    nuclei = some_nuclei(count, len(classes), seed, with_hole=[1])
    names = np.array([*classes, None], object)[nuclei.classes].tolist()
    ids = nucleus_ids(namespace_of("slide", "model"), nuclei.anchors)
    if measurements is None:
        measurements = {"Area µm^2": shapely.area(nuclei.polygons).astype(np.float32)}
    return detection_features(ids, nuclei.polygons, names, measurements)


def strict(text):
    """Parse JSON as the standard has it: no NaN, no key twice; numbers stay text."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    def unique(pairs):
        assert len(dict(pairs)) == len(pairs), "a key twice"
        return dict(pairs)

    return json.loads(
        text, parse_constant=refuse, object_pairs_hook=unique, parse_float=str, parse_int=str
    )


def written(tmp_path, features, name="x.geojson"):
    """What is in the file, numbers as text."""
    write_features(tmp_path / name, features)
    return strict((tmp_path / name).read_text(encoding="utf-8"))


def one(tmp_path, feature):
    (found,) = written(tmp_path, [feature])["features"]
    return found


def walk(value):
    yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from walk(inner)


def rings(geometry):
    """The rings of a Polygon or MultiPolygon."""
    if geometry["type"] == "Polygon":
        return geometry["coordinates"]
    return [ring for polygon in geometry["coordinates"] for ring in polygon]


def assert_as_qupath_wants(feature):
    """The rules by which QuPath imports a feature, or drops a whole file."""
    assert feature["type"] == "Feature"
    assert str(uuid.UUID(feature["id"])) == feature["id"]
    assert feature["properties"]["objectType"] in {"annotation", "detection"}
    assert set(feature) == {"type", "id", "geometry", "properties"}
    assert all(value is not None for value in walk(feature))
    classification = feature["properties"].get("classification")
    if classification is not None:
        assert set(classification) == {"name", "color"}
        assert classification["name"].strip()
        assert len(classification["color"]) == 3
        assert all(0 <= int(channel) <= 255 for channel in classification["color"])
    assert feature["geometry"]["type"] in {"Polygon", "MultiPolygon"}
    for ring in rings(feature["geometry"]):
        assert ring[0] == ring[-1]
        assert len(ring) >= 4
        for number in (number for vertex in ring for number in vertex):
            assert re.fullmatch(r"-?\d+(\.\d{1,2})?", number), number
    assert shapely.from_geojson(json.dumps(as_numbers(feature["geometry"]))).is_valid


def as_numbers(value):
    if isinstance(value, dict):
        return {k: as_numbers(v) if k == "coordinates" else v for k, v in value.items()}
    return [as_numbers(v) for v in value] if isinstance(value, list) else float(value)


# Detections


def test_nuclei_are_detections_by_every_rule(tmp_path):
    document = written(tmp_path, detections(60))
    assert document["type"] == "FeatureCollection"
    assert len(document["features"]) == 60
    for feature in document["features"]:
        assert_as_qupath_wants(feature)
        assert feature["properties"]["objectType"] == "detection"
    classes = {f["properties"].get("classification", {}).get("name") for f in document["features"]}
    assert classes == {*CLASSES, None}


def test_another_library_finds_the_file_valid(tmp_path):
    write_features(tmp_path / "x.geojson", detections(20))
    assert geojson.loads((tmp_path / "x.geojson").read_text(encoding="utf-8")).is_valid


def test_a_hole_follows_its_exterior(tmp_path):
    feature = detection_features([ID], np.array([HOLED], object), [None], {})[0]
    geometry = one(tmp_path, feature)["geometry"]
    assert geometry["type"] == "Polygon"
    assert [len(ring) for ring in geometry["coordinates"]] == [5, 5]
    assert shapely.Polygon(*map(as_numbers, geometry["coordinates"][:1])).equals(SQUARE)


def test_a_nucleus_without_class_has_no_classification(tmp_path):
    feature = detection_features([ID], np.array([SQUARE], object), [None], {})[0]
    assert one(tmp_path, feature)["properties"] == {"objectType": "detection"}


def column(*values):
    return np.array(values, np.float32)


def test_values_that_are_not_finite_are_left_out_and_only_they(tmp_path):
    measurements = {
        "a": column(1, np.nan, 3, np.nan),
        "b": column(np.inf, 5, -np.inf, np.nan),
        "c": column(7, 8, 9, np.nan),
    }
    document = written(tmp_path, detections(4, measurements=measurements))
    rows = [f["properties"].get("measurements") for f in document["features"]]
    assert rows == [
        {"a": "1.0", "c": "7.0"},
        {"b": "5.0", "c": "8.0"},
        {"a": "3.0", "c": "9.0"},
        None,
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.33333334"),
        (123.456, "123.456"),
        (0, "0.0"),
        (2**24, "16777216.0"),
    ],
)
def test_measurements_are_as_short_as_float32_allows(tmp_path, value, text):
    """QuPath holds float32; 0.10000000149011612 would only make the file longer."""
    document = written(tmp_path, detections(1, measurements={"a": column(value)}))
    assert document["features"][0]["properties"]["measurements"] == {"a": text}


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_measurement_read_again_is_the_same_float32(values):
    features = detections(len(values), classes=(), measurements={"a": column(*values)})
    raw = orjson.dumps(features, option=orjson.OPT_SERIALIZE_NUMPY)
    back = [f["properties"]["measurements"]["a"] for f in json.loads(raw)]
    np.testing.assert_array_equal(np.float32(back), column(*values))


def test_float64_measurements_are_written_as_float32(tmp_path):
    document = written(tmp_path, detections(1, measurements={"a": np.array([0.1 + 1e-12])}))
    assert document["features"][0]["properties"]["measurements"] == {"a": "0.1"}


def test_names_with_any_letters_come_back(tmp_path):
    name = 'Área µm² "<&>" 細胞'
    measurements = {name: column(1)}
    polygons = np.array([SQUARE], object)
    feature = detection_features([ID], polygons, [name], measurements)[0]
    properties = one(tmp_path, feature)["properties"]
    assert properties["measurements"] == {name: "1.0"}
    assert properties["classification"]["name"] == name


def test_no_nuclei_no_features():
    assert detection_features([], np.empty(0, object), [], {"a": column()}) == []


# Annotations


ANNOTATIONS = {
    "polygon": (SQUARE, "Polygon", 100),
    "hole": (HOLED, "Polygon", 96),
    "two parts": (shapely.union(SQUARE, shapely.box(20, 0, 30, 10)), "MultiPolygon", 200),
    # QuPath before 0.6 fails on a MultiPolygon of one part.
    "one part": (shapely.MultiPolygon([HOLED]), "Polygon", 96),
    "long decimals": (shapely.box(0.123456, 1 / 3, 9.87654321, 2 / 3), "Polygon", 9.76 * 0.34),
    "crosses itself": (shapely.Polygon([(0, 0), (8, 8), (8, 0), (0, 8)]), "MultiPolygon", 32),
    "crosses itself with a spike": (
        shapely.Polygon([(0, 0), (8, 8), (8, 0), (0, 8), (-5, 8), (0, 8)]),
        "MultiPolygon",
        32,
    ),
    "parts that meet once rounded": (
        shapely.union(SQUARE, shapely.box(10.004, 0, 20, 10)),
        "Polygon",
        200,
    ),
    "closes once rounded": (
        shapely.Polygon(
            [(0, 0), (10, 0), (10, 4.996), (2, 5.0049), (10, 5.002), (10, 10), (0, 10)]
        ),
        "Polygon",
        100,
    ),
}


@pytest.mark.parametrize(("geometry", "kind", "area"), ANNOTATIONS.values(), ids=ANNOTATIONS)
def test_any_area_becomes_a_valid_annotation(tmp_path, geometry, kind, area):
    feature = one(tmp_path, annotation_feature(ID, geometry))
    assert_as_qupath_wants(feature)
    assert feature["geometry"]["type"] == kind
    assert feature["properties"] == {"objectType": "annotation"}
    back = shapely.from_geojson(json.dumps(as_numbers(feature["geometry"])))
    assert back.area == pytest.approx(area, rel=0.01)


def test_an_annotation_carries_what_it_is_given_and_nothing_else(tmp_path):
    feature = annotation_feature(
        ID,
        SQUARE,
        name="Block A",
        classification="Tissue",
        locked=True,
        measurements={"Area mm^2": 1.5, "gone": float("nan"), "too": float("inf")},
    )
    assert one(tmp_path, feature)["properties"] == {
        "objectType": "annotation",
        "name": "Block A",
        "classification": {"name": "Tissue", "color": [str(c) for c in class_colour("Tissue")]},
        "isLocked": True,
        "measurements": {"Area mm^2": "1.5"},
    }


# Colours


def test_classes_that_qupath_knows_have_its_colours():
    document = json.loads(
        shared_export("05_annotations_classified_and_derived.geojson").read_text(encoding="utf-8")
    )
    compared = 0
    for feature in document["features"]:
        classification = feature["properties"].get("classification") or {}
        name = classification.get("name", "")
        if name.rstrip("*") in QUPATH_COLOURS:
            assert list(class_colour(name)) == classification["color"], name
            compared += 1
    assert compared == 9


@given(st.text(min_size=1))
def test_any_class_has_one_colour_by_its_name_alone(name):
    assert class_colour(name) == class_colour(name)
    assert all(0 <= channel <= 255 for channel in class_colour(name))


def test_our_own_colours_never_change():
    assert class_colour("Neoplastic") == (217, 54, 69)
    assert len({class_colour(f"class {k}") for k in range(40)}) > 20


# The file


def test_a_collection_without_features_is_still_one(tmp_path):
    assert written(tmp_path, []) == {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize("name", ["x.geojson", "x.geojson.gz"])
def test_chunks_leave_no_trace(tmp_path, name):
    features = detections(10)
    write_features(tmp_path / f"whole-{name}", features)
    with GeoJSONWriter(tmp_path / name) as writer:
        for chunk in (features[:3], [], features[3:4], features[4:]):
            writer.write(chunk)
        assert writer.count == 10
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()


def test_gzip_holds_the_same_text(tmp_path):
    features = detections(200)
    write_features(tmp_path / "x.geojson", features)
    write_features(tmp_path / "x.geojson.gz", features)
    plain, packed = ((tmp_path / n).read_bytes() for n in ("x.geojson", "x.geojson.gz"))
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 2


def test_gzip_bytes_depend_on_the_nuclei_alone(tmp_path, monkeypatch):
    now, later = tmp_path / "now.geojson.gz", tmp_path / "later.geojson.gz"
    write_features(now, detections(50))
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_features(later, detections(50))
    assert now.read_bytes() == later.read_bytes()


def test_each_feature_has_a_line(tmp_path):
    """So that text tools can count, and compare two files."""
    write_features(tmp_path / "x.geojson", detections(5))
    lines = (tmp_path / "x.geojson").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 5 + 1
    assert all(json.loads(line.rstrip(","))["type"] == "Feature" for line in lines[1:-1])


def test_closing_twice_is_closing_once(tmp_path):
    with GeoJSONWriter(tmp_path / "x.geojson.gz") as writer:
        writer.write(detections(1))
        writer.close()
    assert len(read_objects(tmp_path / "x.geojson.gz")) == 1
