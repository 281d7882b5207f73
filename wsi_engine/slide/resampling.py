"""Resampling by a real factor whose result does not depend on where a read starts.

Every output pixel is a weighted mean over the area it covers, and its weights are a function
of its own global index alone. All sums are of integers, so the result is the same to the last
bit whichever tile a pixel was read with, on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.slide.protocol import RGB

WEIGHT_BITS = 14
_ONE = 1 << WEIGHT_BITS
# Rows are kept at 16 bits between the two passes.
_FIRST_SHIFT = WEIGHT_BITS - 8
_SECOND_SHIFT = WEIGHT_BITS + 8


@dataclass(frozen=True, slots=True)
class AxisWeights:
    """Weights of ``count`` output pixels along one axis.

    Output pixel ``k`` is the sum of ``weights[k, t] * source[first[k] + t]`` over all taps t.
    ``first`` counts source pixels globally; ``weights`` are fixed point with sum ``2**14``.
    """

    first: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int32]

    @property
    def start(self) -> int:
        """First source pixel that is needed."""
        return int(self.first[0])

    @property
    def stop(self) -> int:
        """One past the last source pixel that is needed."""
        return int(self.first[-1]) + self.weights.shape[1]


def area_weights(start: int, count: int, ratio: float, offset: float = 0.0) -> AxisWeights:
    """Weights for output pixels ``start`` to ``start + count - 1``.

    Parameters
    ----------
    start, count
        Global index of the first output pixel, and how many.
    ratio
        Source pixels per output pixel. Below 1 (enlarging) the weights are those of linear
        interpolation; at 2 they are the mean of two pixels.
    offset
        Position of output index 0 in source pixels.
    """
    index = np.arange(start, start + count, dtype=np.float64)
    centre = offset + (index + 0.5) * ratio
    width = max(ratio, 1.0)
    low, high = centre - width / 2, centre + width / 2
    first = np.floor(low).astype(np.int64)
    taps = int(np.ceil(width)) + 1
    pixel = first[:, None] + np.arange(taps)
    overlap = np.clip(np.minimum(pixel + 1, high[:, None]) - np.maximum(pixel, low[:, None]), 0, 1)
    weights = np.rint(overlap / width * _ONE).astype(np.int32)
    # Rounding must not brighten or darken: the largest weight takes up the difference.
    largest = weights.argmax(axis=1)
    weights[np.arange(count), largest] += _ONE - weights.sum(axis=1, dtype=np.int32)
    return AxisWeights(first, weights)


def mean_of_boxes(source: RGB, across: int, down: int) -> RGB:
    """Return the mean of each box of so many pixels, rounded half up."""
    return source if across == down == 1 else _mean_of_boxes(source, across, down)


@kernel
def _mean_of_boxes(source: RGB, across: int, down: int) -> RGB:
    """Shrink (height * down, width * across, 3) to (height, width, 3)."""
    height, width = source.shape[0] // down, source.shape[1] // across
    out = np.empty((height, width, 3), np.uint8)
    sums = np.empty(width * 3, np.uint32)
    area = np.uint32(across * down)
    for row in range(height):
        sums[:] = area // 2
        for y in range(row * down, (row + 1) * down):
            for column in range(width):
                for x in range(column * across, (column + 1) * across):
                    for channel in range(3):
                        sums[column * 3 + channel] += source[y, x, channel]
        for column in range(width):
            for channel in range(3):
                out[row, column, channel] = sums[column * 3 + channel] // area
    return out


def resample(source: RGB, x: AxisWeights, y: AxisWeights) -> RGB:
    """Resample an image that covers exactly ``[x.start, x.stop)`` by ``[y.start, y.stop)``."""
    return _resample(source, x.first - x.start, x.weights, y.first - y.start, y.weights)


@kernel
def _resample(
    source: RGB,
    x_first: npt.NDArray[np.int64],
    x_weights: npt.NDArray[np.int32],
    y_first: npt.NDArray[np.int64],
    y_weights: npt.NDArray[np.int32],
) -> RGB:
    """Resample (rows, columns, 3) to (height, width, 3).

    Each output column begins at a source column, shape (width,), and adds so many with weights,
    shape (width, taps); rows likewise.
    """
    rows, width, height = source.shape[0], x_first.size, y_first.size
    x_taps, y_taps = x_weights.shape[1], y_weights.shape[1]
    narrow = np.empty((rows, width * 3), np.uint16)
    half = np.int32(1 << (_FIRST_SHIFT - 1))
    for row in range(rows):
        for column in range(width):
            base = x_first[column]
            for channel in range(3):
                total = half
                for tap in range(x_taps):
                    total += x_weights[column, tap] * np.int32(source[row, base + tap, channel])
                narrow[row, column * 3 + channel] = total >> _FIRST_SHIFT
    out = np.empty((height, width * 3), np.uint8)
    sums = np.empty(width * 3, np.int32)
    for row in range(height):
        sums[:] = 1 << (_SECOND_SHIFT - 1)
        for tap in range(y_taps):
            weight = y_weights[row, tap]
            if weight:
                line = narrow[y_first[row] + tap]
                for k in range(width * 3):
                    sums[k] += weight * np.int32(line[k])
        for k in range(width * 3):
            out[row, k] = sums[k] >> _SECOND_SHIFT
    return out.reshape(height, width, 3)
