"""Resampling by any real factor: exact where it can be, without drift, the same from anywhere."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.slides import dot_centre, dots, noise
from wsi_engine.slide.resampling import area_weights, resample

RATIOS = [2.012, 1.901, 1.002]
"""0.2485, 0.263 and 0.499 µm to 0.5 µm."""

ratios = st.floats(0.1, 40.0)


def shrink(image, ratio, box=None, offset=(0.0, 0.0)):
    """Resample a box of output pixels (all, if none) from an image; white around it."""
    height, width = image.shape[:2]
    x, y, across, down = box or (0, 0, int(width / ratio), int(height / ratio))
    horizontal = area_weights(x, across, ratio, offset[0])
    vertical = area_weights(y, down, ratio, offset[1])
    source = np.full(
        (vertical.stop - vertical.start, horizontal.stop - horizontal.start, 3), 255, np.uint8
    )
    rows = np.arange(vertical.start, vertical.stop)
    columns = np.arange(horizontal.start, horizontal.stop)
    rows_in, columns_in = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    source[np.ix_(rows_in, columns_in)] = image[np.ix_(rows[rows_in], columns[columns_in])]
    return resample(source, horizontal, vertical)


@settings(deadline=None)
@given(st.integers(-10_000, 1_000_000), st.integers(1, 50), ratios, st.floats(-1e5, 1e5))
def test_weights_are_shares_of_one(start, count, ratio, offset):
    axis = area_weights(start, count, ratio, offset)
    assert (axis.weights.sum(axis=1) == 1 << 14).all()
    assert (axis.weights >= 0).all()


@settings(deadline=None)
@given(st.integers(-10_000, 1_000_000), st.integers(1, 50), ratios, st.floats(-1e5, 1e5))
def test_weights_are_centred_on_their_pixel(start, count, ratio, offset):
    axis = area_weights(start, count, ratio, offset)
    taps = axis.first[:, None] + np.arange(axis.weights.shape[1]) + 0.5
    centroid = (taps * axis.weights).sum(axis=1) / (1 << 14)
    centre = offset + (np.arange(start, start + count) + 0.5) * ratio
    # A border that cuts a source pixel takes its share from the middle of that pixel.
    largest = 0.125 / max(ratio, 1) + 0.001 * max(ratio, 1)
    assert np.abs(centroid - centre).max() <= largest


@settings(deadline=None)
@given(st.integers(-1000, 1000), st.integers(1, 50), ratios)
def test_only_pixels_between_start_and_stop_are_needed(start, count, ratio):
    axis = area_weights(start, count, ratio)
    assert axis.start == axis.first.min()
    assert axis.stop == (axis.first + axis.weights.shape[1]).max()
    assert axis.start <= start * ratio + 1e-6
    assert axis.stop >= (start + count) * ratio - 1e-6


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_whole_powers_of_two_are_exact_means(ratio):
    image = noise(96, 128)
    blocks = image.reshape(96 // ratio, ratio, 128 // ratio, ratio, 3).astype(int)
    total = blocks.sum(axis=(1, 3))
    exact = (total + ratio * ratio // 2) // (ratio * ratio)
    np.testing.assert_array_equal(shrink(image, float(ratio)), exact)


def test_enlarging_is_linear_interpolation():
    image = np.zeros((1, 4, 3), np.uint8)
    image[0, :, 0] = [0, 100, 200, 100]
    x, y = area_weights(1, 6, 0.5), area_weights(0, 1, 1.0)
    assert resample(image[:, x.start : x.stop], x, y)[0, :, 0].tolist() == [
        25, 75, 125, 175, 175, 125,
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1.0, 6.0),
    st.integers(0, 5),
    st.integers(0, 5),
    st.floats(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_a_pixel_is_the_mean_over_the_area_it_covers(ratio, x, y, offset, seed):
    image = noise(80, 90, seed)
    got = shrink(image, ratio, (x, y, 5, 4), (offset, offset))
    # The integral over [0, t) of a row of pixels is linear between whole t.
    integral = np.pad(image.astype(float).cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))

    def at(edges, axis, values):
        low = np.floor(edges).astype(int)
        part = (edges - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        return values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part

    columns, rows = offset + (x + np.arange(6)) * ratio, offset + (y + np.arange(5)) * ratio
    edges = at(columns, 1, at(rows, 0, integral))
    mean = np.diff(np.diff(edges, axis=0), axis=1) / ratio**2
    assert np.abs(got - mean).max() <= 0.53


@pytest.mark.parametrize("ratio", RATIOS)
def test_nothing_drifts_across_a_wide_image(ratio):
    places = np.column_stack([np.linspace(40.3, 2960.7, 25), np.full(25, 40.0)])
    small = shrink(dots(80, 3000, places, sigma=4), ratio)
    expected = places / ratio
    found = [dot_centre(small, x, y, reach=12) for x, y in expected]
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("ratio", [*RATIOS, 1.0, 3.7])
def test_shrinking_keeps_the_mean_of_an_image(ratio):
    image = noise(300, 400)
    image[:40], image[-40:], image[:, :40], image[:, -40:] = 255, 255, 255, 255
    small = shrink(image, ratio)
    darkness = (255.0 - small).sum() * ratio**2
    assert darkness == pytest.approx((255.0 - image).sum(), rel=2e-4)


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("ratio", [*RATIOS, 0.3, 1 / 3, 17.77])
def test_an_even_image_stays_even(value, ratio):
    image = np.full((120, 120, 3), value, np.uint8)
    box = (2, 2, max(1, int(110 / ratio) - 3), max(1, int(110 / ratio) - 3))
    assert np.unique(shrink(image, ratio, box)).tolist() == [value]


IMAGE = noise(160, 200)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([*RATIOS, 2.0, 1.0, 0.7, 3.33]),
    st.integers(-20, 60),
    st.integers(-20, 60),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0, 2),
)
@example(2.012, 31, 17, 1, 1, 0.0)
def test_a_value_does_not_depend_on_the_box_it_is_read_with(ratio, x, y, width, height, offset):
    whole = shrink(IMAGE, ratio, (-20, -20, 120, 120), (offset, offset))
    part = shrink(IMAGE, ratio, (x, y, width, height), (offset, offset))
    np.testing.assert_array_equal(part, whole[y + 20 :, x + 20 :][:height, :width])
