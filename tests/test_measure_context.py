"""Density, distances, neighbours, cells: by hand, against scipy, and whatever the tiling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay, cKDTree

from tests.support.nuclei_by_hand import disc, model_grid, nuclei_of, tile_grid
from wsi_engine.nuclei.measure.adjacency import (
    CELL_RADIUS_UM,
    RADII_UM,
    neighbour_pairs,
    surroundings,
)
from wsi_engine.nuclei.measure.context import CONTEXT_COLUMNS, add_context, measure_context
from wsi_engine.nuclei.seams import resolve_seams
from wsi_engine.slide.frames import ModelGrid, Mpp

NAMES = [column.name for column in CONTEXT_COLUMNS]
QUARTER = Mpp(0.25, 0.25)
WHOLE_DISC = np.pi * CELL_RADIUS_UM**2
LARGEST = 20


def context(points_um, mpp=QUARTER):
    """Columns by name; places are given in µm."""
    anchors = np.array(points_um, float).reshape(-1, 2) / [mpp.x, mpp.y]
    return dict(zip(NAMES, measure_context(anchors, mpp).T, strict=True))


def per_mm2(count, radius):
    return pytest.approx(np.array(count) / (np.pi * radius**2 / 1e6), rel=1e-6)


def random_points(count, side_um, seed=0, mpp=QUARTER):
    """Uniform in a square, on the 0.01 px grid; QuPath pixels."""
    rng = np.random.default_rng(seed)
    return np.round(rng.uniform(0, side_um, (count, 2)) / [mpp.x, mpp.y], 2)


# --- by hand ---------------------------------------------------------------------------------


def test_the_columns_say_what_they_are():
    assert NAMES == [
        "Density 25 µm per mm^2",
        "Density 50 µm per mm^2",
        "Density 100 µm per mm^2",
        "Nearest neighbor distance µm",
        "Delaunay: Num neighbors",
        "Delaunay: Mean distance µm",
        "Voronoi: Area µm^2",
    ]
    assert all(column.formula and column.source for column in CONTEXT_COLUMNS)


def test_no_nuclei_no_rows():
    assert measure_context(np.empty((0, 2)), QUARTER).shape == (0, len(NAMES))
    assert neighbour_pairs(np.empty((0, 2)), QUARTER).shape == (0, 2)


def test_one_nucleus_has_a_whole_disc_and_no_distances():
    values = context([(1000, 1000)])
    assert [values[name][0] for name in NAMES[:3]] == [0, 0, 0]
    assert np.isnan(values["Nearest neighbor distance µm"][0])
    assert values["Delaunay: Num neighbors"][0] == 0
    assert np.isnan(values["Delaunay: Mean distance µm"][0])
    assert values["Voronoi: Area µm^2"][0] == pytest.approx(WHOLE_DISC, rel=1e-6)


@pytest.mark.parametrize(
    ("distance", "counts", "neighbours"),
    [(10, [1, 1, 1], 1), (25, [1, 1, 1], 1), (40, [0, 1, 1], 1), (99, [0, 0, 1], 1)],
)
def test_two_nuclei_share_what_is_between_them(distance, counts, neighbours):
    values = context([(0, 0), (distance, 0)])
    for radius, count in zip(RADII_UM, counts, strict=True):
        assert values[f"Density {radius:g} µm per mm^2"] == per_mm2([count, count], radius)
    assert values["Nearest neighbor distance µm"] == pytest.approx([distance, distance])
    assert list(values["Delaunay: Num neighbors"]) == [neighbours, neighbours]
    assert values["Delaunay: Mean distance µm"] == pytest.approx([distance, distance])
    half = np.arccos(distance / 2 / CELL_RADIUS_UM)
    segment = CELL_RADIUS_UM**2 * (half - np.sin(half) * np.cos(half))
    assert values["Voronoi: Area µm^2"] == pytest.approx([WHOLE_DISC - segment] * 2, rel=1e-6)


def test_two_nuclei_out_of_reach_know_nothing_of_each_other():
    values = context([(0, 0), (100.01, 0)])
    assert np.isnan(values["Nearest neighbor distance µm"]).all()
    assert list(values["Delaunay: Num neighbors"]) == [0, 0]
    assert values["Voronoi: Area µm^2"] == pytest.approx([WHOLE_DISC] * 2, rel=1e-6)


def test_three_in_a_row_touch_only_the_next():
    values = context([(0, 0), (20, 0), (50, 0)])
    assert list(values["Delaunay: Num neighbors"]) == [1, 2, 1]
    assert values["Delaunay: Mean distance µm"] == pytest.approx([20, 25, 30])
    assert values["Nearest neighbor distance µm"] == pytest.approx([20, 20, 30])


def test_nuclei_at_one_place_share_its_cell_and_count_as_one_neighbour():
    apart = context([(0, 0), (20, 0)])["Voronoi: Area µm^2"]
    values = context([(0, 0), (0, 0), (0, 0), (20, 0)])
    assert list(values["Nearest neighbor distance µm"]) == [0, 0, 0, 20]
    assert list(values["Delaunay: Num neighbors"]) == [1, 1, 1, 1]
    assert values["Delaunay: Mean distance µm"] == pytest.approx([20, 20, 20, 20])
    assert values["Voronoi: Area µm^2"][:3] == pytest.approx([apart[0] / 3] * 3)
    assert values["Voronoi: Area µm^2"][3] == pytest.approx(apart[1])
    assert values["Density 25 µm per mm^2"] == per_mm2([3, 3, 3, 3], 25)


def test_in_the_graph_the_first_of_several_at_one_place_stands_for_all():
    rim = 40 * np.column_stack([f(np.arange(7) * 2 * np.pi / 7) for f in (np.cos, np.sin)])
    anchors = np.round(np.concatenate([np.zeros((50, 2)), rim]), 2)
    spokes = {(0, k) for k in range(50, 57)}
    around = {(k, k + 1) for k in range(50, 56)} | {(50, 56)}
    assert {tuple(p) for p in neighbour_pairs(anchors, Mpp(1, 1)).tolist()} == spokes | around


@pytest.mark.parametrize("spacing", [4, 10, 33.33])
@pytest.mark.parametrize("mpp", [QUARTER, Mpp(0.2527, 0.2527)])
def test_on_a_square_grid_those_that_face_across_a_corner_are_no_neighbours(spacing, mpp):
    """Four nuclei on one circle: a triangulation would choose a diagonal by chance."""
    step = np.round(spacing / mpp.x, 2)
    anchors = np.array([*itertools.product(range(9), range(9))]) * step
    found = surroundings(anchors, mpp)
    inner = np.array([0 < i < 8 and 0 < j < 8 for i, j in itertools.product(range(9), range(9))])
    assert (found.neighbours[inner] == 4).all()
    assert found.mean_distance_um[inner] == pytest.approx(step * mpp.x)
    assert found.cell_um2[inner] == pytest.approx((step * mpp.x) ** 2)


def test_a_hexagonal_grid_has_six_neighbours_each():
    rows = [(20 * (j + 0.5 * (i % 2)), 20 * np.sqrt(0.75) * i) for i in range(9) for j in range(9)]
    centre = 4 * 9 + 4
    values = context(rows)
    assert values["Delaunay: Num neighbors"][centre] == 6
    assert values["Voronoi: Area µm^2"][centre] == pytest.approx(400 * np.sqrt(0.75), rel=1e-3)


def test_pixels_that_are_not_square_are_measured_in_um():
    assert context([(0, 0), (30, 40)], Mpp(0.5, 0.2))["Nearest neighbor distance µm"] == (
        pytest.approx([50, 50])
    )


def test_a_nucleus_far_out_costs_neither_memory_nor_neighbours():
    values = context([(0, 0), (10, 0), (3e8, -2e8)])
    assert values["Nearest neighbor distance µm"][:2] == pytest.approx([10, 10])
    assert np.isnan(values["Nearest neighbor distance µm"][2])


# --- against scipy and shapely ---------------------------------------------------------------


@pytest.mark.parametrize("density_per_mm2", [300, 5000, 20000])
def test_counts_and_distances_are_those_of_a_tree(density_per_mm2):
    anchors = random_points(2000, np.sqrt(2000 / density_per_mm2) * 1000, seed=1)
    found, um = surroundings(anchors, QUARTER), anchors * 0.25
    tree = cKDTree(um)
    for k, radius in enumerate(RADII_UM):
        expected = tree.query_ball_point(um, radius, return_length=True) - 1
        np.testing.assert_array_equal(found.within[:, k], expected)
    nearest = tree.query(um, k=2)[0][:, 1]
    nearest[nearest > 100] = np.nan
    np.testing.assert_allclose(found.nearest_um, nearest, rtol=1e-12)


@pytest.mark.parametrize("density_per_mm2", [100, 1000, 8000])
def test_cells_are_voronoi_cells_within_a_disc(density_per_mm2):
    anchors = random_points(1000, np.sqrt(1000 / density_per_mm2) * 1000, seed=2)
    um = anchors * 0.25
    around = shapely.box(*(um.min(axis=0) - 200), *(um.max(axis=0) + 200))
    cells = shapely.get_parts(shapely.voronoi_polygons(shapely.MultiPoint(um), extend_to=around))
    of, cell = shapely.STRtree(cells).query(shapely.points(um), "intersects")
    discs = shapely.buffer(shapely.points(um[of]), CELL_RADIUS_UM, quad_segs=256)
    expected = shapely.area(shapely.intersection(cells[cell], discs))
    np.testing.assert_allclose(surroundings(anchors, QUARTER).cell_um2[of], expected, rtol=1e-5)


@pytest.mark.parametrize("density_per_mm2", [100, 1000, 8000])
def test_neighbours_are_delaunay_edges_with_an_empty_circle_of_50_um(density_per_mm2):
    anchors = random_points(1000, np.sqrt(1000 / density_per_mm2) * 1000, seed=3)
    um = anchors * 0.25
    expected, tree = set(), cKDTree(um)
    triangles = Delaunay(um).simplices
    for a, b in {tuple(sorted(e)) for t in triangles for e in itertools.combinations(t, 2)}:
        # The Voronoi border, sampled where circles through both are not above 50 µm.
        half = np.hypot(*(um[a] - um[b])) / 2
        if half > CELL_RADIUS_UM:
            continue
        along = np.sqrt(CELL_RADIUS_UM**2 - half**2) * np.linspace(-1, 1, 4001)
        across = (um[b] - um[a])[::-1] * [-1, 1] / (2 * half)
        centres = (um[a] + um[b]) / 2 + along[:, None] * across
        radii = np.hypot(along, half)
        if (tree.query(centres)[0] > radii - 1e-9).any():
            expected.add((int(a), int(b)))
    pairs = {tuple(p) for p in neighbour_pairs(anchors, QUARTER).tolist()}
    # The sampling steps over the shortest borders.
    assert expected <= pairs
    assert len(pairs - expected) <= 0.005 * len(pairs)
    counts = np.bincount(np.array(sorted(pairs)).ravel(), minlength=len(um))
    np.testing.assert_array_equal(surroundings(anchors, QUARTER).neighbours, counts)


# --- whatever the block, the order, the tiling ------------------------------------------------


lattice = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=60).map(
    lambda places: np.array(places, float)
)


@settings(deadline=None, max_examples=150)
@given(
    lattice,
    st.sampled_from([1, 4.01, 37.77]),
    st.integers(-(10**6), 10**6),
    st.randoms(use_true_random=False),
)
def test_place_and_order_do_not_change_a_bit(places, step, shift, random):
    """Lattices are full of ties: equal distances, points on one circle, equal places."""
    anchors = np.round(places * step, 2)
    order = np.array(random.sample(range(len(anchors)), len(anchors)))
    moved = np.round(anchors + np.array([shift, -shift / 2]), 2)[order]
    expected = measure_context(anchors, QUARTER)[order]
    np.testing.assert_array_equal(measure_context(moved, QUARTER), expected)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from([300, 1200, 6000]))
def test_what_is_further_away_does_not_change_a_bit(seed, density):
    anchors = random_points(600, np.sqrt(600 / density) * 1000, seed)
    whole = measure_context(anchors, QUARTER)
    middle = np.median(anchors, axis=0)
    inside = (np.abs(anchors - middle) < 200).all(axis=1)
    near = (np.abs(anchors - middle) <= 200 + 400).all(axis=1)
    block = measure_context(anchors[near], QUARTER, np.flatnonzero(inside[near]))
    np.testing.assert_array_equal(block, whole[inside])


def tile_stream(points, grid, missing=()):
    """Every tile reports the discs that are anchored in its core."""
    for tile in grid.tiles():
        if tile.index not in missing:
            mine = points[tile.core.holds(points)]
            yield tile, nuclei_of([disc(x, y, 5, anchor=(x, y)) for x, y in mine], tile)


def streamed(points, grid, missing=()):
    model = model_grid(grid)
    chunks = [*resolve_seams(tile_stream(points, grid, missing), grid, model, LARGEST, 0.99)]
    pairs = [*add_context(iter(chunks), grid, model, LARGEST)]
    assert len(pairs) == len(chunks)
    assert all(given is came for given, (came, _) in zip(chunks, pairs, strict=True))
    anchors = np.concatenate([nuclei.anchors for nuclei, _ in pairs])
    return anchors, np.concatenate([values for _, values in pairs])


@pytest.mark.parametrize("core", [64, 100, 250, 1000])
@pytest.mark.parametrize("missing", [(), (0, 5, 6, 7, 8, 20)])
def test_on_a_stream_every_tiling_gives_the_bits_of_the_whole(core, missing):
    rng = np.random.default_rng(4)
    grid = tile_grid(-(-1000 // core), -(-800 // core), core)
    points = np.round(rng.uniform((0, 0), (800, 1000), (700, 2)), 2)
    if core != 1000:
        there = [grid.tile(*divmod(k, grid.columns)) for k in range(len(grid)) if k not in missing]
        points = points[np.any([tile.core.holds(points) for tile in there], axis=0)]
    anchors, values = streamed(points, grid, missing if core != 1000 else ())
    assert len(anchors) == len(points) > 300
    order, expected_order = np.lexsort(anchors.T), np.lexsort(points.T)
    np.testing.assert_array_equal(anchors[order], points[expected_order])
    expected = measure_context(points, Mpp(0.5, 0.5))
    np.testing.assert_array_equal(values[order], expected[expected_order])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(30, 300), st.floats(0, 0.9), st.integers(1, 56))
def test_with_any_tiles_missing_the_stream_still_gives_the_whole(seed, core, share, largest):
    rng = np.random.default_rng(seed)
    grid = tile_grid(-(-1500 // core), -(-500 // core), core)
    missing = set(np.flatnonzero(rng.random(len(grid)) < share).tolist())
    points = np.round(rng.uniform((0, 0), (500, 1500), (150, 2)), 2)
    model = model_grid(grid)
    chunks = resolve_seams(tile_stream(points, grid, missing), grid, model, largest, 0.99)
    pairs = [*add_context(chunks, grid, model, largest)]
    if not pairs:
        return
    anchors = np.concatenate([nuclei.anchors for nuclei, _ in pairs])
    values = np.concatenate([values for _, values in pairs])
    np.testing.assert_array_equal(values, measure_context(anchors, Mpp(0.5, 0.5)))


def test_no_chunks_and_empty_chunks_pass():
    grid = tile_grid(2, 2, 100)
    assert [*add_context(iter([]), grid, model_grid(grid), LARGEST)] == []
    anchors, values = streamed(np.empty((0, 2)), grid)
    assert anchors.shape == (0, 2)
    assert values.shape == (0, len(NAMES))


@pytest.mark.parametrize("rows", [20, 80])
def test_what_waits_is_a_band_however_high_the_slide(rows):
    grid = tile_grid(rows, 5, 250)
    model = ModelGrid(0.5, Mpp(0.5, 0.5), 0, 0, 5 * 250, rows * 250)
    waiting, most = 0, 0

    def chunks():
        nonlocal waiting, most
        rng = np.random.default_rng(5)
        for tile in grid.tiles():
            corner = (tile.core.x, tile.core.y)
            points = np.round(corner + rng.uniform(0, 250, (40, 2)), 2)
            nuclei = nuclei_of([disc(x, y, 5, anchor=(x, y)) for x, y in points], tile)
            waiting += len(nuclei)
            most = max(most, waiting)
            yield nuclei

    total = 0
    for nuclei, _ in add_context(chunks(), grid, model, LARGEST):
        waiting -= len(nuclei)
        total += len(nuclei)
    assert total == rows * 5 * 40
    assert most <= 4 * 5 * 40


def test_the_nuclei_of_a_slide_that_is_cropped_by_an_area_see_only_each_other():
    grid = tile_grid(1, 2, 500)
    points = np.array([[100, 100], [130, 100], [160, 100.0]])
    tile = grid.tile(0, 0)
    nuclei = nuclei_of([disc(x, y, 5, anchor=(x, y)) for x, y in points], tile)
    kept = nuclei.take(np.array([True, True, False]))
    ((_, values),) = add_context(iter([kept]), grid, model_grid(grid), LARGEST)
    assert list(values[:, NAMES.index("Delaunay: Num neighbors")]) == [1, 1]
