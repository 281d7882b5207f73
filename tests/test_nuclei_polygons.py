"""Written polygons: valid as they are written, on the 0.01 px grid, and still the same nucleus."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wsi_engine.nuclei.nuclei import CLAIM_MARGIN_PX, nuclei_of_tile, within
from wsi_engine.nuclei.polygons import (
    clipped,
    made_valid,
    polygons_from_rings,
    repaired_on_grid,
    simplified_on_grid,
)
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.tracing import trace_labels
from wsi_engine.schedule.tiles import TileGrid
from wsi_engine.slide.frames import ModelGrid, Mpp

TOLERANCES = [0.0, 0.005, 0.16, 0.32, 2.0]


def polygons_of(*rings):
    return np.array([shapely.Polygon(ring) for ring in rings], object)


def assert_settled(polygons, kept, count):
    """What a file may hold, checked on the very numbers that would be written."""
    assert kept.dtype == bool
    assert kept.shape == (count,)
    assert len(polygons) == kept.sum()
    assert (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all()
    assert shapely.is_valid(polygons).all()
    assert (shapely.area(polygons) > 0).all()
    for number in shapely.get_coordinates(polygons).ravel().tolist():
        assert number == round(number, 2)


def iou(one, other):
    return shapely.area(shapely.intersection(one, other)) / shapely.area(shapely.union(one, other))


# Rings that no good tracer makes


coordinate = st.one_of(
    st.integers(-3, 3).map(float),  # repeated points, spikes, lines on lines
    st.integers(-300, 300).map(lambda k: k / 100 + 0.005),  # ties of the rounding
    st.floats(-3, 3),
    st.floats(-0.02, 0.02),  # collapses on the grid
)
nasty_ring = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=14)

BOW_TIE = [(0, 0), (10, 10), (10, 0), (0, 10)]
BOW_TIE_WITH_SPIKE = [*BOW_TIE, (-5, 10), (0, 10)]
SPIKE = [(0, 0), (10, 0), (10, 5), (40, 5), (10, 5), (10, 10), (0, 10)]
NEAR_TOUCH = [(0, 0), (10, 0), (10, 10), (5.001, 0.004), (4.999, 0.004), (0, 10)]
LINE = [(0, 0), (10, 0), (20, 0)]
DOT = [(0, 0), (0.001, 0), (0, 0.001)]
TWICE_AROUND = [(0, 0), (10, 0), (10, 10), (0, 10), (0, 0), (10, 0), (10, 10), (0, 10)]


@settings(deadline=None, max_examples=400)
@given(nasty_ring, st.sampled_from(TOLERANCES))
@example(BOW_TIE, 0.16)
@example(BOW_TIE_WITH_SPIKE, 0.16)
@example(BOW_TIE_WITH_SPIKE, 0.0)
@example(SPIKE, 0.16)
@example(NEAR_TOUCH, 0.0)
@example(LINE, 0.16)
@example(DOT, 0.16)
@example(TWICE_AROUND, 0.16)
def test_any_ring_comes_out_valid_on_the_grid_or_not_at_all(ring, tolerance):
    polygons, kept = simplified_on_grid(polygons_of(ring), tolerance)
    assert_settled(polygons, kept, 1)
    # Repair may end in a collection of polygons and lines: what is large in it is not lost,
    # unless it is thinner than the tolerance.
    repaired = shapely.get_parts(shapely.get_parts(shapely.make_valid(shapely.Polygon(ring))))
    assert kept[0] or tolerance > 0.01 or shapely.area(repaired).max() < 0.5


@pytest.mark.parametrize(
    ("ring", "area"),
    [
        (BOW_TIE, 25),
        (BOW_TIE_WITH_SPIKE, 25),
        (SPIKE, 100),
        (TWICE_AROUND, 100),
        (LINE, None),
        (DOT, None),
    ],
    ids=["bow tie", "bow tie with spike", "spike", "twice around", "line", "dot"],
)
def test_what_a_broken_ring_becomes(ring, area):
    """The largest part that holds together; nothing where there is no area."""
    polygons, kept = simplified_on_grid(polygons_of(ring), 0.16)
    assert kept.tolist() == [area is not None]
    assert [p.area for p in polygons] == pytest.approx([] if area is None else [area], abs=0.1)


def test_the_mask_says_which_polygons_are_left():
    good = [(0, 0), (9, 0), (9, 9), (0, 9)]
    polygons, kept = simplified_on_grid(polygons_of(good, DOT, BOW_TIE, LINE, good), 0.0)
    assert kept.tolist() == [True, False, True, False, True]
    assert [p.area for p in polygons] == [81, 25, 81]


def test_none_is_settled_to_none():
    polygons, kept = simplified_on_grid(np.empty(0, object), 0.3)
    assert_settled(polygons, kept, 0)
    assert len(polygons_from_rings(np.empty((0, 2)), np.zeros(1, np.int64))) == 0


def test_the_input_is_left_alone():
    polygons = polygons_of(BOW_TIE, [(0.001, 0), (9, 0.002), (9, 9), (0, 9.0049)])
    before = shapely.to_wkb(polygons).tolist()
    simplified_on_grid(polygons, 2.0)
    assert shapely.to_wkb(polygons).tolist() == before


def test_rounding_that_makes_a_valid_ring_cross_itself_is_repaired():
    """A slit 0.006 px wide closes to a line."""
    polygons = polygons_of(
        [(0, 0), (10, 0), (10, 4.996), (2, 5.0049), (10, 5.002), (10, 10), (0, 10)]
    )
    rounded = shapely.transform(polygons, lambda points: np.round(points, 2))
    assert shapely.is_valid(polygons[0])
    assert not shapely.is_valid(rounded[0])
    found, kept = simplified_on_grid(polygons, 0.0)
    assert_settled(found, kept, 1)
    assert iou(found, polygons).min() > 0.99


# Outlines as the models make them


@pytest.fixture(scope="module")
def blobs():
    """Rough outlines of nuclear size at 0.25 µm, with and without a field."""
    rng = np.random.default_rng(0)
    found = []
    for sigma in (1.0, 1.5, 2.5):
        image = ndimage.gaussian_filter(rng.normal(size=(300, 300)), sigma).astype(np.float32)
        image /= image.std()
        labels, _ = ndimage.label(image > 0.6)
        labels = np.where(np.bincount(labels.ravel())[labels] >= 40, labels, 0).astype(np.int32)
        for field in (None, image):
            xy, offsets, _ = trace_labels(labels, field, 0.6)
            found.append(polygons_from_rings(xy * 2, offsets))
    return np.concatenate(found)


@pytest.mark.parametrize(("tolerance", "least"), [(0.0, 0.998), (0.16, 0.97), (0.32, 0.95)])
def test_a_traced_nucleus_stays_what_it_was(blobs, tolerance, least):
    assert len(blobs) > 300
    polygons, kept = simplified_on_grid(blobs, tolerance)
    assert kept.all()
    assert_settled(polygons, kept, len(blobs))
    assert iou(polygons, blobs).min() >= least


def test_simplification_spares_vertices(blobs):
    polygons, _ = simplified_on_grid(blobs, 0.32)
    before, after = (len(shapely.get_coordinates(p)) for p in (blobs, polygons))
    assert after < 0.7 * before


@pytest.mark.parametrize("tolerance", [0.16, 0.32])
def test_no_border_moves_further_than_the_tolerance(blobs, tolerance):
    polygons, _ = simplified_on_grid(blobs, tolerance)
    moved = shapely.hausdorff_distance(shapely.boundary(polygons), shapely.boundary(blobs))
    moved -= 0.008  # half the diagonal of the grid
    assert np.mean(moved <= tolerance) > 0.98
    assert moved.max() <= 2 * tolerance  # where GEOS drops the first vertex last


DUMBBELL = [
    *[(0, 0), (9, 0), (9, 4.8), (12, 4.7), (15, 5.0), (18, 4.7), (21, 4.8), (21, 0), (30, 0)],
    *[(30, 10), (21, 10), (21, 5.0), (18, 4.9), (15, 5.2), (12, 4.9), (9, 5.0), (9, 10), (0, 10)],
]


@pytest.mark.parametrize("tolerance", [0.1, 0.16, 0.2, 0.25, 0.32, 0.5])
def test_simplification_does_not_break_a_nucleus_at_a_narrow_neck(tolerance):
    original = polygons_of(DUMBBELL)
    polygons, kept = simplified_on_grid(original, tolerance)
    assert_settled(polygons, kept, 1)
    assert iou(polygons, original).min() > 0.95


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.floats(2, 20), min_size=6, max_size=40),
    st.sampled_from(TOLERANCES),
    st.floats(0, 100),
)
def test_no_star_falls_apart(radii, tolerance, corner):
    """Simplified across a narrow waist, a star would become several polygons."""
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    ring = corner + np.array(radii)[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    polygons, kept = simplified_on_grid(polygons_of(ring), tolerance)
    assert kept.all()
    assert_settled(polygons, kept, 1)


# Shapes of other programs


def with_corner(value):
    """Put a value in the place of a box's corner (9, 9)."""
    return lambda xy: np.where((xy == 9).all(axis=1, keepdims=True), value, xy)


