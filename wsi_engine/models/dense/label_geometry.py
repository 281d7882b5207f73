"""Borders and distances in a label image, from which targets are made.

Label images are uint16 and twice as fine as the model's pixels: 0 is background, ``UNKNOWN`` is
a pixel of which nothing is known, all else is a nucleus. A target is the mean over the 2 x 2
label pixels of a model pixel, so it says how much of the pixel is nucleus; where one of them
is unknown, so is the pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.kernels import kernel
from wsi_engine.nuclei import raster

UNKNOWN = raster.UNKNOWN

FINER = 2
"""Label pixels per model pixel."""

BACKGROUND_BEYOND, NUCLEUS_BEYOND, UNKNOWN_BEYOND, NOTHING_BEYOND = 0, 1, 2, 3

Labels = npt.NDArray[np.uint16]


def across_border(
    labels: Labels, reach_px: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Find the nearest pixel with another label, around each pixel.

    Parameters
    ----------
    labels
        Shape (h, w).
    reach_px
        How far it is looked for, in model pixels.

    Returns
    -------
    distance
        From the pixel's centre to the border before that pixel, in model pixels, shape (h, w);
        infinite where there is none within reach.
    beyond
        What lies there: background, a nucleus (from a nucleus: another one), the unknown, or
        nothing. uint8, shape (h, w).
    """
    distance, beyond = _across_border(labels, reach_px * FINER + 0.5)
    return (distance - 0.5) / FINER, beyond


@kernel
def _across_border(
    labels: npt.NDArray[np.uint16], farthest: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    height, width = labels.shape
    reach = int(farthest)
    distance = np.full((height, width), np.inf, np.float32)
    beyond = np.full((height, width), 3, np.uint8)
    for y in range(height):
        for x in range(width):
            own = labels[y, x]
            nearest, what = int(farthest * farthest), 3
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    apart = dy * dy + dx * dx
                    if apart > nearest:
                        continue
                    row, column = y + dy, x + dx
                    if row < 0 or column < 0 or row >= height or column >= width:
                        other = np.uint16(65535)
                    else:
                        other = labels[row, column]
                    if other == own:
                        continue
                    kind = 2 if other == 65535 else (0 if other == 0 else 1)
                    if apart < nearest or (apart == nearest and kind < what):
                        nearest, what = apart, kind
            if what < 3:
                distance[y, x] = np.sqrt(np.float32(nearest))
                beyond[y, x] = what
    return distance, beyond


def depth_in_nuclei(
    labels: Labels,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Distance of each pixel of a nucleus to its border.

    Returns
    -------
    depth
        In model pixels, float32, shape (h, w); 0 outside of nuclei.
    to_nucleus
        Whether the nearest border is that to another nucleus.
    to_unknown
        Whether the unknown is nearer than any border, so that the depth is not known.
    """
    nucleus = (labels != 0) & (labels != UNKNOWN)
    _, beyond = across_border(labels, 0.5 / FINER)  # the next pixel at each side
    to_background = _distance_to(nucleus & (beyond == BACKGROUND_BEYOND))
    to_other = _distance_to(nucleus & (beyond == NUCLEUS_BEYOND))
    to_unknown = _distance_to(_with_frame(labels == UNKNOWN))[1:-1, 1:-1] - 1
    nearest = np.minimum(to_background, to_other)
    depth = np.where(nucleus, (nearest + 0.5) / FINER, 0).astype(np.float32)
    return depth, nucleus & (to_other < to_background), nucleus & (to_unknown < nearest)


def _with_frame(unknown: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.pad(unknown, 1, constant_values=True)


def _distance_to(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    if not mask.any():
        return np.full(mask.shape, float(sum(mask.shape)))
    return np.asarray(ndimage.distance_transform_edt(~mask))


def shares(values: npt.NDArray[Any], margin_px: int) -> npt.NDArray[np.float32]:
    """Average over the label pixels of each model pixel of the crop, float32."""
    return np.asarray(_by_pixel(values, margin_px).mean(axis=(1, 3), dtype=np.float32))


def least(values: npt.NDArray[Any], margin_px: int) -> npt.NDArray[np.float32]:
    """Lowest over the label pixels of each model pixel of the crop, float32."""
    return np.asarray(_by_pixel(values, margin_px).min(axis=(1, 3)), np.float32)


def _by_pixel(values: npt.NDArray[Any], margin_px: int) -> npt.NDArray[Any]:
    height, width = (side // FINER - 2 * margin_px for side in values.shape)
    first = margin_px * FINER
    crop = values[first : first + height * FINER, first : first + width * FINER]
    return crop.reshape(height, FINER, width, FINER)
