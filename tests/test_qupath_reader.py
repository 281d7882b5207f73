"""Reading what QuPath writes."""

from __future__ import annotations

import gzip
import json
import logging
import zipfile

import numpy as np
import pytest
import shapely

from tests.support.nuclei_by_hand import some_nuclei
from wsi_engine.errors import GeoJSONError
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.qupath.features import annotation_feature, detection_features
from wsi_engine.qupath.reader import iter_objects, read_objects
from wsi_engine.qupath.writer import write_features

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]}


def feature(geometry=SQUARE, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": properties}


@pytest.fixture
def file_with(tmp_path):
    def write(document, name="x.geojson"):
        path = tmp_path / name
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return write


# Containers and odd but harmless files


CONTAINERS = {
    "collection": ({"type": "FeatureCollection", "features": [feature(), feature()]}, 2),
    "array": ([feature()], 1),
    "feature": (feature(), 1),
    "geometry": (SQUARE, 1),
    "no features": ({"type": "FeatureCollection"}, 0),
    "null features": ({"type": "FeatureCollection", "features": None}, 0),
    "no type": ({"features": [feature()]}, 1),
    "null": (None, 0),
    "hierarchy": ({"root": {}, "tmaGrid": None}, 0),
}


@pytest.mark.parametrize(("document", "count"), CONTAINERS.values(), ids=CONTAINERS)
def test_containers(file_with, document, count):
    assert len(read_objects(file_with(document))) == count


def test_what_is_gzipped_is_known_by_its_bytes_and_not_its_name(tmp_path):
    path = tmp_path / "x.geojson"
    path.write_bytes(gzip.compress(json.dumps([feature()]).encode()))
    assert len(read_objects(path)) == 1


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "x.geojson"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([feature()]).encode())
    assert len(read_objects(str(path))) == 1


def test_without_properties_it_is_an_annotation(file_with):
    (item,) = read_objects(file_with([{"type": "Feature", "geometry": SQUARE}]))
    assert (item.object_type, item.id, item.name) == ("annotation", None, None)


def test_the_features_of_collections_within_an_array_are_read(file_with):
    collection = {"type": "FeatureCollection", "features": [feature(name="a"), feature(name="b")]}
    objects = read_objects(file_with([feature(name="0"), collection, SQUARE]))
    assert [item.name for item in objects] == ["0", "a", "b", None]
    assert objects.problems == []


# Problems


def polygon(*ring):
    return {"type": "Polygon", "coordinates": [list(ring)]}


def broken_file(file_with):
    broken = feature(None) | {"id": "11111111-0000-4000-8000-000000000000"}
    return file_with([feature(), broken, feature(id=5), feature() | {"id": 5}])


def test_a_bad_feature_is_left_out_and_named(file_with, caplog):
    with caplog.at_level(logging.WARNING):
        objects = read_objects(broken_file(file_with))
    assert len(objects) == 3
    first, second = objects.problems
    assert (first.source, first.index, first.skipped) == ("x.geojson", 1, True)
    assert first.id == "11111111-0000-4000-8000-000000000000"
    assert (second.index, second.id, second.skipped) == (3, None, False)
    assert caplog.messages == [f"{first} (and 1 problems more)"]
    assert str(first) == (
        "x.geojson: feature 1 (11111111-0000-4000-8000-000000000000): "
        "it has no geometry; it is left out"
    )


def test_strictly_the_first_problem_is_an_error(file_with):
    with pytest.raises(GeoJSONError, match=r"^x\.geojson: feature 1 \(1111.*it has no geometry"):
        read_objects(broken_file(file_with), strict=True)


def test_objects_come_one_by_one_and_problems_with_them(file_with):
    problems = []
    stream = iter_objects(broken_file(file_with), problems=problems)
    assert next(stream).object_type == "annotation"
    assert len(list(stream)) == 2
    assert [problem.index for problem in problems] == [1, 3]


def test_a_sound_file_gives_no_warning(file_with, caplog):
    assert read_objects(file_with([feature()]), strict=True).problems == []
    assert caplog.messages == []


def test_what_stands_before_a_truncation_was_yielded(tmp_path):
    path = tmp_path / "x.geojson"
    path.write_text(json.dumps([feature(), feature()])[:-30], encoding="utf-8")
    stream = iter_objects(path)
    next(stream)
    with pytest.raises(GeoJSONError, match="ends within feature 1: it is truncated"):
        next(stream)


def test_a_damaged_entry_of_an_archive_is_a_problem_and_the_others_are_read(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.geojson", "b.geojson", "c.geojson"):
            archive.writestr(name, json.dumps([feature(name=name)]))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"b.geojson"', b'"B.geojson"'))
    objects = read_objects(path)
    assert [item.name for item in objects] == ["a.geojson", "c.geojson"]
    assert [(p.source, p.index) for p in objects.problems] == [("x.zip/b.geojson", None)]
    with pytest.raises(GeoJSONError, match=r"x\.zip/b\.geojson cannot be read: Bad CRC"):
        read_objects(path, strict=True)


def test_an_archive_without_geojson_is_a_problem(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "no objects")
    objects = read_objects(tmp_path / "x.zip")
    assert [problem.reason for problem in objects.problems] == [
        "it holds no entry that ends in .geojson or .json"
    ]


def test_children_that_cannot_be_read_are_told_of(file_with):
    parent = feature(childObjects=[feature(name="a"), feature(None), feature(name="b")])
    objects = read_objects(file_with([parent]))
    assert [child.name for child in objects[0].children] == ["a", "b"]
    (problem,) = objects.problems
    assert problem.reason == "a child of it (without id) is left out: it has no geometry"


# What this package wrote


@pytest.mark.parametrize("name", ["x.geojson", "x.geojson.gz"])
def test_what_the_writer_writes_is_read_back_exactly(tmp_path, name):
    nuclei = some_nuclei(40, 2, with_hole=[0, 7])
    ids = nucleus_ids(namespace_of("slide", "model"), nuclei.anchors)
    classes = np.array(["Tumor", "Stroma", None], object)[nuclei.classes].tolist()
    region = shapely.MultiPolygon([shapely.box(0, 0, 9, 9), shapely.box(20, 0, 29, 9)])
    features = detection_features(ids, nuclei.polygons, classes, {"a": nuclei.scores})
    features.append(annotation_feature(ids[0], region, name="Region", classification="Tissue"))
    write_features(tmp_path / name, features)
    *detections, annotation = read_objects(tmp_path / name)
    assert [item.id for item in detections] == ids
    assert [item.class_name for item in detections] == classes
    assert {item.object_type for item in detections} == {"detection"}
    polygons = np.array([item.geometry for item in detections], object)
    assert shapely.equals_identical(polygons, nuclei.polygons).all()
    assert shapely.equals_exact(annotation.geometry, region, tolerance=0)
    assert (annotation.object_type, annotation.name) == ("annotation", "Region")
