"""From detections by cell to polygons: masks are pasted, the best on top, and outlined."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.models.label_objects import ObjectLimits, plausible
from wsi_engine.models.maskrcnn.spec import CELL_PX, LONGEST_PX, MASK_SIDE, SLOTS
from wsi_engine.nuclei.predictions import NO_CLASS, Predictions
from wsi_engine.nuclei.tracing import trace_labels

BOX, SCORE_AT, RECORD = 4, 4, 5 + MASK_SIDE**2
"""A detection: the centre of its box in the cell, as shares of the cell; width and height, as
shares of `LONGEST_PX`; the score; and the mask, row by row."""

LEVEL = 0.5
"""What a mask says of a pixel from which on it is nucleus."""
FREE_SHARE = 0.7
"""Share of a mask that better ones must leave free."""
LIMITS = ObjectLimits(smallest=24, largest=2400, longest=LONGEST_PX, thinnest=3.0)
"""A nucleus of 6 to 600 µm² at 0.5 µm/px."""

Float32 = npt.NDArray[np.float32]


def packed(
    boxes: Float32, scores: Float32, masks: Float32, size: tuple[int, int]
) -> npt.NDArray[np.float16]:
    """Lay detections into the cells of a tile, those of a cell from top to bottom.

    Parameters
    ----------
    boxes
        Shape (n, 4) in pixel corners, their centres in the tile, at most `SLOTS` in a cell.
    scores, masks
        In [0, 1], shapes (n,) and (n, `MASK_SIDE`, `MASK_SIDE`).
    size
        Height and width of the tile.

    Returns
    -------
    numpy.ndarray
        Shape (height / `CELL_PX`, width / `CELL_PX`, `SLOTS`, `RECORD`); free slots are 0.
    """
    rows, columns = size[0] // CELL_PX, size[1] // CELL_PX
    cells = np.zeros((rows, columns, SLOTS, RECORD), np.float16)
    centres, sides = (boxes[:, 2:] + boxes[:, :2]) / 2, boxes[:, 2:] - boxes[:, :2]
    order = np.lexsort((centres[:, 0], centres[:, 1]))
    filled = np.zeros((rows, columns), np.int64)
    for k in order.tolist():
        column, row = (int(c) for c in np.minimum(centres[k] // CELL_PX, (columns - 1, rows - 1)))
        slot = filled[row, column]
        if slot == SLOTS:
            continue
        filled[row, column] += 1
        record = cells[row, column, slot]
        record[:2] = centres[k] / CELL_PX - (column, row)
        record[2:BOX] = sides[k] / LONGEST_PX
        record[SCORE_AT] = scores[k]
        record[SCORE_AT + 1 :] = masks[k].ravel()
    return cells


def decode(maps: npt.NDArray[np.generic], threshold: float) -> Predictions:
    """Turn the detections of one tile into nuclei.

    Parameters
    ----------
    maps
        What `packed` returns, or a rectangle cut out of it.
    threshold
        Lowest score of a nucleus.

    Returns
    -------
    Predictions
        Nuclei that do not overlap, anchored at the centres of their boxes; the score is the
        probability of the class.
    """
    scores = maps[..., SCORE_AT].astype(np.float32)
    rows, columns, slots = np.nonzero((scores > 0) & (scores >= np.float32(threshold)))
    records = maps[rows, columns, slots].astype(np.float32)
    cells = np.column_stack([columns, rows]).astype(np.float64)
    centres = (cells + records[:, :2]) * CELL_PX
    order = np.lexsort((centres[:, 0], centres[:, 1], -records[:, SCORE_AT]))
    records, centres = records[order], centres[order]
    half = records[:, 2:BOX] * (LONGEST_PX / 2)
    # A box reaches beyond its cell by less than this.
    boxes = np.hstack([centres - half, centres + half]) + LONGEST_PX
    masks = records[:, SCORE_AT + 1 :].reshape(-1, MASK_SIDE, MASK_SIDE)
    shape = (maps.shape[0] * CELL_PX + 2 * LONGEST_PX, maps.shape[1] * CELL_PX + 2 * LONGEST_PX)
    pasted, field = _pasted(boxes, np.ascontiguousarray(masks), shape)
    labels = plausible(pasted, LIMITS)
    xy, offsets, label_ids = trace_labels(labels, field, LEVEL)
    detection_of = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    detection_of[labels.ravel()] = pasted.ravel()
    found = detection_of[label_ids] - 1
    return Predictions(
        xy=xy - LONGEST_PX,
        offsets=offsets,
        anchors=centres[found],
        scores=np.minimum(records[found, SCORE_AT], np.float32(1)),
        classes=np.full(len(found), NO_CLASS, np.int16),
    )


@kernel
def _pasted(
    boxes: npt.NDArray[np.float64], masks: Float32, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.int32], Float32]:
    """Paste masks, the first on top; leave out those that lie too much under others.

    torchvision rounds boxes to whole pixels first, which moves masks by up to one: here a mask
    is interpolated at the centres of the pixels themselves.

    Parameters
    ----------
    boxes
        Within the image, in pixel corners, shape (n, 4).
    masks
        Shape (n, side, side).
    shape
        Height and width of the image.

    Returns
    -------
    labels
        int32, k + 1 where mask k is on top.
    field
        What the mask on top says; where there is none, the most that one of those around says.
    """
    labels, field = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for k in range(len(boxes)):
        x0, y0, x1, y1 = boxes[k]
        # As far as the outermost points of the mask are interpolated with nothing.
        beyond_x, beyond_y = (x1 - x0) / MASK_SIDE, (y1 - y0) / MASK_SIDE
        left, right = int(x0 - beyond_x), int(x1 + beyond_x) + 1
        top, bottom = int(y0 - beyond_y), int(y1 + beyond_y) + 1
        values = np.empty((bottom - top, right - left), np.float32)
        inside = free = 0
        for y in range(top, bottom):
            for x in range(left, right):
                value = _interpolated(
                    masks[k], (x + 0.5 - x0) / (x1 - x0), (y + 0.5 - y0) / (y1 - y0)
                )
                values[y - top, x - left] = value
                if value >= LEVEL:
                    inside += 1
                    free += labels[y, x] == 0
        if free == 0 or free < FREE_SHARE * inside:
            continue
        for y in range(top, bottom):
            for x in range(left, right):
                if labels[y, x] != 0:
                    continue
                value = values[y - top, x - left]
                if value >= LEVEL:
                    labels[y, x] = k + 1
                    field[y, x] = value
                else:
                    field[y, x] = max(field[y, x], value)
    return labels, field


@kernel
def _interpolated(mask: Float32, x: float, y: float) -> float:
    """Interpolate a mask at a place, shares of its sides; there is nothing around it."""
    side = mask.shape[0]
    x, y = x * side - 0.5, y * side - 0.5
    left, top = int(np.floor(x)), int(np.floor(y))
    total = 0.0
    for row in range(top, top + 2):
        for column in range(left, left + 2):
            if 0 <= row < side and 0 <= column < side:
                total += mask[row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return total