SHAPES = {
    "a square": (shapely.box(0, 0, 9, 9), 81),
    "rounded to hundredths": (shapely.box(0, 0, 9.004, 9.004), 81),
    "crossing itself": (shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)]), 81 / 4),
    "several parts": (shapely.MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(5, 5, 9, 9)]), 16),
    "one part": (shapely.MultiPolygon([shapely.box(0, 0, 2, 2)]), 4),
    "with a hole": (shapely.box(0, 0, 9, 9) - shapely.box(1, 1, 2, 2), 80),
    "polygon and line": (
        shapely.GeometryCollection([shapely.LineString([(0, 0), (9, 9)]), shapely.box(0, 0, 3, 3)]),
        9,
    ),
    "a point": (shapely.Point(1, 1), None),
    "a line": (shapely.LineString([(0, 0), (9, 9)]), None),
    "nothing": (shapely.GeometryCollection(), None),
    "smaller than a hundredth": (shapely.box(0, 0, 0.003, 0.003), None),
    "flat": (shapely.Polygon([(0, 0), (5, 0), (9, 0)]), None),
    "infinite": (shapely.transform(shapely.box(0, 0, 9, 9), with_corner(np.inf)), None),
    "not a number": (shapely.transform(shapely.box(0, 0, 9, 9), with_corner(np.nan)), None),
}


