"""Tracing: borders run where pixels' borders run, unbiased, and never cross themselves."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import measure

from wsi_engine.nuclei import tracing
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.tracing import trace_labels

EIGHT = np.ones((3, 3), bool)


def image_of(*rows):
    """Read labels from text; a dot is background."""
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows], np.int32)


def trace(labels, field=None, level=0.0):
    """Polygons by label."""
    xy, offsets, ids = trace_labels(labels, field, level)
    return dict(zip(ids.tolist(), polygons_from_rings(xy, offsets), strict=True))


def filled(mask):
    """The mask without its holes; background that meets the outside at a corner is no hole."""
    return ndimage.binary_fill_holes(mask, EIGHT)


def random_blobs(count, seed, side=28):
    """Rough 4-connected masks with diagonal contacts, holes, spurs; some touch the image border."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), rng.uniform(0, 2))
        parts = measure.label(noise > np.quantile(noise, rng.uniform(0.3, 0.8)), connectivity=1)
        yield parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


# The rings


def test_a_pixel_becomes_the_diamond_of_its_edge_centres():
    xy, offsets, ids = trace_labels(image_of("....", "...5"))
    np.testing.assert_array_equal(xy, [[3.5, 1], [4, 1.5], [3.5, 2], [3, 1.5]])
    assert (offsets.tolist(), ids.tolist()) == ([0, 4], [5])
    assert (xy.dtype, offsets.dtype, ids.dtype) == (np.float64, np.int64, np.int64)


def test_rings_are_open_and_run_clockwise_on_the_screen():
    xy, _, _ = trace_labels(image_of(".11.", ".111"))
    assert not (xy[0] == xy[-1]).all()
    x, y = xy.T
    assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0  # y points down


def test_a_rectangle_keeps_its_place_and_loses_only_its_corners():
    """No half pixel is lost all round, as with contours through pixel centres."""
    labels = np.zeros((20, 30), np.int32)
    labels[4:12, 7:27] = 1
    polygon = trace(labels)[1]
    assert polygon.bounds == (7, 4, 27, 12)
    assert polygon.area == 8 * 20 - 0.5
    assert (polygon.centroid.x, polygon.centroid.y) == pytest.approx((17, 8), abs=1e-9)


@pytest.mark.parametrize(
    ("labels", "areas"),
    [
        (np.zeros((5, 6), np.int32), {}),
        (np.zeros((0, 0), np.int32), {}),
        (np.ones((3, 4), np.int32), {1: 12}),
        (image_of("1..2", "....", "3..4"), {1: 1, 2: 1, 3: 1, 4: 1}),
        (image_of("111", "1.1", "111"), {1: 9}),
        (image_of("111", "121", "111"), {1: 9, 2: 1}),
        (image_of("111.", "1.11", "111."), {1: 10}),
        (image_of(".111", "1..1", "1111"), {1: 9}),
        (image_of("1.11", "1.11", "...."), {1: 4}),
        (image_of("11.", "..1", ".11"), {1: 3}),
        (image_of("11.1", "...1", "9..."), {1: 2, 9: 1}),
        (image_of("7722", "7722"), {2: 4, 7: 4}),
        (image_of("12", "21"), {1: 1, 2: 1}),
    ],
    ids=[
        "empty",
        "no pixels",
        "whole image",
        "corners",
        "hole",
        "filled hole",
        "bay",
        "hole open at a corner",
        "largest of two parts",
        "parts that meet at a corner",
        "the upper of equal parts",
        "labels need not be in order",
        "checkerboard",
    ],
)
def test_each_label_gives_the_filled_outline_of_its_largest_part(labels, areas):
    polygons = trace(labels)
    assert {k: p.area + 0.5 for k, p in polygons.items()} == areas
    assert list(polygons) == sorted(polygons)
    assert all(p.is_valid for p in polygons.values())


def test_the_upper_of_two_equal_parts_is_kept():
    assert trace(image_of("11.1", "...1"))[1].bounds == (0, 0, 2, 1)


def test_the_image_border_does_not_cut_into_an_object():
    for polygon in trace(np.ones((6, 9), np.int32)).values():
        assert polygon.bounds == (0, 0, 9, 6)


def test_the_example_in_the_documentation_holds():
    result = doctest.testmod(tracing, extraglobs={"np": np})
    assert (result.failed, result.attempted > 0) == (0, True)


# Random masks


def test_area_is_that_of_the_pixels_less_half_a_pixel():
    """Each convex corner loses an eighth, each concave one wins it; there are four more convex."""
    for mask in random_blobs(300, seed=1):
        assert trace(mask.astype(np.int32))[1].area == filled(mask).sum() - 0.5


