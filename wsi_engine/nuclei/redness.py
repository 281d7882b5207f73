"""Red blood cells among the predictions: what is red all over is no nucleus."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.raster import rasterise
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.redness import lab_b

REDDEST_B = -8.0
"""Mean b* of a nucleus. On 41 fields of colon, what has more was 668 of 1,867 false positives, and
no true nucleus."""

_UNITS = 256
"""b* is summed in whole numbers, so that the sum does not depend on the tile."""


def is_red(found: Predictions, pixels: RGB) -> npt.NDArray[np.bool_]:
    """Tell which nuclei are redder than any is, shape (n,).

    Parameters
    ----------
    found
        Nuclei in model pixels.
    pixels
        The pixels that they were found in, shape (height, width, 3).
    """
    height, width = pixels.shape[:2]
    labels = rasterise(found.xy, found.offsets, (height, width))
    return red_labels(labels, len(found), pixels)


def red_labels(labels: npt.NDArray[np.integer], number: int, pixels: RGB) -> npt.NDArray[np.bool_]:
    """Tell which of the labels 1 to ``number`` are redder than any nucleus is, shape (number,).

    Parameters
    ----------
    labels
        0 for background, k in nucleus k, shape (height, width).
    pixels
        Shape (height, width, 3).
    """
    values = np.rint(lab_b(pixels) * _UNITS).ravel()
    count = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    total = np.bincount(labels.ravel(), values, minlength=number + 1)[1:]
    return np.asarray(total > REDDEST_B * _UNITS * np.maximum(count, 1))