@pytest.mark.parametrize(("shape", "area"), SHAPES.values(), ids=SHAPES)
def test_a_shape_from_elsewhere_becomes_one_valid_polygon_or_is_left_out(shape, area):
    polygons, kept = repaired_on_grid(np.array([shape], object))
    assert kept.tolist() == [area is not None]
    if area is not None:
        assert polygons[0].geom_type == "Polygon"
        assert polygons[0].is_valid
        assert polygons[0].area == pytest.approx(area)


def test_no_shapes():
    polygons, kept = repaired_on_grid(np.empty(0, object))
    assert polygons.shape == kept.shape == (0,)


# From the predictions of a tile to nuclei


MODEL_GRID = ModelGrid(0.5, Mpp(0.25, 0.2), 0, 0, 4000, 4000)
GRID = TileGrid(MODEL_GRID.extent, core=100, halo=30)
TILE = GRID.tile(1, 2)


def predictions(anchors, probabilities=None):
    """Octagons of radius 5 around anchors in the window of ``TILE``."""
    anchors = np.array(anchors, np.float64).reshape(-1, 2)
    angle = np.arange(8) * np.pi / 4
    ring = 5 * np.column_stack([np.cos(angle), np.sin(angle)])
    count = len(anchors)
    return Predictions(
        xy=(anchors[:, None] + ring).reshape(-1, 2),
        offsets=np.arange(count + 1) * 8,
        anchors=anchors,
        scores=np.linspace(0, 1, count, dtype=np.float32),
        classes=np.arange(count, dtype=np.int16),
        probabilities=probabilities,
    )


