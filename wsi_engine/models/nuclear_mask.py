"""Where haematoxylin says nucleus: what the classical methods have in common before they part.

Every step looks at a bounded neighbourhood, and every value that a threshold meets is computed
in the same way wherever the tile begins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import filters, morphology

from wsi_engine.kernels import kernel
from wsi_engine.slide.stain import haematoxylin

BLUR_SIGMA_PX = 1.0
BLUR_REACH_PX = 4
OPENING = morphology.disk(2).astype(bool)
OPENING_REACH_PX = 4
LARGEST_HOLE_PX = 40

OTSU_SHARE = 0.9
"""Otsu's threshold on the slide's tissue, slightly lowered: pale nuclei are the smaller class."""
FAINTEST_TISSUE = 30
DEFAULT_THRESHOLD = 150
"""Haematoxylin in thousandths of optical density, for a slide that says nothing of nuclei."""


def smoothed(density: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Blur haematoxylin, shape (height, width), against the grain of the scanner."""
    smooth = ndimage.gaussian_filter(density.astype(np.float32), BLUR_SIGMA_PX, truncate=4.0)
    return np.asarray(smooth, np.float32)


def otsu_threshold(fields: npt.NDArray[np.uint8]) -> float | None:
    """Find the threshold between nuclei and the rest of a slide's tissue by Otsu's method.

    Parameters
    ----------
    fields
        Tissue of the slide, uint8, shape (n, side, side, 3).

    Returns
    -------
    float or None
        Haematoxylin in thousandths of optical density; ``None`` where there is no tissue, or
        all of it is alike.

    References
    ----------
    Otsu N. A threshold selection method from gray-level histograms. IEEE Trans Syst Man Cybern
    9:62-66, 1979.
    """
    smooth = np.stack([smoothed(field) for field in haematoxylin(fields)])
    tissue = smooth[smooth > FAINTEST_TISSUE]
    if tissue.size == 0 or np.ptp(tissue) == 0:
        return None
    return float(np.rint(OTSU_SHARE * filters.threshold_otsu(tissue)))


def cleaned(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Take threads and specks off a mask, and fill its small holes."""
    mask = ndimage.binary_opening(mask, OPENING)
    background, count = ndimage.label(~mask)
    hole = np.bincount(background.ravel(), minlength=count + 1) <= LARGEST_HOLE_PX
    hole[0] = False
    return np.asarray(mask | hole[background])


def window_sums(values: npt.NDArray[np.integer], radius: int) -> npt.NDArray[np.int32]:
    """Sum over a square of ``2 * radius + 1`` pixels around each pixel, exactly.

    Parameters
    ----------
    values
        Whole numbers, shape (height, width); their sum over a window must fit in 31 bits.
        Those at the border are repeated beyond it.
    """
    padded = np.pad(values.astype(np.int32), radius, mode="edge")
    return np.asarray(_box_sums(padded, 2 * radius + 1))


def window_means(density: npt.NDArray[np.generic], radius: int) -> npt.NDArray[np.float32]:
    """Mean over a square of ``2 * radius + 1`` pixels around each pixel; see `window_sums`."""
    pixels = np.float32((2 * radius + 1) ** 2)
    sums = window_sums(density.astype(np.int32), radius)
    return (sums / pixels).astype(np.float32)


@kernel
def _box_sums(padded: npt.NDArray[np.int32], side: int) -> npt.NDArray[np.int32]:
    # Running sums of integers: exact, so they do not depend on where the image starts.
    height, width = padded.shape[0] - side + 1, padded.shape[1] - side + 1
    columns = np.zeros(padded.shape[1], np.int32)
    out = np.empty((height, width), np.int32)
    for y in range(side - 1):
        columns += padded[y]
    for y in range(height):
        columns += padded[y + side - 1]
        total = np.int32(0)
        for x in range(side - 1):
            total += columns[x]
        for x in range(width):
            total += columns[x + side - 1]
            out[y, x] = total
            total -= columns[x]
        columns -= padded[y]
    return out
