"""Features in boxes, as torchvision pools them, for the processor.

torchvision's RoIAlign walks through one channel after the other; here the channels of a point lie
side by side, and it takes a tenth of the time, which would be most of the network's.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from wsi_engine.kernels import kernel
from wsi_engine.models.maskrcnn.spec import FINEST_UP_TO_PX

Level = npt.NDArray[np.float32]
"""Shape (height, width, channels), each level of half the resolution of the one before."""


def channels_last(features: torch.Tensor) -> Level:
    """Return the features of one image, (1, channels, height, width), channels last."""
    return np.ascontiguousarray(features[0].float().permute(1, 2, 0).numpy())


def pooled(levels: tuple[Level, ...], boxes: torch.Tensor, side: int) -> torch.Tensor:
    """Pool the features in boxes: `torchvision.ops.MultiScaleRoIAlign` of sampling ratio 1.

    Parameters
    ----------
    levels
        At 2, 4 and 8 pixels per point.
    boxes
        Shape (n, 4), in pixels of the image.
    side
        Points along a side of what is pooled.

    Returns
    -------
    torch.Tensor
        float32, shape (n, channels, side, side).
    """
    fine, middle, coarse = levels
    found = _pooled(fine, middle, coarse, boxes.numpy(), side, FINEST_UP_TO_PX)
    return torch.from_numpy(found).permute(0, 3, 1, 2)


@kernel
def _pooled(
    fine: Level,
    middle: Level,
    coarse: Level,
    boxes: npt.NDArray[np.float32],
    side: int,
    finest_up_to: float,
) -> npt.NDArray[np.float32]:
    out = np.empty((len(boxes), side, side, fine.shape[2]), np.float32)
    for k in range(len(boxes)):
        x0, y0, x1, y1 = boxes[k]
        size = math.sqrt((x1 - x0) * (y1 - y0))
        if size < finest_up_to:
            _pool(fine, boxes[k] * np.float32(0.5), out[k])
        elif size < 2 * finest_up_to:
            _pool(middle, boxes[k] * np.float32(0.25), out[k])
        else:
            _pool(coarse, boxes[k] * np.float32(0.125), out[k])
    return out


@kernel
def _pool(level: Level, box: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
    """Interpolate a level at the centres of the parts of a box, which is at least a point wide."""
    side, channels = out.shape[0], level.shape[2]
    step_x = max(box[2] - box[0], np.float32(1)) / np.float32(side)
    step_y = max(box[3] - box[1], np.float32(1)) / np.float32(side)
    for row in range(side):
        top, bottom, below, in_height = _between(
            box[1] + (np.float32(row) + np.float32(0.5)) * step_y, level.shape[0]
        )
        for column in range(side):
            left, right, beside, in_width = _between(
                box[0] + (np.float32(column) + np.float32(0.5)) * step_x, level.shape[1]
            )
            if not (in_height and in_width):
                out[row, column] = 0
                continue
            above, before = np.float32(1) - below, np.float32(1) - beside
            for c in range(channels):
                out[row, column, c] = (
                    above * (before * level[top, left, c] + beside * level[top, right, c])
                    + below * (before * level[bottom, left, c] + beside * level[bottom, right, c])
                )  # fmt: skip


@kernel
def _between(at: np.float32, length: int) -> tuple[int, int, np.float32, bool]:
    """Return the points before and after a place, its share of the way, and whether it is there."""
    if at < -1 or at > length:
        return 0, 0, np.float32(0), False
    at = max(at, np.float32(0))
    low = int(at)
    if low >= length - 1:
        return length - 1, length - 1, np.float32(0), True
    return low, low + 1, np.float32(at - np.float32(low)), True
