"""One step along the gradient: borders go to where the image falls off most steeply, close by."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel

SUBSTEPS = 4
"""Places that are tried per pixel along the normal of a border."""

SMOOTHED_OVER = 2
"""The move of a vertex is the mean over so many neighbours on each side, and its own."""


@kernel
def stepped(
    xy: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.int64],
    territory: npt.NDArray[np.int32],
    image: npt.NDArray[np.float32],
    reach_px: int,
) -> npt.NDArray[np.float64]:
    """Move the vertices of rings along their normals.

    Parameters
    ----------
    xy, offsets
        Rings as in `Predictions`.
    territory
        Label image, k + 1 where ring k may get to; int32, shape (height, width).
    image
        Brighter inside than around; float32, shape (height, width).
    reach_px
        Furthest move.

    Returns
    -------
    numpy.ndarray
        The vertices, float64, shape (v, 2). Where nothing falls off within reach, they stay.
    """
    out = xy.copy()
    for k in range(offsets.size - 1):
        ring = xy[offsets[k] : offsets[k + 1]]
        count = len(ring)
        turning = 0.0
        for i in range(count):
            after = (i + 1) % count
            turning += ring[i, 0] * ring[after, 1] - ring[after, 0] * ring[i, 1]
        sense = 1.0 if turning > 0 else -1.0
        moves, normals = np.zeros(count), np.zeros((count, 2))
        for i in range(count):
            ahead, behind = ring[(i + 2) % count], ring[(i - 2) % count]
            nx, ny = sense * (ahead[1] - behind[1]), -sense * (ahead[0] - behind[0])
            length = math.hypot(nx, ny)
            if length == 0:
                continue
            normals[i] = nx / length, ny / length
            moves[i] = _best_move(ring[i], normals[i], k + 1, territory, image, reach_px)
        for i in range(count):
            mean = 0.0
            for j in range(-SMOOTHED_OVER, SMOOTHED_OVER + 1):
                mean += moves[(i + j) % count]
            out[offsets[k] + i] += normals[i] * (mean / (2 * SMOOTHED_OVER + 1))
    return out


@kernel
def _best_move(
    vertex: npt.NDArray[np.float64],
    normal: npt.NDArray[np.float64],
    label: int,
    territory: npt.NDArray[np.int32],
    image: npt.NDArray[np.float32],
    reach_px: int,
) -> float:
    """Return how far outwards, less than 0 for inwards, the image falls off most steeply."""
    best, steepest = 0.0, 0.0
    for tried in range(2 * SUBSTEPS * reach_px + 1):
        # 0, 1, -1, 2, -2 ...: of equals the nearest.
        step = (tried + 1) // 2 * (1 if tried % 2 else -1) / SUBSTEPS
        x, y = vertex[0] + step * normal[0], vertex[1] + step * normal[1]
        row, column = math.floor(y), math.floor(x)
        if not (0 <= row < image.shape[0] and 0 <= column < image.shape[1]):
            continue
        if step != 0 and territory[row, column] != label:
            continue
        fall = _at(image, x - 0.5 * normal[0], y - 0.5 * normal[1]) - _at(
            image, x + 0.5 * normal[0], y + 0.5 * normal[1]
        )
        if fall > steepest:
            best, steepest = step, fall
    return best


@kernel
def _at(image: npt.NDArray[np.float32], x: float, y: float) -> float:
    """Interpolate between the centres of pixels; what is beyond is as at the border."""
    x = min(max(x - 0.5, 0.0), image.shape[1] - 1.0)
    y = min(max(y - 0.5, 0.0), image.shape[0] - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, image.shape[1] - 1), min(top + 1, image.shape[0] - 1)
    across, down = x - left, y - top
    upper = image[top, left] * (1 - across) + image[top, right] * across
    lower = image[bottom, left] * (1 - across) + image[bottom, right] * across
    return float(upper * (1 - down) + lower * down)