@pytest.mark.parametrize("with_field", [False, True])
def test_no_ring_of_1500_rough_masks_touches_or_crosses_itself(with_field):
    rng = np.random.default_rng(3)
    diagonal = 0
    for mask in random_blobs(1500, seed=2):
        a, b, c, d = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
        diagonal += bool(((a & d & ~b & ~c) | (b & c & ~a & ~d)).any())
        field = rng.normal(size=mask.shape).astype(np.float32) if with_field else None
        polygon = trace(mask.astype(np.int32), field)[1]
        assert polygon.is_valid
        # Not even at a vertex, where QuPath would split it.
        assert polygon.exterior.is_simple
        vertices = shapely.get_coordinates(polygon)[:-1]
        assert len(np.unique(vertices, axis=0)) == len(vertices)
    assert diagonal > 500


def test_extreme_fields_do_not_make_diagonal_contacts_cross():
    """A field can push every vertex as far out, or in, as it will go."""
    mask = image_of("1.1.1.", "111111", ".1.1.1", "111111", "1.1.1.")
    rng = np.random.default_rng(0)
    for _ in range(300):
        field = rng.choice([-1e6, -1e-6, 1e-6, 1e6], mask.shape).astype(np.float32)
        assert trace(mask, field)[1].is_valid


def test_outlines_of_touching_labels_do_not_overlap():
    rng = np.random.default_rng(5)
    for _ in range(50):
        labels = rng.integers(0, 4, (12, 12)).astype(np.int32)
        polygons = list(trace(labels).values())
        for k, one in enumerate(polygons):
            for other in polygons[k + 1 :]:
                # What lies in the hole of another is covered by it: holes are filled.
                if not (one.covers(other) or other.covers(one)):
                    assert one.intersection(other).area == 0


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.int32, (9, 11), elements=st.integers(0, 3)),
    st.integers(0, 40),
    st.integers(0, 40),
    st.booleans(),
)
def test_shifting_the_image_shifts_the_rings_by_exactly_as_much(inner, dx, dy, with_field):
    labels = np.pad(inner, 1)
    field = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
    shift = ((dy, 3), (dx, 5))
    xy, offsets, ids = trace_labels(labels, field if with_field else None)
    moved = trace_labels(np.pad(labels, shift), np.pad(field, shift) if with_field else None)
    # Half pixels are exact; shares of a pixel lose their last bits to the larger integer.
    tolerance = 1e-12 if with_field else 0
    np.testing.assert_allclose(moved[0], xy + np.array([dx, dy]), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(moved[1], offsets)
    np.testing.assert_array_equal(moved[2], ids)


# Discs: no bias, and finer than a pixel with a field


def discs(count, seed=0):
    """Discs of any size at any place between pixels, and the distance of pixels to their edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :40] + 0.5
    for _ in range(count):
        centre, radius = rng.uniform(18, 22, 2), rng.uniform(5, 14)
        inside = radius - np.hypot(x - centre[0], y - centre[1])
        yield centre, radius, inside.astype(np.float32)


def test_a_traced_disc_has_no_bias_in_place_or_size():
    off_truth, off_pixels, excess = [], [], []
    for centre, radius, inside in discs(300):
        mask = inside > 0
        polygon = trace(mask.astype(np.int32))[1]
        place = np.array([polygon.centroid.x, polygon.centroid.y])
        off_truth.append(place - centre)
        off_pixels.append(place - np.argwhere(mask)[:, ::-1].mean(axis=0) - 0.5)
        excess.append(np.sqrt(polygon.area / np.pi) - radius)
    assert np.abs(np.mean(off_truth, axis=0)).max() < 0.005
    assert np.abs(off_pixels).max() < 0.005
    # Half a pixel of area is 0.01 px in the radius of these discs.
    assert abs(np.mean(excess)) < 0.02


def test_a_field_places_every_disc_to_a_fraction_of_a_pixel():
    for centre, radius, inside in discs(100):
        polygon = trace((inside > 0).astype(np.int32), inside)[1]
        place = np.array([polygon.centroid.x, polygon.centroid.y])
        assert np.abs(place - centre).max() < 0.02
        assert np.sqrt(polygon.area / np.pi) == pytest.approx(radius, rel=0.005)
        vertices = shapely.get_coordinates(polygon)
        np.testing.assert_allclose(np.hypot(*(vertices - centre).T), radius, atol=0.06)


@pytest.mark.parametrize("level", [-2.0, 0.0, 1.5])
def test_the_ring_lies_where_the_field_crosses_the_level(level):
    for _, radius, inside in discs(10):
        polygon = trace((inside > level).astype(np.int32), inside, level)[1]
        assert np.sqrt(polygon.area / np.pi) == pytest.approx(radius - level, rel=0.01)


def test_where_the_field_does_not_cross_the_level_the_border_is_half_way():
    """Between touching nuclei both sides lie above the level."""
    labels = image_of("1122", "1122")
    field = np.array([[1, 1, 9, 9], [1, 1, 9, 9]], np.float32)
    polygons = trace(labels, field, 0.0)
    assert polygons[1].bounds == (0, 0, 2, 2)
    assert polygons[2].bounds == (2, 0, 4, 2)
