"""Files that QuPath itself wrote, from 0.2 to 0.7: all that its README states is read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import shapely

from tests.support.exports import shared_export
from tests.support.same_objects import assert_same_objects
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.roi import ImagePlane
from wsi_engine.qupath.writer import write_objects

MIXED = {"annotation": 5, "detection": 1, "cell": 1, "tile": 1, "tmaCore": 1}
EXPORTS = {
    "01_annotations_all_shapes.geojson": {"annotation": 9},
    "01_annotations_all_shapes_compact.geojson": {"annotation": 9},
    "01_annotations_all_shapes_bare_array.geojson": {"annotation": 9},
    "01_annotations_all_shapes.geojson.gz": {"annotation": 9},
    "01_annotations_all_shapes.zip": {"annotation": 9},
    "02_single_feature_object.geojson": {"annotation": 1},
    "03_geometry_only_polygon.geojson": {"annotation": 1},
    "04_annotations_locked_named_coloured.geojson": {"annotation": 4},
    "05_annotation_class_colour_with_alpha.geojson": {"annotation": 1},
    "05_annotations_classified_and_derived.geojson": {"annotation": 17},
    "06_annotation_measurements_excluded.geojson": {"annotation": 1},
    "06_annotation_measurements_metadata.geojson": {"annotation": 1},
    "07_detections_measurements_nan_inf.geojson": {"detection": 12},
    "07_detections_other_rois.geojson": {"detection": 6},
    "08_cells_nucleus_geometry.geojson": {"cell": 7},
    "09_tma_cores_incl_missing.geojson": {"tmaCore": 4},
    "10_tiles.geojson": {"tile": 4},
    "11_planes_z_t_c.geojson": {"annotation": 4, "detection": 1, "cell": 1},
    "12_hierarchy_flat_all_objects.geojson": {"annotation": 3, "cell": 2, "detection": 2},
    "12_hierarchy_nested_childObjects.geojson": {"annotation": 3, "cell": 2, "detection": 2},
    "12_hierarchy_root_object.geojson": {"root": 1, "annotation": 3, "cell": 2, "detection": 2},
    "12_hierarchy_json_with_tma_grid.json": {"root": 1, "tmaCore": 4, "detection": 1},
    "13_empty_feature_collection.geojson": {},
    "13_empty_bare_array.geojson": {},
    "13_empty_rois.geojson": {"annotation": 3},
    "14_unicode_names.geojson": {"annotation": 3},
} | {
    f"old_{version}_mixed_{form}.geojson": MIXED
    for version in ("v0.2.3", "v0.4.4", "v0.6.0")
    for form in ("feature_collection", "bare_array")
}
NOT_FOR_QUPATH = "12_hierarchy_json_with_tma_grid.json"


def read(name):
    return read_objects(shared_export(name), strict=name != NOT_FOR_QUPATH)


@pytest.mark.parametrize(("name", "contents"), EXPORTS.items(), ids=EXPORTS)
def test_every_object_of_an_export_is_read_without_a_problem(name, contents):
    objects = [item for top in read(name) for item in top.flattened()]
    assert Counter(item.object_type for item in objects) == contents
    areas = [item.geometry for item in objects if item.geometry.area]
    assert shapely.is_valid(areas).all()
    assert not any(item.unknown or item.unknown_properties for item in objects)


def test_counts_are_those_of_the_readme():
    lines = shared_export("README.txt").read_text(encoding="utf-8").splitlines()
    stated = [line.split("  ")[:2] for line in lines if line[:2].isdigit() or "old_" in line[:4]]
    assert sorted(name for name, _ in stated) == sorted(EXPORTS)
    for name, count in stated:
        if count != "-":
            assert len(read(name)) == int(count), name


@pytest.mark.parametrize("packing", [".geojson", ".geojson.gz", ".zip"])
@pytest.mark.parametrize("name", EXPORTS)
def test_read_written_and_read_again_it_is_the_same(tmp_path, name, packing):
    objects = read(name)
    write_objects(tmp_path / f"x{packing}", objects, non_finite="string")
    assert_same_objects(objects, read_objects(tmp_path / f"x{packing}", strict=True))


def test_all_ways_of_exporting_the_same_objects_read_the_same():
    first, *others = [read(name) for name in EXPORTS if name.startswith("01_")]
    assert len(others) == 4
    for other in others:
        assert other == first


def test_versions_differ_in_ids_and_what_their_dialect_cannot_say():
    versions = [read(f"old_{v}_mixed_bare_array.geojson") for v in ("v0.2.3", "v0.4.4", "v0.6.0")]
    for old, middle, new in zip(*versions, strict=True):
        assert old.class_name == middle.class_name == new.class_name
        assert old.name == middle.name == new.name
        assert old.is_locked == middle.is_locked == new.is_locked
        assert old.is_missing == middle.is_missing == new.is_missing
        assert list(old.measurements) == list(middle.measurements) == list(new.measurements)
        assert old.roi.plane == middle.roi.plane == new.roi.plane
        assert (old.nucleus is None) == (new.nucleus is None)
        distances = [shapely.hausdorff_distance(v.geometry, new.geometry) for v in (old, middle)]
        assert max(distances) < 0.02 or new.roi.is_ellipse
    assert all(item.id is None for item in versions[0])
    assert all(item.id is not None for item in versions[1])


def test_every_roi_keeps_its_shape():
    objects = read("01_annotations_all_shapes.geojson")
    assert [item.geometry.geom_type for item in objects] == [
        *["Polygon"] * 4,
        "MultiPolygon",
        *["LineString"] * 2,
        "Point",
        "MultiPoint",
    ]
    assert [item.roi.is_ellipse for item in objects] == [False, True, *[False] * 7]
    left, top, right, bottom = objects[1].geometry.bounds
    assert objects[1].geometry.area == pytest.approx(
        np.pi / 4 * (right - left) * (bottom - top), rel=1e-3
    )
    assert len(objects[3].geometry.interiors) == 1


def test_locks_names_and_own_colours():
    objects = read("04_annotations_locked_named_coloured.geojson")
    assert [item.is_locked for item in objects] == [True, False, True, False]
    assert [item.name for item in objects] == [
        "locked only",
        "own colour, no class",
        "locked, own colour and class",
        None,
    ]
    assert [item.colour for item in objects] == [None, (255, 128, 0), (0, 200, 255), None]


def test_classes_are_read_and_derived_ones_joined():
    objects = read("05_annotations_classified_and_derived.geojson")
    classes = {item.class_name: item.classification for item in objects}
    assert {"Tumor", "Tumor: Positive", "Immune cells: CD3: CD8", "Ignore*", None} <= set(classes)
    assert classes["Tumor"].colour == (200, 0, 0)
    assert classes["Tumor: Positive"].names == ("Tumor", "Positive")
    assert classes["Tumor: Positive"].colour == (200, 50, 50)


def test_the_alpha_of_a_class_is_read():
    (item,) = read("05_annotation_class_colour_with_alpha.geojson")
    assert len(item.classification.colour) == 4


def test_measurements_and_metadata():
    (item,) = read("06_annotation_measurements_metadata.geojson")
    assert item.measurements == {
        name: float(np.float32(value))
        for name, value in {
            "Area px": 10025,
            "Some integer": 42,
            "Small": 1e-9,
            "Large": 1.23456789012e12,
            "Negative": -0.125,
            "Num Detections": 3,
        }.items()
    }
    assert next(iter(item.measurements)) == "Area px"
    assert item.metadata == {
        "ANNOTATION_DESCRIPTION": "A description\nwith two lines",
        "patient": "P-001",
        "score": "3.5",
    }
    (bare,) = read("06_annotation_measurements_excluded.geojson")
    assert (bare.measurements, bare.metadata) == ({}, {})
    assert (bare.name, bare.class_name) == (item.name, item.class_name)


@pytest.mark.parametrize(
    "name",
    ["07_detections_measurements_nan_inf.geojson", "old_v0.2.3_mixed_bare_array.geojson"],
)
def test_measurements_that_are_no_numbers_are_values(name):
    values = [v for item in read(name) for v in item.measurements.values()]
    assert any(np.isnan(values))
    if name.startswith("07"):
        assert {np.inf, -np.inf} <= set(values)


def test_cells_may_lack_nucleus_or_boundary():
    cells = read("08_cells_nucleus_geometry.geojson")
    assert [cell.roi is not None for cell in cells] == [True] * 6 + [False]
    assert [cell.nucleus is not None for cell in cells] == [True] * 4 + [False] + [True] * 2
    assert all(c.roi.geometry.contains(c.nucleus.geometry) for c in cells if c.roi and c.nucleus)
    first = cells[0]
    assert first.measurements["Nucleus: Max diameter µm"] == 4.5
    assert first.nucleus.geometry.area / 16 == pytest.approx(
        first.measurements["Nucleus: Area µm^2"], rel=0.01
    )


def test_cores_are_ellipses_and_one_is_missing():
    cores = read("09_tma_cores_incl_missing.geojson")
    assert sum(core.is_missing for core in cores) == 1
    assert all(core.roi.is_ellipse for core in cores)
    assert any("Case ID" in core.metadata for core in cores)


def test_planes_are_read():
    objects = read("11_planes_z_t_c.geojson")
    assert [item.roi.plane for item in objects] == [
        ImagePlane(z=2),
        ImagePlane(t=3),
        ImagePlane(c=1, z=2, t=3),
        ImagePlane(z=1, t=1),
        ImagePlane(z=4),
        ImagePlane(),
    ]
    assert objects[4].nucleus.plane == ImagePlane(z=4)


def test_nesting_is_kept():
    for name in ("12_hierarchy_nested_childObjects.geojson", "12_hierarchy_root_object.geojson"):
        tops = read(name)
        region = next(i for top in tops for i in top.flattened() if i.name == "region")
        inner = {child.name: child for child in region.children}
        assert "tumour in region" in inner
        assert len(inner["tumour in region"].children) > 0
    assert all(not item.children for item in read("12_hierarchy_flat_all_objects.geojson"))


def test_empty_shapes_stay_empty():
    rectangle, points, line = read("13_empty_rois.geojson")
    assert rectangle.geometry.is_empty
    assert points.geometry.is_empty
    assert (line.geometry.geom_type, line.geometry.length) == ("LineString", 0)


def test_names_in_any_script_are_read():
    first, second, third = read("14_unicode_names.geojson")
    assert first.name == 'région n°1 – µm² ≥ 5 "quoted" \\ back\tslash'
    assert first.class_name == "Tumeur épithéliale"
    assert second.classification.names == ("肿瘤", "阳性")
    assert second.measurements == {"面积 µm^2": 1.5}
    assert second.metadata == {"clé": "värde ñ"}
    assert third.name == "<b>html</b> & ' = entities"
