"""Suppression of star-convex polygons: what stays, in which order, and how fast."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon, STRtree

from wsi_engine.models.suppression import star_areas, star_polygons, suppress

RAYS = 32


def circles(*rows: tuple[float, float, float, float]) -> tuple[np.ndarray, ...]:
    """(x, y, radius, score) per circle."""
    table = np.array(rows, float)
    distances = np.repeat(table[:, 2:3], RAYS, axis=1).astype(np.float32)
    return table[:, :2], distances, table[:, 3].astype(np.float32)


@pytest.mark.parametrize(
    ("case", "rows", "stay"),
    [
        ("apart", [(0, 0, 5, 0.5), (20, 0, 5, 0.9)], [1, 0]),
        ("the better of two that overlap", [(0, 0, 5, 0.5), (1, 0, 5, 0.9)], [1]),
        ("touching", [(0, 0, 5, 0.9), (9, 0, 5, 0.5)], [0, 1]),
        ("contained: the share is that of the smaller", [(0, 0, 20, 0.9), (5, 5, 3, 0.8)], [0]),
        ("containing", [(0, 0, 20, 0.8), (5, 5, 3, 0.9)], [1]),
        ("what a suppressed one overlapped may stay",
         [(0, 0, 5, 0.9), (5, 0, 5, 0.8), (10, 0, 5, 0.7)], [0, 2]),
        ("equal scores: the upper one", [(0, 1, 5, 0.5), (0, 0, 5, 0.5)], [1]),
        ("equal scores on a line: the left one", [(1, 0, 5, 0.5), (0, 0, 5, 0.5)], [1]),
    ],
)  # fmt: skip
def test_what_stays(case: str, rows: list[tuple[float, ...]], stay: list[int]) -> None:
    assert suppress(*circles(*rows), max_overlap=0.3).tolist() == stay, case


def test_nothing_in_nothing_out() -> None:
    empty = np.empty((0, RAYS), np.float32)
    assert len(suppress(np.empty((0, 2)), empty, np.empty(0, np.float32), 0.3)) == 0


def random_stars(rng: np.random.Generator, count: int, side: float) -> tuple[np.ndarray, ...]:
    centres = rng.uniform(0, side, (count, 2))
    radii = rng.uniform(3, 8, (count, 1)) * rng.uniform(0.7, 1.3, (count, RAYS))
    return centres, radii.astype(np.float32), rng.random(count).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), max_overlap=st.sampled_from([0.1, 0.3, 0.5]))
def test_no_two_that_stay_overlap_by_more_than_allowed(seed: int, max_overlap: float) -> None:
    centres, distances, scores = random_stars(np.random.default_rng(seed), 80, 60)
    keep = suppress(centres, distances, scores, max_overlap)
    shapes = [Polygon(ring) for ring in star_polygons(centres[keep], distances[keep])]
    for a, b in STRtree(shapes).query(shapes, predicate="intersects").T:
        if a < b:
            smaller = min(shapes[a].area, shapes[b].area)
            # Areas along scan lines are accurate to a few percent of the smaller polygon.
            assert shapes[a].intersection(shapes[b]).area <= (max_overlap + 0.04) * smaller


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_choice_does_not_depend_on_the_order_of_the_input(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres, distances, scores = random_stars(rng, 100, 60)
    scores = np.round(scores, 1)  # many ties
    order = rng.permutation(len(scores))
    first = suppress(centres, distances, scores, 0.3)
    second = order[suppress(centres[order], distances[order], scores[order], 0.3)]
    assert first.tolist() == second.tolist()


def test_areas_are_those_of_the_polygons() -> None:
    centres, distances, _ = random_stars(np.random.default_rng(1), 20, 60)
    expected = [Polygon(ring).area for ring in star_polygons(centres, distances)]
    assert star_areas(distances) == pytest.approx(expected)


def test_polygons_far_apart_need_no_more_memory() -> None:
    rows = [(0, 0, 5, 0.5), (1e7, 1e7, 5, 0.9), (1e7 + 1, 1e7, 5, 0.4)]
    assert suppress(*circles(*rows), max_overlap=0.3).tolist() == [1, 0]


def test_time_grows_with_the_number_of_polygons() -> None:
    """1 M candidates may take 20 s, so 100 k of the same density 2 s."""
    rng = np.random.default_rng(0)
    count, crowd = 100_000, 20
    nuclei = rng.uniform(0, 3000, (count // crowd, 2))
    centres = np.repeat(nuclei, crowd, axis=0) + rng.normal(0, 1.5, (count, 2))
    distances = rng.uniform(4, 8, (count, RAYS)).astype(np.float32)
    scores = rng.random(count).astype(np.float32)
    suppress(centres[:10], distances[:10], scores[:10], 0.3)  # compiled
    start = time.process_time()
    keep = suppress(centres, distances, scores, 0.3)
    assert time.process_time() - start < 2
    assert count // crowd * 0.5 < len(keep) < count // crowd * 1.5
