"""Spatial statistics: by hand on tiny patterns, and points at random, on grids, in clusters."""

from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.stats import kstest, norm

from wsi_engine.regions import spatial
from wsi_engine.regions.spatial import (
    border_distances,
    clark_evans,
    eroded_area,
    neighbourhood_enrichment,
    ripley_l,
)

RADII = (10.0, 25.0, 50.0)
SQUARE = shapely.box(0, 0, 500, 500)
BOOMERANG = shapely.Polygon([(0, 0), (700, 0), (700, 250), (250, 250), (250, 700), (0, 700)])
RING = shapely.difference(shapely.Point(0, 0).buffer(350), shapely.Point(60, 0).buffer(120))
ISLANDS = shapely.MultiPolygon([shapely.box(0, 0, 300, 300), shapely.box(400, 0, 800, 300)])
WINDOWS = {"square": SQUARE, "boomerang": BOOMERANG, "ring": RING, "islands": ISLANDS}


def at_random(count, window, rng):
    """Uniform in a window."""
    left, top, right, bottom = window.bounds
    found = np.empty((0, 2))
    while len(found) < count:
        tried = rng.uniform((left, top), (right, bottom), (2 * count, 2))
        found = np.concatenate([found, tried[shapely.contains_xy(window, *tried.T)]])
    return found[:count]


def square_grid(window, step):
    left, top, right, bottom = window.bounds
    x, y = np.meshgrid(
        np.arange(left + step / 2, right, step), np.arange(top + step / 2, bottom, step)
    )
    points = np.column_stack([x.ravel(), y.ravel()])
    return points[shapely.contains_xy(window, *points.T)]


