"""Steps that several decoders share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.models.dense.method import LIMITS, Maps
from wsi_engine.models.label_objects import ObjectLimits, label_predictions, means, plausible
from wsi_engine.nuclei.predictions import Predictions

FULL = 255
"""The uint8 that stands for 1."""

LARGEST_HOLE_PX = 16
SMALLEST_SEED_PX = 5
SEED_SIDES = ndimage.generate_binary_structure(2, 1)

Mask = npt.NDArray[np.bool_]
LabelImage = npt.NDArray[np.int32]


def above(level_map: npt.NDArray[np.float32], level: float) -> Mask:
    """Mask the pixels at or above a level in [0, 1], small holes filled."""
    mask = level_map >= level * FULL
    background, count = ndimage.label(~mask)
    hole = np.bincount(background.ravel(), minlength=count + 1) <= LARGEST_HOLE_PX
    hole[0] = False
    return np.asarray(mask | hole[background])


def components(mask: Mask, smallest_px: int = SMALLEST_SEED_PX) -> LabelImage:
    """Label the connected parts of a mask that are not mere specks."""
    labels, count = ndimage.label(mask, SEED_SIDES)
    number = np.arange(count + 1, dtype=np.int32)
    number[np.bincount(labels.ravel(), minlength=count + 1) < smallest_px] = 0
    return np.asarray(number[labels])


def nuclei_of(
    labels: LabelImage,
    foreground: npt.NDArray[np.float32],
    level: float,
    limits: ObjectLimits = LIMITS,
) -> Predictions:
    """Outline the plausible labels where the foreground crosses a level.

    Parameters
    ----------
    foreground
        How much nucleus each pixel is, 0 to ``FULL``. Its mean over a nucleus is the score.
    level
        In [0, 1].
    limits
        What is plausible, at this pixel size.
    """
    labels = plausible(labels, limits)
    scores = means(labels, foreground) / FULL
    # Half a step below, for a pixel at the level itself is inside.
    return label_predictions(labels, scores, foreground, level * FULL - 0.5)


def channel(maps: Maps, index: int) -> npt.NDArray[np.float32]:
    """Return one map, 0 to ``FULL``."""
    return np.ascontiguousarray(maps[..., index], np.float32)


def blurred(level_map: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Blur a map by one pixel, so that its steps leave no plateaus; reaches 4 pixels."""
    return np.asarray(ndimage.gaussian_filter(level_map, 1.0, truncate=4.0))


BLUR_REACH_PX = 4