def test_nuclei_are_in_qupath_pixels_whatever_the_tile():
    """The core of the tile starts at model pixel (200, 100); pixels are not square."""
    nuclei = nuclei_of_tile(predictions([(30 + 50, 30 + 60)]), TILE, MODEL_GRID, 0.0)
    np.testing.assert_allclose(nuclei.anchors, [[250 * 2, 160 * 2.5]])
    assert nuclei.polygons[0].bounds == (490, 387.5, 510, 412.5)
    assert nuclei.owned.tolist() == [True]


@pytest.mark.parametrize(
    ("anchor", "claimed", "owned"),
    [
        ((0, 0), True, True),
        ((99.99, 99.99), True, True),
        ((100, 50), True, False),
        ((-0.01, 50), True, False),
        ((-CLAIM_MARGIN_PX, -CLAIM_MARGIN_PX), True, False),
        ((50, 100 + CLAIM_MARGIN_PX - 0.01), True, False),
        ((50, 100 + CLAIM_MARGIN_PX), False, False),
        ((-CLAIM_MARGIN_PX - 0.01, 50), False, False),
        ((-25, 50), False, False),
    ],
)
def test_a_tile_owns_its_core_and_claims_a_margin_around_it(anchor, claimed, owned):
    in_window = np.array(anchor) + GRID.halo
    nuclei = nuclei_of_tile(predictions(in_window), TILE, MODEL_GRID, 0.0)
    assert nuclei.owned.tolist() == ([owned] if claimed else [])


def test_columns_stay_aligned_when_nuclei_are_not_claimed_or_have_no_area():
    probabilities = np.arange(8, dtype=np.float32).reshape(4, 2)
    given_ = predictions([(80, 80), (0, 0), (90, 40), (60, 60)], probabilities)
    given_.xy[16:24] = given_.xy[16]  # the third collapses
    nuclei = nuclei_of_tile(given_, TILE, MODEL_GRID, 0.08)
    assert nuclei.classes.tolist() == [0, 3]
    assert nuclei.scores.tolist() == given_.scores[[0, 3]].tolist()
    assert nuclei.probabilities.tolist() == [[0, 1], [6, 7]]
    centroids = shapely.get_coordinates(shapely.centroid(nuclei.polygons))
    np.testing.assert_allclose(centroids, nuclei.anchors, atol=0.01)


@pytest.mark.parametrize("probabilities", [None, np.empty((0, 3), np.float32)])
def test_a_tile_without_nuclei_has_columns_without_rows(probabilities):
    nuclei = nuclei_of_tile(predictions([], probabilities), TILE, MODEL_GRID, 0.08)
    assert len(nuclei) == 0
    assert nuclei.probabilities.shape == (0, 0 if probabilities is None else 3)
    assert len(within(nuclei, shapely.box(0, 0, 9, 9))) == 0