def clusters(count, window, rng, spread=12):
    centres = at_random(count // 20, window, rng)
    points = np.repeat(centres, 20, axis=0) + rng.normal(0, spread, (20 * len(centres), 2))
    return points[shapely.contains_xy(window, *points.T)]


# --- distance to the border ------------------------------------------------------------------


@pytest.mark.parametrize("limit", [5, 40, 1000])
@pytest.mark.parametrize("name", WINDOWS)
def test_distance_to_the_border_counts_holes_and_islands(name, limit):
    window = WINDOWS[name]
    points = at_random(1000, window, np.random.default_rng(0))
    expected = shapely.distance(shapely.points(points), window.boundary)
    expected[expected > limit] = np.inf
    np.testing.assert_allclose(border_distances(points, window, limit), expected, rtol=1e-12)


def jagged(count, rng):
    """A disc of 400 µm whose border goes in and out between any two of its corners."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radius = 400 + rng.uniform(-1, 1, count)
    return shapely.Polygon(np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]))


def pixel_classification(side, rng):
    """What a pixel classifier draws: smooth noise above its mean, on pixels of 2 µm."""
    inside = gaussian_filter(rng.standard_normal((side, side)), 1.9) > 0
    changes = np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (y, left), (_, right) = np.nonzero(changes == 1), np.nonzero(changes == -1)
    return shapely.union_all(shapely.box(2 * left, 2 * y, 2 * right, 2 * y + 2))


@pytest.mark.parametrize("distance", [3, 20, 60, 120])
@pytest.mark.parametrize("window", [*WINDOWS.values(), jagged(500, np.random.default_rng(0))])
def test_what_lies_further_from_the_border_is_what_a_negative_buffer_leaves(window, distance):
    expected = shapely.buffer(window, -distance).area
    assert eroded_area(window, distance) == pytest.approx(expected, abs=1e-4 * window.area)


def test_a_window_of_many_corners_takes_seconds():
    """A negative buffer took minutes; 75,000 corners, as in annotations of pixel classifiers."""
    rng = np.random.default_rng(1)
    window = pixel_classification(640, rng)
    assert shapely.get_num_coordinates(window) > 70_000
    shapely.prepare(window)
    points = at_random(5000, window, rng)
    before = time.process_time()
    distances = border_distances(points, window, 100)
    area = eroded_area(window, 4)
    ripley_l(points, window, RADII)
    clark_evans(points, window)
    assert time.process_time() - before < 20
    few = shapely.points(points[:20])
    assert distances[:20] == pytest.approx(shapely.distance(few, window.boundary))
    assert 0 < area < window.area


# --- Ripley ----------------------------------------------------------------------------------


def test_l_by_hand():
    """Five points; three of them are 10 µm or more from the border."""
    window = shapely.box(0, 0, 100, 100)
    points = np.array([[50, 50], [58, 50], [50, 44], [5, 5], [5, 9.0]])
    # Within 10 µm: the first has two neighbours, the second has one (and one at exactly 10),
    # the third the same: hypot(8, 6) = 10 counts.
    pairs_per_point = (2 + 2 + 2) / 3
    k = pairs_per_point * 100 * 100 / (5 - 1)
    assert ripley_l(points, window, [10]) == pytest.approx([np.sqrt(k / np.pi)])
    # Within 5 µm nobody but the two in the corner, one of which is 5 µm from the border.
    k = (0 + 0 + 0 + 1 + 1) / 5 * 100 * 100 / 4
    assert ripley_l(points, window, [5]) == pytest.approx([np.sqrt(k / np.pi)])


def test_l_is_what_the_definition_says():
    rng = np.random.default_rng(1)
    points = at_random(300, RING, rng)
    inside = shapely.distance(shapely.points(points), RING.boundary)
    distances = np.hypot(*(points[:, None] - points).T)
    for radius, found in zip(RADII, ripley_l(points, RING, RADII), strict=True):
        counts = (distances <= radius).sum(axis=0) - 1
        k = counts[inside >= radius].mean() * RING.area / 299
        assert found == pytest.approx(np.sqrt(k / np.pi))


@pytest.mark.parametrize("name", WINDOWS)
def test_l_of_points_at_random_is_r_in_any_window(name):
    """Monte Carlo: the mean over 200 patterns within 4 standard errors."""
    rng = np.random.default_rng(2)
    values = [
        ripley_l(at_random(400, WINDOWS[name], rng), WINDOWS[name], RADII) for _ in range(200)
    ]
    error = np.std(values, axis=0) / np.sqrt(len(values))
    assert (np.abs(np.mean(values, axis=0) - RADII) < 4 * error + 0.05).all()
    assert (error < 0.3).all()


@pytest.mark.parametrize("name", WINDOWS)
def test_without_the_correction_points_at_random_would_pass_for_regular(name):
    window = WINDOWS[name]
    points = at_random(2000, window, np.random.default_rng(2))
    pairs = cKDTree(points).count_neighbors(cKDTree(points), 50) - len(points)
    plain = np.sqrt(pairs / len(points) * window.area / (len(points) - 1) / np.pi)
    assert plain < 48
    assert ripley_l(points, window, [50]) == pytest.approx([50], abs=1.5)


def test_l_tells_clusters_and_grids_from_chance():
    rng = np.random.default_rng(3)
    together = ripley_l(clusters(800, SQUARE, rng), SQUARE, RADII) - RADII
    apart = ripley_l(square_grid(SQUARE, 20), SQUARE, [10]) - 10
    assert (together > 5).all()
    assert apart == pytest.approx([-10])


def test_l_of_many_is_that_of_a_sample_of_focal_points_among_all(monkeypatch):
    points = at_random(3000, SQUARE, np.random.default_rng(4))
    everybody = ripley_l(points, SQUARE, RADII)
    monkeypatch.setattr(spatial, "MOST_FOCAL_POINTS", 1000)
    sample = ripley_l(points, SQUARE, RADII, seed=1)
    np.testing.assert_allclose(sample, everybody, rtol=0.03)
    assert (sample != everybody).all()
    np.testing.assert_array_equal(sample, ripley_l(points, SQUARE, RADII, seed=1))
    assert (sample != ripley_l(points, SQUARE, RADII, seed=2)).any()


@pytest.mark.parametrize(
    ("points", "window"),
    [
        (np.empty((0, 2)), SQUARE),
        (np.array([[5, 5.0]]), SQUARE),
        (np.array([[1, 1], [2, 2.0]]), SQUARE),
        (np.array([[1, 1], [2, 2.0]]), shapely.Polygon()),
    ],
    ids=["none", "one", "both at the border", "no window"],
)
def test_l_is_missing_where_nothing_can_be_said(points, window):
    assert np.isnan(ripley_l(points, window, RADII)).all()


# --- Clark and Evans -------------------------------------------------------------------------


def test_clark_evans_by_hand():
    """A grid of 20 µm: the guard zone takes whole rows, R is 2, known in closed form."""
    window = shapely.box(0, 0, 400, 400)
    found = clark_evans(square_grid(window, 20), window)
    # 400 points on 160,000 µm²: expected 10 µm, guard 30 µm; from 30 to 370 there are 18 rows.
    m, area, mean = 18**2, 340.0**2, 20.0
    expected = 0.5 / np.sqrt(m / area)
    z = (mean - expected) / np.sqrt(0.0703 * area) * m
    assert found.ratio == pytest.approx(mean / expected)
    assert found.z == pytest.approx(z)
    assert found.p == pytest.approx(2 * norm.sf(z))


@pytest.mark.parametrize("name", WINDOWS)
def test_at_random_z_is_standard_normal_in_any_window(name):
    rng = np.random.default_rng(5)
    window = WINDOWS[name]
    found = [clark_evans(at_random(500, window, rng), window) for _ in range(200)]
    assert np.mean([f.ratio for f in found]) == pytest.approx(1, abs=0.01)
    assert kstest([f.z for f in found], "norm").pvalue > 0.001
    assert kstest([f.p for f in found], "uniform").pvalue > 0.001


def test_without_a_guard_zone_the_border_would_pass_for_regularity():
    """What the correction is for, with the uncorrected ratio beside it."""
    rng = np.random.default_rng(6)
    window = shapely.box(0, 0, 1000, 100)
    plain, corrected = [], []
    for _ in range(100):
        points = at_random(300, window, rng)
        mean = cKDTree(points).query(points, k=2)[0][:, 1].mean()
        plain.append(2 * mean * np.sqrt(300 / window.area))
        corrected.append(clark_evans(points, window).ratio)
    assert np.mean(plain) > 1.04
    assert np.mean(corrected) == pytest.approx(1, abs=0.02)


def test_clusters_and_grids():
    together = clark_evans(clusters(800, RING, np.random.default_rng(7)), RING)
    apart = clark_evans(square_grid(RING, 15), RING)
    assert together.ratio < 0.8
    assert together.z < -5
    assert apart.ratio > 1.8
    assert apart.z > 20
    assert together.p < 1e-6 > apart.p


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_points_have_no_ratio(count):
    points = at_random(count, SQUARE, np.random.default_rng(8)) if count else np.empty((0, 2))
    found = clark_evans(points, SQUARE)
    assert np.isnan([found.ratio, found.z, found.p]).all()


# --- neighbourhoods of classes ---------------------------------------------------------------


def chain(count):
    """Each is the neighbour of the next."""
    return np.column_stack([np.arange(count - 1), np.arange(1, count)])


def test_pairs_are_counted_once_and_symmetric():
    labels = np.array([0, 0, 1, 1, 1, 2])
    found = neighbourhood_enrichment(labels, chain(6), 3, permutations=10)
    assert found.observed.tolist() == [[1, 1, 0], [1, 2, 1], [0, 1, 0]]
    assert np.triu(found.observed).sum() == 5


def test_expectation_and_spread_are_those_of_all_permutations():
    """Four places in a row, two of each class: there are six ways, here with their mixed pairs."""
    labels = np.array([0, 0, 1, 1])
    mixed = np.array([1, 3, 2, 2, 3, 1])  # 0011 0101 0110 1001 1010 1100
    found = neighbourhood_enrichment(labels, chain(4), 2, permutations=20_000)
    assert found.expected[0, 1] == pytest.approx(mixed.mean(), abs=0.03)
    assert found.z[0, 1] == pytest.approx((1 - mixed.mean()) / mixed.std(), abs=0.03)
    # At most 1 mixed pair in a third of the ways.
    assert found.p[0, 1] == pytest.approx(2 / 3, abs=0.02)
    np.testing.assert_array_equal(found.z, found.z.T)


def test_sorted_classes_keep_to_themselves_and_alternating_ones_do_not():
    apart = neighbourhood_enrichment(np.repeat([0, 1], 50), chain(100), 2)
    assert apart.z[0, 0] > 5
    assert apart.z[1, 1] > 5
    assert apart.z[0, 1] < -5
    assert apart.p[0, 1] == pytest.approx(2 / 1000)
    mixed = neighbourhood_enrichment(np.tile([0, 1], 50), chain(100), 2)
    assert mixed.z[0, 1] > 5 > -5 > mixed.z[0, 0]


def test_p_values_hold_their_level_when_classes_are_dealt_by_chance():
    rng = np.random.default_rng(9)
    p = [
        neighbourhood_enrichment(rng.integers(0, 3, 300), chain(300), 3, permutations=99).p[0, 1]
        for _ in range(200)
    ]
    assert np.mean(np.array(p) <= 0.1) < 0.17
    assert 0.4 < np.mean(p) < 0.75


def test_the_seed_decides_and_nothing_else():
    labels = np.random.default_rng(10).integers(0, 3, 200)
    one = neighbourhood_enrichment(labels, chain(200), 3, permutations=99)
    again = neighbourhood_enrichment(labels, chain(200), 3, permutations=99)
    other = neighbourhood_enrichment(labels, chain(200), 3, permutations=99, seed=1)
    np.testing.assert_array_equal(one.z, again.z)
    assert (one.z != other.z).all()


def test_nuclei_without_class_take_no_part():
    labels = np.array([0, -1, 1, 1, -1])
    found = neighbourhood_enrichment(labels, chain(5), 2, permutations=10)
    assert found.observed.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("labels", "pairs"),
    [([], 0), ([0], 0), ([-1, -1, -1], 2), ([1, 1, 1], 2)],
    ids=["nobody", "one", "no classes", "one class"],
)
def test_where_permutations_change_nothing_scores_are_missing(labels, pairs):
    found = neighbourhood_enrichment(
        np.array(labels, np.int16), chain(len(labels))[:pairs].reshape(-1, 2), 2, permutations=5
    )
    assert np.isnan(found.z).all()
    assert np.isnan(found.p).all()
    assert found.observed.sum() == (2 if labels == [1, 1, 1] else 0)
