"""Colour deconvolution: the amounts are right, and the same whatever a pixel lies beside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.slides import noise
from wsi_engine.slide.stain import MILLI, RUIFROK_HED, haematoxylin

UNIT = RUIFROK_HED / np.linalg.norm(RUIFROK_HED, axis=1, keepdims=True)
HAEMATOXYLIN, EOSIN, DAB = UNIT


def colour(density):
    """RGB of an optical density, as the camera rounds it."""
    return np.clip(np.rint(256 * 10.0 ** -np.asarray(density) - 1), 0, 255).astype(np.uint8)


def amount(pixel):
    return int(haematoxylin(np.array(pixel, np.uint8).reshape(1, 1, 3))[0, 0])


@pytest.mark.parametrize("density", [0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.3])
def test_pure_haematoxylin_gives_its_amount(density):
    # A grey level at the dark end of red is as much as 1.5 % of density.
    assert amount(colour(density * HAEMATOXYLIN)) == pytest.approx(density * MILLI, abs=12)


@pytest.mark.parametrize("stain", [EOSIN, DAB], ids=["eosin", "DAB"])
@pytest.mark.parametrize("density", [0.1, 0.3, 0.6])
def test_other_stains_are_no_haematoxylin(stain, density):
    assert abs(amount(colour(density * stain))) <= 12


def test_stains_add_up():
    both = colour(0.6 * HAEMATOXYLIN + 0.3 * EOSIN)
    assert amount(both) == pytest.approx(600, abs=12)


def test_white_is_nothing():
    assert amount([255, 255, 255]) == 0


def test_other_stain_vectors_can_be_given():
    stains = np.array([[0.55, 0.75, 0.35], [0.1, 0.9, 0.2], [0.3, 0.5, 0.8]])
    own = stains[0] / np.linalg.norm(stains[0])
    image = colour(0.8 * own).reshape(1, 1, 3)
    assert haematoxylin(image, stains)[0, 0] == pytest.approx(800, abs=12)
    # Only the direction of a vector counts.
    assert haematoxylin(image, stains * 3)[0, 0] == haematoxylin(image, stains)[0, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=64))
def test_it_is_ruifroks_formula_to_a_thousandth(pixels):
    """Also in colours that no tissue has: nothing overflows."""
    rgb = np.array(pixels, np.uint8)[None]
    density = -np.log10((rgb + 1.0) / 256)
    exact = (density @ np.linalg.inv(UNIT))[..., 0] * MILLI
    # Densities and weights are rounded to integers first, at most 2.408 * 3 / 2**13 of error.
    assert np.abs(haematoxylin(rgb) - exact).max() <= 2


IMAGE = noise(60, 80)
WHOLE = haematoxylin(IMAGE)


def test_shape_and_type():
    assert WHOLE.shape == (60, 80)
    assert WHOLE.dtype == np.int16
    assert haematoxylin(np.zeros((4, 5, 6, 3), np.uint8)).shape == (4, 5, 6)
    assert haematoxylin(np.zeros((2, 0, 6, 3), np.uint8)).shape == (2, 0, 6)


@settings(deadline=None)
@given(st.integers(0, 59), st.integers(0, 79), st.integers(1, 60), st.integers(1, 80))
def test_a_value_does_not_depend_on_its_neighbours(top, left, height, width):
    part = IMAGE[top : top + height, left : left + width]
    expected = WHOLE[top : top + height, left : left + width]
    np.testing.assert_array_equal(haematoxylin(part), expected)
    np.testing.assert_array_equal(haematoxylin(part[::-1, ::-1]), expected[::-1, ::-1])
    np.testing.assert_array_equal(haematoxylin(part.transpose(1, 0, 2)), expected.T)


def test_a_batch_is_its_images():
    batch = np.stack([IMAGE, IMAGE[::-1], 255 - IMAGE])
    for one, image in zip(haematoxylin(batch), batch, strict=True):
        np.testing.assert_array_equal(one, haematoxylin(image))
