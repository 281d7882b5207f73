"""The watershed on whole numbers does what scikit-image's does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage import segmentation

from wsi_engine.models.flooding import flooded


def basins(seed: int, side: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A smooth relief, seeds in its valleys, and a mask with holes."""
    rng = np.random.default_rng(seed)
    relief = ndimage.gaussian_filter(rng.normal(0, 60, (side, side)), 4).astype(np.float32)
    lowest = relief == ndimage.minimum_filter(relief, size=15)
    seeds, _ = ndimage.label(lowest)
    return relief, seeds.astype(np.int32), relief < np.percentile(relief, 85)


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_scikit_image(seed: int):
    relief, seeds, mask = basins(seed)
    ours = flooded(relief, seeds, mask)
    theirs = segmentation.watershed(relief, seeds, mask=mask)
    assert (ours > 0).any()
    np.testing.assert_array_equal(ours > 0, theirs > 0)
    # They compare fractions of our steps.
    assert (ours != theirs).mean() < 0.02


def test_floods_meet_on_the_ridge():
    relief = np.abs(np.arange(41, dtype=np.float32) - 25)[None].repeat(9, axis=0) * -1
    seeds = np.zeros(relief.shape, np.int32)
    seeds[4, 2], seeds[4, 38] = 1, 2
    labels = flooded(relief, seeds, np.ones(relief.shape, bool))
    assert (labels[:, :25] == 1).all()
    assert (labels[:, 26:] == 2).all()


def test_floods_meet_in_the_middle_of_a_plain():
    seeds = np.zeros((5, 21), np.int32)
    seeds[2, 0], seeds[2, 20] = 7, 3
    labels = flooded(np.zeros((5, 21), np.float32), seeds, np.ones((5, 21), bool))
    assert labels[2].tolist() == [7] * 11 + [3] * 10


def test_what_no_flood_reaches_stays_dry():
    mask = np.ones((7, 9), bool)
    mask[:, 4] = False
    seeds = np.zeros((7, 9), np.int32)
    seeds[3, 1], seeds[0, 4] = 1, 2  # the second is outside of the mask
    labels = flooded(np.ones((7, 9), np.float32), seeds, mask)
    assert (labels[:, :4] == 1).all()
    assert (labels[:, 4:] == 0).all()


def test_without_seeds_there_is_no_flood():
    nothing, everywhere = np.zeros((4, 4), np.int32), np.ones((4, 4), bool)
    assert not flooded(np.ones((4, 4), np.float32), nothing, everywhere).any()
