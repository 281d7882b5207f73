"""Reading what QuPath writes."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import shapely
from exports import shared_export
from nuclei_by_hand import some_nuclei

from wsi_engine.errors import GeoJSONError
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.qupath.features import annotation_feature, detection_features
from wsi_engine.qupath.reader import read_objects
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


# Files that QuPath wrote, and what its README says is in them

EXPORTS = {
    "01_annotations_all_shapes.geojson": (9, {"annotation"}),
    "01_annotations_all_shapes_compact.geojson": (9, {"annotation"}),
    "01_annotations_all_shapes_bare_array.geojson": (9, {"annotation"}),
    "01_annotations_all_shapes.geojson.gz": (9, {"annotation"}),
    "02_single_feature_object.geojson": (1, {"annotation"}),
    "03_geometry_only_polygon.geojson": (1, {"annotation"}),
    "04_annotations_locked_named_coloured.geojson": (4, {"annotation"}),
    "05_annotation_class_colour_with_alpha.geojson": (1, {"annotation"}),
    "05_annotations_classified_and_derived.geojson": (17, {"annotation"}),
    "06_annotation_measurements_excluded.geojson": (1, {"annotation"}),
    "06_annotation_measurements_metadata.geojson": (1, {"annotation"}),
    "07_detections_measurements_nan_inf.geojson": (12, {"detection"}),
    "07_detections_other_rois.geojson": (6, {"detection"}),
    "08_cells_nucleus_geometry.geojson": (7, {"cell"}),
    "09_tma_cores_incl_missing.geojson": (4, {"tmaCore"}),
    "10_tiles.geojson": (4, {"tile"}),
    "11_planes_z_t_c.geojson": (6, {"annotation", "cell", "detection"}),
    "12_hierarchy_flat_all_objects.geojson": (7, {"annotation", "cell", "detection"}),
    "13_empty_feature_collection.geojson": (0, set()),
    "13_empty_bare_array.geojson": (0, set()),
    "13_empty_rois.geojson": (3, {"annotation"}),
    "14_unicode_names.geojson": (3, {"annotation"}),
    "old_v0.6.0_mixed_feature_collection.geojson": (
        9,
        {"annotation", "detection", "cell", "tile", "tmaCore"},
    ),
    "old_v0.6.0_mixed_bare_array.geojson": (
        9,
        {"annotation", "detection", "cell", "tile", "tmaCore"},
    ),
}


@pytest.mark.parametrize(("name", "contents"), EXPORTS.items(), ids=EXPORTS)
def test_every_object_of_an_export_is_read(name, contents):
    objects = read_objects(shared_export(name))
    assert (len(objects), {item.object_type for item in objects}) == contents
    assert all(item.geometry.is_valid for item in objects)


def test_counts_are_those_of_the_readme():
    lines = shared_export("README.txt").read_text(encoding="utf-8").splitlines()
    stated = {line.split("  ")[0]: line.split("  ")[1] for line in lines if "  " in line}
    for name, (count, _) in EXPORTS.items():
        assert stated[name] in {str(count), "-"}


def test_all_ways_of_exporting_the_same_objects_read_the_same():
    variants = [name for name in EXPORTS if name.startswith("01_")]
    first, *others = [read_objects(shared_export(name)) for name in variants]
    assert others
    for other in others:
        assert other == first


def test_every_roi_keeps_its_shape():
    kinds = [item.geometry for item in read_objects(shared_export(next(iter(EXPORTS))))]
    assert [g.geom_type for g in kinds] == [
        *["Polygon"] * 4,
        "MultiPolygon",
        *["LineString"] * 2,
        "Point",
        "MultiPoint",
    ]
    # Rectangle, ellipse (as a polygon of 100 corners), polygon, hole, several parts.
    left, top, right, bottom = kinds[1].bounds
    assert kinds[1].area == pytest.approx(np.pi / 4 * (right - left) * (bottom - top), rel=1e-3)
    assert len(kinds[3].interiors) == 1


@pytest.mark.parametrize(
    ("export", "names"),
    [
        (
            "05_annotations_classified_and_derived.geojson",
            {"Tumor", "Tumor: Positive", "Immune cells: CD3: CD8", "Ignore*", None},
        ),
        ("05_annotation_class_colour_with_alpha.geojson", set()),
        ("03_geometry_only_polygon.geojson", {None}),
    ],
)
def test_classes_are_read_and_derived_ones_joined(export, names):
    found = {item.classification for item in read_objects(shared_export(export))}
    assert names <= found
    assert all(name is None or isinstance(name, str) for name in found)


def test_names_in_any_script_are_read():
    document = json.loads(shared_export("14_unicode_names.geojson").read_text(encoding="utf-8"))
    expected = [f["properties"].get("name") for f in document["features"]]
    names = [item.name for item in read_objects(shared_export("14_unicode_names.geojson"))]
    assert names == expected
    assert any(not name.isascii() for name in names if name)


# Containers and odd but harmless files


CONTAINERS = {
    "collection": ({"type": "FeatureCollection", "features": [feature(), feature()]}, 2),
    "array": ([feature()], 1),
    "feature": (feature(), 1),
    "geometry": (SQUARE, 1),
    "no features": ({"type": "FeatureCollection"}, 0),
    "null features": ({"type": "FeatureCollection", "features": None}, 0),
    "no type": ({"features": [feature()]}, 0),
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


@pytest.mark.parametrize(
    ("properties", "classification"),
    [
        ({}, None),
        ({"classification": None}, None),
        ({"classification": {}}, None),
        ({"classification": {"names": []}}, None),
        ({"classification": "Tumor"}, "Tumor"),
        ({"classification": {"name": "Tumor", "color": [200, 0, 0]}}, "Tumor"),
        ({"classification": {"names": ["Tumor", "Positive"]}}, "Tumor: Positive"),
    ],
)
def test_ways_to_write_a_class(file_with, properties, classification):
    (item,) = read_objects(file_with([feature(**properties)]))
    assert item.classification == classification


def test_without_properties_it_is_an_annotation(file_with):
    (item,) = read_objects(file_with([{"type": "Feature", "geometry": SQUARE}]))
    assert (item.object_type, item.identity, item.name) == ("annotation", None, None)


def test_an_ellipse_is_that_of_its_bounding_box(file_with):
    outline = {
        "type": "Polygon",
        "coordinates": [[[10, 20], [50, 20], [50, 40], [10, 40], [10, 20]]],
        "isEllipse": True,
    }
    (item,) = read_objects(file_with([feature(outline)]))
    assert item.geometry.bounds == pytest.approx((10, 20, 50, 40))
    assert item.geometry.area == pytest.approx(np.pi * 20 * 10, rel=1e-3)


def test_a_ring_that_crosses_itself_is_repaired(file_with):
    bow_tie = {"type": "Polygon", "coordinates": [[[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]]}
    (item,) = read_objects(file_with([feature(bow_tie)]))
    assert item.geometry.is_valid
    assert item.geometry.area == 8


# Malformed files


def polygon(*ring):
    return {"type": "Polygon", "coordinates": [list(ring)]}


MALFORMED = {
    "null": None,
    "number": 5,
    "list": [],
    "no geometry": {"type": "Feature", "properties": {}},
    "geometry is text": feature("POINT (1 1)"),
    "geometry is a list": feature([1, 2]),
    "unknown geometry": feature({"type": "Circle", "coordinates": [1, 2]}),
    "collection of geometries": feature({"type": "GeometryCollection", "geometries": []}),
    "no coordinates": feature({"type": "Polygon"}),
    "null coordinates": feature({"type": "Polygon", "coordinates": None}),
    "flat coordinates": feature({"type": "Polygon", "coordinates": [1, 2, 3]}),
    "open ring": feature(polygon([0, 0], [4, 0], [4, 4])),
    "one number": feature({"type": "Point", "coordinates": [1]}),
    "text for a number": feature(polygon([0, 0], ["a", 0], [4, 4], [0, 0])),
    "null for a number": feature(polygon([0, 0], [None, 0], [4, 4], [0, 0])),
    "properties are a list": {"type": "Feature", "geometry": SQUARE, "properties": [1]},
    "names are numbers": feature(classification={"names": [1, 2]}),
}


@pytest.mark.parametrize("broken", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_feature_is_named_by_its_index(file_with, broken):
    path = file_with([feature(), feature(), broken, feature()])
    with pytest.raises(GeoJSONError, match=r"^x\.geojson: feature 2 is malformed: "):
        read_objects(path)


@pytest.mark.parametrize("features", [5, "none", {"0": 1}, True])
def test_features_that_are_no_list_are_an_error(file_with, features):
    with pytest.raises(GeoJSONError, match=r"x\.geojson: its features are not a list"):
        read_objects(file_with({"type": "FeatureCollection", "features": features}))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[1,]", "is not JSON"),
        (b"\xff\xfe[]", "is not JSON"),
        (b"[" * 5000, "is not JSON"),
        (b"{}{}", "is not JSON"),
        (gzip.compress(b"[]" * 500)[:-12], "cannot be read"),
        (b"\x1f\x8b\x08\x00 not gzip", "cannot be read"),
    ],
)
def test_a_file_that_is_no_geojson_is_an_error_that_names_it(tmp_path, raw, message):
    path = tmp_path / "regions.geojson"
    path.write_bytes(raw)
    with pytest.raises(GeoJSONError, match=rf"regions\.geojson {message}"):
        read_objects(path)


def test_an_absent_file_or_a_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(GeoJSONError, match=r"gone\.geojson: no such file"):
        read_objects(tmp_path / "gone.geojson")
    with pytest.raises(GeoJSONError, match="cannot be read"):
        read_objects(tmp_path)


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
    assert [item.identity for item in detections] == ids
    assert [item.classification for item in detections] == classes
    assert {item.object_type for item in detections} == {"detection"}
    polygons = np.array([item.geometry for item in detections], object)
    assert shapely.equals_identical(polygons, nuclei.polygons).all()
    assert shapely.equals_exact(annotation.geometry, region, tolerance=0)
    assert (annotation.object_type, annotation.name) == ("annotation", "Region")