def test_what_is_measured_also_shows_what_lies_near_but_only_the_claimed_are_kept():
    shown = []

    def measure(polygons, wanted):
        shown.append((shapely.get_coordinates(shapely.centroid(polygons)), wanted))
        return np.arange(2 * wanted.sum(), dtype=np.float32).reshape(-1, 2)

    # In the core, near the first one beyond the border, and far from both.
    given_ = predictions([(35, 80), (20, 80), (5, 80), (60, 60)])
    nuclei = nuclei_of_tile(given_, TILE, MODEL_GRID, 0.0, measure, neighbourhood_um=3.0)
    ((centres, wanted),) = shown
    assert wanted.tolist() == [True, False, True]
    np.testing.assert_allclose(centres[:, 0], [(170 + x) * 2 for x in (35, 20, 60)])
    assert nuclei.classes.tolist() == [0, 3]
    assert nuclei.measurements.tolist() == [[0, 1], [2, 3]]


def test_what_is_not_measured_has_no_measurements():
    nuclei = nuclei_of_tile(predictions([(80, 80), (60, 60)]), TILE, MODEL_GRID, 0.0)
    assert nuclei.measurements.shape == (2, 0)


def test_within_an_area_are_the_nuclei_anchored_in_it_or_on_its_border():
    nuclei = nuclei_of_tile(
        predictions([(40, 40), (60, 40), (80, 40)]), TILE, MODEL_GRID, tolerance_um=0.0
    )
    x = nuclei.anchors[:, 0]
    area = shapely.box(0, 0, x[1], 1000)
    assert within(nuclei, area).classes.tolist() == [0, 1]
    two = shapely.MultiPolygon([shapely.box(x[k] - 1, 0, x[k] + 1, 1000) for k in (0, 2)])
    assert within(nuclei, two).classes.tolist() == [0, 2]


# The slide's border

SQUARE = [(0, 0), (10, 0), (10, 10), (0, 10)]
COMB = [(4, 5), (14, 5), (14, 9), (6, 9), (6, 8), (12, 8), (12, 7), (4, 7)]


@pytest.mark.parametrize(
    ("ring", "area"),
    [
        (SQUARE, 100),  # on the border, but not beyond
        ([(5, 5), (15, 5), (15, 8), (5, 8)], 15),
        ([(-5, -5), (5, -5), (5, 5), (-5, 5)], 25),
        (COMB, 12),  # two parts are left on the slide, of 12 and 6 px²
        ([(11, 0), (14, 0), (14, 5)], 0),
        (BOW_TIE_WITH_SPIKE, 25),
    ],
)
def test_what_reaches_beyond_the_slide_is_cut_off(ring, area):
    untouched = shapely.Polygon([(1, 1), (2, 1), (2, 2)])
    inside, same = clipped(np.array([shapely.Polygon(ring), untouched]), 10, 10)
    assert shapely.area(inside) == pytest.approx(area)
    assert inside.geom_type == "Polygon"
    assert area == 0 or shapely.covers(shapely.box(0, 0, 10, 10), inside)
    assert same is untouched


def test_a_nucleus_that_the_border_cuts_ends_there():
    slide = ModelGrid(0.5, Mpp(0.25, 0.2), 0, 0, slide_width=500, slide_height=1000)
    nuclei = nuclei_of_tile(predictions([(30 + 49, 30 + 60)]), TILE, slide, 0.0)
    np.testing.assert_allclose(nuclei.polygons[0].bounds, (488, 387.5, 500, 412.5))


# GEOS 3.13 leaves this one invalid where it asks for what is within, and then raises.
STUBBORN = [
    (17288.21, 1553.01), (17288.89, 1553.89), (17288.63, 1553.61),
    (17288.37, 1553.37), (17289.27, 1554.27), (17288.44, 1561.0),
]  # fmt: skip


def test_outlines_that_cross_themselves_are_mended():
    outlines = [shapely.Polygon(ring) for ring in (STUBBORN, BOW_TIE_WITH_SPIKE, COMB)]
    assert not outlines[0].is_valid
    made = made_valid(np.array(outlines))
    assert shapely.is_valid(made).all()
    assert made[2].equals(outlines[2])
    nucleus = shapely.box(17288, 1554, 17289, 1560)
    assert shapely.union(made[0], nucleus).covers(nucleus)
