"""Regions of interest: which annotations bound the work, which are cut out, which hold a point."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tests.support.exports import shared_export
from tests.support.objects_by_hand import disc, feature, identity, item, write_file
from wsi_engine.errors import RegionError
from wsi_engine.qupath.regions import Regions, read_annotations, read_bounds_of_work
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.writer import write_objects
from wsi_engine.results.region import read_regions

SLIDE = shapely.box(0, 0, 1000, 800)
LEFT, RIGHT = shapely.box(0, 0, 100, 100), shapely.box(50, 0, 150, 100)
INNER = shapely.box(20, 20, 40, 40)


def drawn(shape, k=None, class_name=None, name=None):
    return item(shape, k, class_name, name=name, object_type="annotation")


DRAWN = [
    drawn(LEFT, 1, "Tumor", "left"),
    drawn(RIGHT, 2, "Tumor: Positive"),
    drawn(INNER, 3, "Necrosis"),
    drawn(shapely.box(500, 500, 600, 600), 4, "Stroma"),
    drawn(shapely.box(700, 500, 800, 600), 5),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_file(tmp_path / "drawn.geojson", DRAWN)


def ids(annotations):
    return {annotation.id for annotation in annotations}


# (classes wanted, classes excluded, ids wanted, ids excluded, area)
SELECTIONS = {
    "all": ([], [], {1, 2, 3, 4, 5}, set(), 15_000 + 20_000),
    "a class and those derived from it": (["Tumor"], [], {1, 2}, set(), 15_000),
    "a derived class alone": (["Tumor: Positive"], [], {2}, set(), 10_000),
    "blanks around the colon do not matter": (["Tumor:Positive"], [], {2}, set(), 10_000),
    "several classes": (["Tumor: Positive", "Stroma"], [], {2, 4}, set(), 20_000),
    "a class but for another": (["Tumor"], ["Necrosis"], {1, 2}, {3}, 15_000 - 400),
    "all but a class": ([], ["Necrosis"], {1, 2, 4, 5}, {3}, 15_000 - 400 + 20_000),
    "all but several": ([], ["Necrosis", "Tumor"], {4, 5}, {1, 2, 3}, 20_000),
    "excluding wins": (["Tumor"], ["Tumor: Positive"], {1}, {2}, 5_000),
    "excluding what is not there": (["Stroma"], ["Glass"], {4}, set(), 10_000),
}


@pytest.mark.parametrize("case", SELECTIONS.values(), ids=SELECTIONS)
def test_classes_select_annotations(path, case):
    roi_class, exclude_class, wanted, excluded, area = case
    regions = read_bounds_of_work(path, roi_class, exclude_class)
    assert ids(regions.wanted) == {identity(k) for k in wanted}
    assert ids(regions.excluded) == {identity(k) for k in excluded}
    assert regions.within(SLIDE).area == pytest.approx(area)


def test_where_only_cuts_are_drawn_the_rest_of_the_slide_is_wanted(tmp_path):
    path = write_file(tmp_path / "cuts.geojson", [drawn(INNER, 1, "Necrosis")])
    regions = read_bounds_of_work(path, exclude_class=["Necrosis"])
    assert regions.within(SLIDE).area == SLIDE.area - INNER.area
    assert (regions.holding(np.array([[1.0, 1.0]])) == -1).all()


def test_an_annotation_inside_an_excluded_one_is_cut_out_with_it(tmp_path):
    island = drawn(disc(30, 30, 5), 2, "Tumor")
    path = write_file(tmp_path / "x.geojson", [drawn(INNER, 1, "Necrosis"), island])
    with pytest.raises(RegionError, match="excluded areas leave nothing"):
        read_bounds_of_work(path, ["Tumor"], ["Necrosis"]).within(SLIDE)


def ellipse(shape, k=None):
    return replace(drawn(shape, k), roi=ROI(shape, is_ellipse=True))


def square_at(x, side=10):
    return shapely.box(x, 0, x + side, side)


BOW_TIE = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
AREAS = {
    "one": ([drawn(square_at(0))], 100),
    "apart": ([drawn(square_at(0)), drawn(square_at(50))], 200),
    "overlapping": ([drawn(square_at(0)), drawn(square_at(5))], 150),
    "touching": ([drawn(square_at(0)), drawn(square_at(10))], 200),
    "one in the other": ([drawn(square_at(0)), drawn(square_at(2, side=4))], 100),
    "ellipse": ([ellipse(square_at(0))], 25 * np.pi),
    "ellipse and its box": ([ellipse(square_at(0)), drawn(square_at(0))], 100),
    "several parts": ([drawn(shapely.MultiPolygon([square_at(0), square_at(30)]))], 200),
    "crossing itself": ([drawn(BOW_TIE)], 8),
}


@pytest.mark.parametrize(("objects", "area"), AREAS.values(), ids=AREAS)
def test_the_area_is_the_union_of_all_annotations(tmp_path, objects, area):
    found = read_bounds_of_work(write_file(tmp_path / "x.geojson", objects)).within(SLIDE)
    assert found.is_valid
    assert found.area == pytest.approx(area, rel=1e-3)


def test_holes_stay_open(tmp_path):
    path = write_file(tmp_path / "x.geojson", [drawn(LEFT.difference(INNER), 1)])
    regions = read_bounds_of_work(path)
    assert regions.within(SLIDE).area == LEFT.area - INNER.area
    assert regions.holding(np.array([[30.0, 30.0], [10.0, 10.0]])).tolist() == [-1, 0]


def test_points_and_lines_are_passed_over_with_a_warning(tmp_path, caplog):
    flat = [drawn(shapely.Point(3, 3), 7), drawn(shapely.LineString([(0, 0), (9, 9)]), 8)]
    path = write_file(tmp_path / "x.geojson", [*flat, drawn(LEFT, 1)])
    with caplog.at_level(logging.WARNING):
        assert ids(read_bounds_of_work(path).wanted) == {identity(1)}
    assert "x.geojson: 2 annotations are points or lines" in caplog.text


def test_objects_that_are_no_annotations_are_passed_over(tmp_path, caplog):
    path = write_file(tmp_path / "x.geojson", [item(disc(9, 9), 1), drawn(LEFT, 2)])
    assert ids(read_bounds_of_work(path).wanted) == {identity(2)}
    assert caplog.text == ""


def test_annotations_nested_in_the_file_are_read(tmp_path):
    parent = feature(drawn(LEFT, 1, "Tumor"))
    parent["properties"]["childObjects"] = [feature(drawn(INNER, 3, "Necrosis"))]
    regions = read_bounds_of_work(
        write_file(tmp_path / "x.geojson", [parent]), ["Tumor"], ["Necrosis"]
    )
    assert regions.within(SLIDE).area == LEFT.area - INNER.area
    assert not any(made.children for made in regions.wanted + regions.excluded)


def test_what_is_to_be_ignored_is_cut_out_unasked(tmp_path, caplog):
    ignored = drawn(INNER, 3, "Ignore*")
    both = write_file(tmp_path / "both.geojson", [drawn(LEFT, 1, "Tumor"), ignored])
    for roi_class in ([], ["Tumor"]):
        assert read_bounds_of_work(both, roi_class).within(SLIDE).area == LEFT.area - INNER.area
    alone = write_file(tmp_path / "alone.geojson", [ignored])
    assert read_bounds_of_work(alone).within(SLIDE).area == 1000 * 800 - INNER.area
    assert read_bounds_of_work(both, ["Ignore*"]).within(SLIDE).area == INNER.area
    assert not caplog.text
    read_bounds_of_work(both, exclude_class=["Glass"])
    assert "'Glass'" in caplog.text


def test_a_class_that_is_not_there_is_a_warning_when_it_is_excluded(path, caplog):
    read_bounds_of_work(path, exclude_class=["Glass"])
    assert "'Glass'" in caplog.text
    assert "Necrosis (1)" in caplog.text


@pytest.mark.parametrize(
    ("objects", "roi_class", "words"),
    [
        (DRAWN, ["Tumour"], ["'Tumour'", "Necrosis (1)", "Tumor (1)", "no class (1)"]),
        (DRAWN, ["tumor"], ["'tumor'", "Tumor: Positive (1)"]),
        (DRAWN, ["Tum"], ["'Tum'"]),
        ([], ["Tumor"], ["no annotations"]),
        ([], [], ["no annotation with an area"]),
        ([item(disc(9, 9), 1)], [], ["no annotation with an area"]),
        ([drawn(shapely.Point(3, 3), 1)], [], ["no annotation with an area"]),
        ([drawn(shapely.Point(3, 3), 1, "Tumor")], ["Tumor"], ["no annotation with an area"]),
        ([drawn(LEFT, 1), {"type": "Feature"}], [], ["feature 1", "mend"]),
    ],
)
def test_files_in_which_there_is_nothing_to_work_on(tmp_path, objects, roi_class, words):
    path = write_file(tmp_path / "x.geojson", objects)
    with pytest.raises(RegionError, match=r"x\.geojson") as caught:
        read_bounds_of_work(path, roi_class)
    for word in words:
        assert word in str(caught.value)


def test_a_region_outside_the_slide(tmp_path):
    path = write_file(tmp_path / "x.geojson", [drawn(shapely.box(2e4, 0, 3e4, 9), 1)])
    with pytest.raises(RegionError, match=r"x\.geojson: .* outside the slide \(1000 x 800 px\)"):
        read_bounds_of_work(path).within(SLIDE)


# Which annotation holds a point


def test_the_smallest_annotation_holds_a_point(path):
    regions = read_bounds_of_work(path)
    points = np.array([[30, 30], [70, 50], [140, 50], [10, 10], [550, 550], [900, 10]], float)
    held = [regions.wanted[k].id if k >= 0 else None for k in regions.holding(points)]
    # At (70, 50) both of the same size do; then the id decides, not the order in the file.
    both = min(identity(1), identity(2))
    assert held == [identity(3), both, identity(2), identity(1), identity(4), None]


square = st.builds(
    lambda x, y, side: shapely.box(x, y, x + side, y + side),
    st.integers(0, 80),
    st.integers(0, 80),
    st.integers(1, 60),
)


@given(st.lists(square, min_size=1, max_size=12), st.integers(0, 2**31))
def test_holding_is_what_a_loop_over_annotations_finds(squares, seed):
    wanted = sorted(
        (drawn(shape, k) for k, shape in enumerate(squares)),
        key=lambda made: (made.geometry.area, made.id),
    )
    points = np.random.default_rng(seed).integers(0, 1400, (40, 2)) / 10
    expected = [
        next((k for k, made in enumerate(wanted) if made.geometry.intersects(point)), -1)
        for point in shapely.points(points)
    ]
    assert Regions("x", tuple(wanted), ()).holding(points).tolist() == expected


def test_the_order_in_the_file_does_not_matter(path, tmp_path):
    turned = write_file(tmp_path / "turned.geojson", DRAWN[::-1])
    assert ids(read_bounds_of_work(turned).wanted) == ids(read_bounds_of_work(path).wanted)


def test_without_an_id_the_shape_gives_one(tmp_path):
    path = write_file(tmp_path / "x.geojson", [drawn(LEFT), drawn(RIGHT)])
    first, second = (ids(read_bounds_of_work(path).wanted) for _ in range(2))
    assert first == second
    assert len(first) == 2


def ids_by_shape(annotations):
    return {made.geometry.wkt: made.id for made in annotations}


def test_that_id_does_not_depend_on_who_reads_the_file_nor_on_the_place_in_it(tmp_path):
    drawings = [drawn(LEFT, None, "Tumor"), drawn(shapely.Point(3, 3)), drawn(INNER), DRAWN[1]]
    path = write_file(tmp_path / "a.geojson", drawings)
    turned = write_file(tmp_path / "b.geojson", drawings[::-1])
    everything = ids_by_shape(read_annotations(path).values())
    assert len(set(everything.values())) == 3
    assert ids_by_shape(read_annotations(turned).values()) == everything
    for roi_class, exclude_class in ([], []), ([], ["Tumor"]), (["Tumor"], ["Tumor: Positive"]):
        bounds = read_bounds_of_work(path, roi_class, exclude_class)
        assert ids_by_shape(bounds.wanted).items() <= everything.items()
        assert ids_by_shape(bounds.excluded).items() <= everything.items()
    assert [region.id for region in read_regions(path, "annotation")] == [
        everything[shape.wkt] for shape in (LEFT, INNER, RIGHT)
    ]


def test_of_two_of_one_shape_without_an_id_the_first_has_that_of_the_shape(tmp_path):
    path = write_file(tmp_path / "one.geojson", [drawn(LEFT)])
    [alone] = read_annotations(path).values()
    twins = [drawn(LEFT, None, name="a"), drawn(LEFT, None, name="b"), drawn(LEFT, None, name="c")]
    path = write_file(tmp_path / "three.geojson", twins)
    first, second, third = (made.id for made in read_annotations(path).values())
    assert first == alone.id
    assert len({first, second, third}) == 3
    assert [made.id for made in read_annotations(path).values()] == [first, second, third]


def test_an_id_that_is_written_is_given_to_no_other(tmp_path):
    [alone] = read_annotations(write_file(tmp_path / "a.geojson", [drawn(LEFT)])).values()
    path = write_file(tmp_path / "b.geojson", [drawn(LEFT), replace(alone, name="kept")])
    fresh, kept = read_annotations(path).values()
    assert kept.id == alone.id != fresh.id


def test_a_core_of_a_tissue_microarray_is_a_region(tmp_path):
    core = replace(drawn(square_at(0), 1), object_type="tmaCore")
    path = write_file(tmp_path / "x.geojson", [core, drawn(shapely.Point(3, 3)), drawn(LEFT, 2)])
    assert {k: made.id for k, made in read_annotations(path).items()} == {
        1: identity(1),
        3: identity(2),
    }
    assert ids(read_bounds_of_work(path).wanted) == {identity(1), identity(2)}


def test_nothing_is_looked_for_in_a_core_that_is_missing(tmp_path):
    cores = [replace(drawn(square_at(x), k), object_type="tmaCore") for k, x in ((1, 0), (2, 50))]
    cores[1] = replace(cores[1], is_missing=True)
    write_objects(tmp_path / "x.geojson", cores)
    regions = read_bounds_of_work(tmp_path / "x.geojson")
    assert (ids(regions.wanted), ids(regions.missing)) == ({identity(1)}, {identity(2)})
    assert regions.within(SLIDE).bounds == (0, 0, 10, 10)
    assert regions.holding(np.array([[5.0, 5.0], [55.0, 5.0]])).tolist() == [0, -1]


def test_an_array_of_which_every_core_is_missing(tmp_path):
    core = replace(drawn(square_at(0), 1), object_type="tmaCore", is_missing=True)
    write_objects(tmp_path / "x.geojson", [core])
    with pytest.raises(RegionError, match=r"x\.geojson: every core is marked as missing"):
        read_bounds_of_work(tmp_path / "x.geojson")


def test_tiles_are_regions_where_there_is_nothing_else(tmp_path):
    tiles = [item(square_at(x), k, "Tumor", object_type="tile") for k, x in ((1, 0), (2, 50))]
    alone = read_bounds_of_work(write_file(tmp_path / "x.geojson", tiles), ["Tumor"])
    assert ids(alone.wanted) == {identity(1), identity(2)}
    for order in ([*tiles, drawn(LEFT, 3)], [drawn(LEFT, 3), *tiles]):
        beside = read_bounds_of_work(write_file(tmp_path / "x.geojson", order))
        assert ids(beside.wanted) == {identity(3)}


def test_what_qupath_exported():
    regions = read_bounds_of_work(shared_export("01_annotations_all_shapes.geojson"))
    assert len(regions.wanted) == 5
    classes = read_bounds_of_work(
        shared_export("05_annotations_classified_and_derived.geojson"), ["Immune cells"]
    )
    assert {made.class_name for made in classes.wanted} >= {"Immune cells: CD3: CD8"}
    with pytest.raises(RegionError, match="no annotation with an area"):
        read_bounds_of_work(shared_export("13_empty_rois.geojson"))
