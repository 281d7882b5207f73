"""Non-maximum suppression of boxes that looks at neighbours alone, linear in their number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.models.maskrcnn.spec import CELL_PX, LONGEST_PX

Boxes = npt.NDArray[np.float32]
"""Shape (n, 4): least x and y, greatest x and y."""


def suppress(
    boxes: Boxes, scores: npt.NDArray[np.float32], max_iou: float, most: int
) -> npt.NDArray[np.int64]:
    """Choose the boxes that stay: greedily, the best first.

    torchvision keeps the best so many of an image; what stays then depends on the size of the
    image. Here it is the best so many around each place.

    Parameters
    ----------
    boxes
        Their sides are up to `LONGEST_PX`, their centres at 0 or above.
    scores
        Shape (n,). Of equal ones the earlier box is the better.
    max_iou
        Largest IoU with a better box that stays.
    most
        Boxes that stay with their centres in one cell of `CELL_PX`.

    Returns
    -------
    numpy.ndarray
        Indices of the boxes that stay, best first.
    """
    if len(boxes) == 0:
        return np.empty(0, np.int64)
    order = np.argsort(-scores, kind="stable")
    centres = (boxes[order, :2] + boxes[order, 2:]) / 2
    cells = (centres / CELL_PX).astype(np.int64)
    kept = _greedy(boxes[order], cells, max_iou, most)
    return np.asarray(order[kept], np.int64)


# Boxes that meet have centres no farther apart than the longest side.
_REACH = LONGEST_PX // CELL_PX


@kernel
def _greedy(
    boxes: Boxes, cells: npt.NDArray[np.int64], max_iou: float, most: int
) -> npt.NDArray[np.int64]:
    """Walk through the boxes, best first; ``cells``, shape (n, 2), are those of the centres."""
    columns, rows = cells[:, 0].max() + 1, cells[:, 1].max() + 1
    members = np.empty((rows, columns, most), np.int32)
    filled = np.zeros((rows, columns), np.int32)
    kept = np.zeros(len(boxes), np.bool_)
    for i in range(len(boxes)):
        column, row = cells[i]
        if filled[row, column] == most:
            continue
        x0, y0, x1, y1 = boxes[i]
        area = (x1 - x0) * (y1 - y0)
        stays = True
        for r in range(max(0, row - _REACH), min(rows, row + _REACH + 1)):
            for c in range(max(0, column - _REACH), min(columns, column + _REACH + 1)):
                for m in range(filled[r, c]):
                    j = members[r, c, m]
                    width = min(x1, boxes[j, 2]) - max(x0, boxes[j, 0])
                    height = min(y1, boxes[j, 3]) - max(y0, boxes[j, 1])
                    if width > 0 and height > 0:
                        shared = width * height
                        other = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
                        if shared > max_iou * (area + other - shared):
                            stays = False
                            break
                if not stays:
                    break
            if not stays:
                break
        if stays:
            kept[i] = True
            members[row, column, filled[row, column]] = i
            filled[row, column] += 1
    return np.flatnonzero(kept)
