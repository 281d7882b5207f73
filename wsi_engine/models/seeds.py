"""Seeds of touching nuclei, one connected set of pixels each, for a watershed to flood from.

All of them look at a bounded neighbourhood, so every tile that sees a clump finds the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import measure, morphology

from wsi_engine.kernels import kernel

NEIGHBOURHOOD = morphology.disk(4).astype(bool)
EVERY_SIDE = np.ones((3, 3), bool)

STEPS_PER_PX = 16
"""Heights are compared as whole numbers of so many steps to the pixel: exactly."""
DOME_REACH_PX = 16
"""How far away a higher maximum is looked for."""


def depth_of(
    mask: npt.NDArray[np.bool_], deepest_px: float, sigma_px: float
) -> npt.NDArray[np.float32]:
    """Distance of each pixel to the border of a mask, cut off and smoothed.

    Cut off at ``deepest_px``, the distance of a pixel does not depend on what is farther away.
    """
    depth = np.minimum(ndimage.distance_transform_edt(mask), deepest_px).astype(np.float32)
    return np.asarray(ndimage.gaussian_filter(depth, sigma_px, truncate=4.0))


def peaks(relief: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Label the places that are highest within 2 µm around, and more than 1 high."""
    peak = relief == ndimage.maximum_filter(relief, footprint=NEIGHBOURHOOD)
    return np.asarray(ndimage.label(peak & mask & (relief > 1), EVERY_SIDE)[0], np.int32)


def domes(
    relief: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], height: float
) -> npt.NDArray[np.int32]:
    """Label the h-maxima: what stands out of its surroundings by a height, and no less.

    Two maxima are one where one can walk from the lower to the higher without descending as
    much as the height below the lower. The walk is as long as ``DOME_REACH_PX`` at most.

    Parameters
    ----------
    relief
        float32, shape (height, width), in pixels.
    height
        In pixels.

    References
    ----------
    Soille P. Morphological Image Analysis, 2nd ed., Springer 2004, section 6.3.4.
    """
    level = np.rint(np.where(mask, relief, 0) * STEPS_PER_PX).astype(np.int32)
    step = round(height * STEPS_PER_PX)
    flooded = _raised(level, step, DOME_REACH_PX)
    # Only below a maximum that no higher one reaches has the flood not risen at all.
    top = mask & (level - flooded == step)
    plateaus = measure.label(np.where(mask, flooded, -step - 1), background=-step - 1)
    has_top = np.zeros(int(plateaus.max(initial=0)) + 1, bool)
    has_top[plateaus[top]] = True
    has_top[0] = False
    return np.asarray(measure.label(has_top[plateaus], connectivity=2), np.int32)


@kernel
def _raised(level: npt.NDArray[np.int32], step: int, rounds: int) -> npt.NDArray[np.int32]:
    """Lower a relief by a step, then raise each pixel to its highest neighbour, but not above.

    So often that a maximum has its say ``rounds`` pixels away (reconstruction by dilation, cut
    short).
    """
    height, width = level.shape
    before = level - np.int32(step)
    after = before.copy()
    for _ in range(rounds):
        rose = False
        for y in range(height):
            for x in range(width):
                if before[y, x] == level[y, x] or level[y, x] == 0:
                    continue
                highest = before[y, x]
                for row in range(max(0, y - 1), min(height, y + 2)):
                    for column in range(max(0, x - 1), min(width, x + 2)):
                        highest = max(highest, before[row, column])
                highest = min(highest, level[y, x])
                if highest > after[y, x]:
                    after[y, x] = highest
                    rose = True
        if not rose:
            break
        before[:] = after
    return before
