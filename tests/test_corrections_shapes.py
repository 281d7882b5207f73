"""What is an edit of a shape, and what is only QuPath's rounding and reordering."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import rotate, translate

from tests.support.objects_by_hand import as_qupath_gives_back, disc
from wsi_engine.corrections.shapes import overlaps, rounding_px, same_shapes
from wsi_engine.corrections.snapshot import geometries

RING = disc(50, 50).difference(disc(50, 50, 2))
PAIR = shapely.MultiPolygon([disc(20, 20), disc(60, 20, 9)])
LINE = shapely.LineString([(0, 0), (10, 5), (20, 0)])
EMPTY = shapely.GeometryCollection()


def same(old: shapely.Geometry, new: shapely.Geometry) -> bool:
    return bool(same_shapes(geometries([old]), geometries([new]))[0])


def moved_vertex(shape: shapely.Polygon, k: int, by: float) -> shapely.Polygon:
    ring = np.array(shape.exterior.coords)[:-1]
    ring[k] += by
    return shapely.Polygon(ring)


@given(
    st.sampled_from([disc(50, 50), disc(9, 9, 3), RING, PAIR]),
    st.sampled_from([0, 1_000, 70_000, 140_000, 300_000]),
    st.integers(0, 23),
    st.floats(0, 1),
)
def test_what_qupath_gives_back_is_the_same(shape, far, turn, fraction):
    shape = shapely.transform(translate(shape, far + fraction, far), lambda p: np.round(p, 2))
    once = as_qupath_gives_back(shape, turn)
    assert same(shape, once)
    assert same(once, shape)


@given(st.integers(0, 23), st.sampled_from([-1, -0.5, 0.5, 1]), st.sampled_from([0, 300_000]))
def test_one_vertex_moved_by_half_a_pixel_is_an_edit(k, by, far):
    shape = translate(disc(50, 50), far, far)
    assert not same(shape, as_qupath_gives_back(moved_vertex(shape, k, by)))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (disc(50, 50), disc(50, 50), True),
        (disc(50, 50), disc(50, 51), False),
        (disc(50, 50), RING, False),
        (RING, shapely.Polygon(RING.exterior), False),
        (PAIR, PAIR.geoms[0], False),
        (shapely.box(0, 0, 9, 9), shapely.box(0, 0, 9, 9).segmentize(3), True),
        (shapely.box(0, 0, 9, 9), rotate(shapely.box(0, 0, 9, 9), 180), True),
        (shapely.box(0, 0, 9, 9), shapely.Polygon([(0, 0), (9, 0), (9, 9)]), False),
        (LINE, LINE.reverse(), True),
        (LINE, translate(LINE, 1), False),
        (shapely.Point(3, 3), shapely.Point(3, 3.004), True),
        (shapely.Point(3, 3), shapely.Point(3, 4), False),
        (EMPTY, shapely.Polygon(), True),
        (EMPTY, disc(5, 5), False),
        (disc(5, 5), EMPTY, False),
    ],
    ids=str,
)
def test_same_or_not(old, new, expected):
    assert same(old, new) == expected


def test_the_tolerance_follows_float32_and_stays_small():
    at = geometries([disc(x, 10) for x in (0, 60_000, 100_000, 200_000, 500_000)])
    tolerance = rounding_px(at, at)
    assert (np.diff(tolerance) > 0).all()
    assert tolerance[0] == pytest.approx(0.015, rel=0.01)
    assert tolerance[-1] < 0.1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (shapely.box(0, 0, 2, 1), shapely.box(0, 0, 2, 1), 1),
        (shapely.box(0, 0, 2, 1), shapely.box(1, 0, 3, 1), 1 / 3),
        (shapely.box(0, 0, 1, 1), shapely.box(2, 0, 3, 1), 0),
        (shapely.box(0, 0, 1, 1), EMPTY, 0),
        (LINE, LINE, np.nan),
        (shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]), shapely.box(0, 0, 2, 2), 0.5),
    ],
    ids=str,
)
def test_overlap(old, new, expected):
    found = overlaps(geometries([old]), geometries([new]))
    np.testing.assert_allclose(found, [expected])


def test_no_shapes_at_all():
    none = geometries([])
    assert same_shapes(none, none).shape == overlaps(none, none).shape == (0,)
