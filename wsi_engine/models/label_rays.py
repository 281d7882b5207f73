"""Rays through a label image, from a place in a nucleus to its boundary.

Label images are uint16: 0 is background, ``UNKNOWN`` is a pixel of which nothing is known (outside
of the image, or not annotated), all else is a nucleus.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.models.suppression import ray_directions
from wsi_engine.nuclei.raster import UNKNOWN

BACKGROUND_END, INNER_END, UNKNOWN_END = 0, 1, 2
"""What lies beyond a boundary: no nucleus, another one, or nobody knows."""


@kernel
def march(
    labels: npt.NDArray[np.uint16], x: float, y: float, step_x: float, step_y: float
) -> tuple[float, int]:
    """Walk from (x, y) in label pixels until the label changes.

    Returns the distance walked, accurate to a quarter of a label pixel, and what lies
    beyond the boundary.
    """
    height, width = labels.shape
    own = labels[int(y), int(x)]
    walked = 0.0
    while True:
        walked += 1.0
        column = math.floor(x + walked * step_x)
        row = math.floor(y + walked * step_y)
        if column < 0 or row < 0 or column >= width or row >= height:
            return walked - 0.5, UNKNOWN_END
        beyond = labels[row, column]
        if beyond != own:
            half = walked - 0.5
            between = labels[math.floor(y + half * step_y), math.floor(x + half * step_x)]
            distance = walked - 0.25 if between == own else walked - 0.75
            if beyond == UNKNOWN:
                return distance, UNKNOWN_END
            return distance, BACKGROUND_END if beyond == 0 else INNER_END


@kernel
def _peaks(
    labels: npt.NDArray[np.uint16],
    directions: npt.NDArray[np.float64],
    stride: int,
    peaks: npt.NDArray[np.float32],
) -> None:
    """Raise the peaks, by label, to the distances found in labels (h, w); directions (rays, 2)."""
    for i in range(0, labels.shape[0], stride):
        for j in range(0, labels.shape[1], stride):
            own = labels[i, j]
            if own == 0 or own == UNKNOWN:
                continue
            nearest = 1e9
            for k in range(directions.shape[0]):
                distance, end = march(labels, j + 0.5, i + 0.5, directions[k, 0], directions[k, 1])
                if end != UNKNOWN_END and distance < nearest:
                    nearest = distance
            if nearest < 1e9 and nearest > peaks[own]:
                peaks[own] = nearest


def boundary_peaks(labels: npt.NDArray[np.uint16], rays: int = 16) -> npt.NDArray[np.float32]:
    """Return the largest distance to the boundary in each nucleus, by label, in label pixels.

    The distance to the boundary is the shortest ray, as in the targets. It is taken on
    every second pixel, which is finer than the network's grid.
    """
    known = labels[labels != UNKNOWN]
    peaks = np.zeros(int(known.max(initial=0)) + 1, np.float32)
    _peaks(labels, ray_directions(rays), 2, peaks)
    return peaks
