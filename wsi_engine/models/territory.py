"""The ground between labels, shared out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel

Labels = npt.NDArray[np.int32]


def grown(labels: Labels, distance: int) -> Labels:
    """Grow labels into the background: a pixel goes to the nearest that is not further away.

    The upper of equally near labels wins, then the left one: what a pixel becomes depends on
    what is within the distance alone.

    Parameters
    ----------
    labels
        int32, shape (height, width), 0 for background.
    distance
        In pixels, between their centres.
    """
    y, x = np.mgrid[-distance : distance + 1, -distance : distance + 1].reshape(2, -1)
    squared = x * x + y * y
    order = np.lexsort((x, y, squared))
    near = order[(squared[order] > 0) & (squared[order] <= distance * distance)]
    return np.asarray(_grown(labels, y[near], x[near]))


@kernel
def _grown(labels: Labels, dy: npt.NDArray[np.int64], dx: npt.NDArray[np.int64]) -> Labels:
    height, width = labels.shape
    out = labels.copy()
    for y in range(height):
        for x in range(width):
            if labels[y, x] != 0:
                continue
            for k in range(len(dy)):
                row, column = y + dy[k], x + dx[k]
                if 0 <= row < height and 0 <= column < width and labels[row, column] != 0:
                    out[y, x] = labels[row, column]
                    break
    return out
