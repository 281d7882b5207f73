"""Polygons to label images."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(nogil=True, cache=True)
def _fill(xy, offsets, labels):  # type: ignore[no-untyped-def]
    height, width = labels.shape
    for k in range(len(offsets) - 1):
        ring = xy[offsets[k] : offsets[k + 1]]
        crossings = np.empty(len(ring) + 1)
        top = max(0, math.floor(ring[:, 1].min()))
        bottom = min(height, math.ceil(ring[:, 1].max()))
        for row in range(top, bottom):
            y = row + 0.5
            found = 0
            before = len(ring) - 1
            for v in range(len(ring)):
                y0, y1 = ring[before, 1], ring[v, 1]
                if (y0 <= y) != (y1 <= y):
                    share = (y - y0) / (y1 - y0)
                    crossings[found] = ring[before, 0] + share * (ring[v, 0] - ring[before, 0])
                    found += 1
                before = v
            inside = np.sort(crossings[:found])
            for pair in range(0, found - 1, 2):
                first = max(0, math.ceil(inside[pair] - 0.5))
                stop = min(width, math.ceil(inside[pair + 1] - 0.5))
                for column in range(first, stop):
                    labels[row, column] = k + 1


def rasterise(
    xy: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64], shape: tuple[int, int]
) -> npt.NDArray[np.int32]:
    """Draw rings into a label image: the pixels whose centres they hold (even-odd rule).

    Parameters
    ----------
    xy, offsets
        Rings as in `wsi_engine.models.protocol.Predictions`, pixel corners of the image.
        Where rings overlap, the later one is on top.
    shape
        Height and width.

    Returns
    -------
    numpy.ndarray
        int32, 0 for background and k + 1 for ring k.

    Examples
    --------
    >>> square = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 2.0], [1.0, 2.0]])
    >>> rasterise(square, np.array([0, 4]), (3, 4))
    array([[0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]], dtype=int32)
    """
    labels = np.zeros(shape, np.int32)
    if len(offsets) > 1:
        _fill(np.ascontiguousarray(xy, np.float64), np.asarray(offsets, np.int64), labels)
    return labels
