"""Morphological active contours without edges, a label at a time, next to its neighbours.

Each border moves towards where the image is half way between what is inside and what is around
(Chan and Vese's energy), with morphological operators in place of a differential equation.

References
----------
Márquez-Neila P, Baumela L, Álvarez L. A morphological approach to curvature-based evolution of
curves and surfaces. IEEE Trans Pattern Anal Mach Intell 36:2-17, 2014.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel

Labels = npt.NDArray[np.int32]


def moved_borders(
    labels: Labels, territory: Labels, image: npt.NDArray[np.float32], steps: int
) -> tuple[Labels, npt.NDArray[np.float32]]:
    """Let the border of every label move by some steps.

    Parameters
    ----------
    labels
        int32, shape (height, width), 0 for background.
    territory
        The same, grown: where the border of a label may move to. No pixel outside is ever its.
    image
        What is inside, brighter than around; float32, shape (height, width).
    steps
        Each moves a border by one pixel or by none, and smooths it.

    Returns
    -------
    labels
        int32; what the labels have become. None has moved into another.
    excess
        How far above the level at which its border was drawn each pixel of a territory is; float32.

    Notes
    -----
    What is around a label is the background within three pixels of where it can get to: pixels of
    other labels count neither way.
    """
    moved, excess = np.zeros_like(labels), np.zeros(labels.shape, np.float32)
    _move_all(labels, territory, image, steps, moved, excess)
    return moved, excess


SURROUNDINGS_PX = 3


@kernel
def _move_all(
    labels: Labels,
    territory: Labels,
    image: npt.NDArray[np.float32],
    steps: int,
    moved: Labels,
    excess: npt.NDArray[np.float32],
) -> None:
    height, width = labels.shape
    boxes = _boxes(territory)
    for k in range(1, boxes.shape[0]):
        if boxes[k, 1] == 0:
            continue
        top, left = max(boxes[k, 0] - SURROUNDINGS_PX, 0), max(boxes[k, 2] - SURROUNDINGS_PX, 0)
        bottom = min(boxes[k, 1] + SURROUNDINGS_PX, height)
        right = min(boxes[k, 3] + SURROUNDINGS_PX, width)
        seen = labels[top:bottom, left:right]
        own = territory[top:bottom, left:right] == k
        pixels = image[top:bottom, left:right]
        inside, level = evolved(seen == k, own, (seen == 0) | (seen == k), pixels, steps)
        for y in range(bottom - top):
            for x in range(right - left):
                if own[y, x]:
                    excess[top + y, left + x] = pixels[y, x] - level
                    if inside[y, x]:
                        moved[top + y, left + x] = k


@kernel
def _boxes(labels: Labels) -> npt.NDArray[np.int64]:
    """Return top, bottom, left, right of each label, shape (labels.max() + 1, 4)."""
    boxes = np.zeros((labels.max() + 1, 4), np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            k = labels[y, x]
            if k == 0:
                continue
            if boxes[k, 1] == 0:
                boxes[k] = y, y + 1, x, x + 1
            boxes[k, 1] = y + 1
            boxes[k, 2] = min(boxes[k, 2], x)
            boxes[k, 3] = max(boxes[k, 3], x + 1)
    return boxes


@kernel
def evolved(
    inside: npt.NDArray[np.bool_],
    allowed: npt.NDArray[np.bool_],
    counted: npt.NDArray[np.bool_],
    image: npt.NDArray[np.float32],
    steps: int,
) -> tuple[npt.NDArray[np.bool_], float]:
    """Let one border move.

    Parameters
    ----------
    inside
        What is within the border, bool, shape (height, width).
    allowed
        Where it may get to.
    counted
        What the means inside and around are taken over.
    image, steps
        Those of `moved_borders`.

    Returns
    -------
    inside
        What it has become.
    level
        Half way between the means of the last step.
    """
    height, width = inside.shape
    now, level = inside & allowed, 0.0
    for step in range(steps):
        total = np.zeros(2)
        count = np.zeros(2)
        for y in range(height):
            for x in range(width):
                if counted[y, x]:
                    which = 1 if now[y, x] else 0
                    total[which] += image[y, x]
                    count[which] += 1
        if count.min() == 0:
            break
        around, within = total / count
        level = (around + within) / 2
        then = now.copy()
        for y in range(height):
            for x in range(width):
                above, below = now[max(y - 1, 0), x], now[min(y + 1, height - 1), x]
                before, after = now[y, max(x - 1, 0)], now[y, min(x + 1, width - 1)]
                if above == below and before == after:
                    continue
                nearer = (image[y, x] - within) ** 2 - (image[y, x] - around) ** 2
                if nearer != 0:
                    then[y, x] = nearer < 0
        # Both orders by turns, or borders would drift.
        if step % 2 == 0:
            now = _highest_of_lowest(_lowest_of_highest(then)) & allowed
        else:
            now = _lowest_of_highest(_highest_of_lowest(then)) & allowed
    return now, level


_LINE_Y = np.array([1, 1, 1, 0])
_LINE_X = np.array([1, 0, -1, 1])
"""Steps along the four lines through a pixel."""


@kernel
def _highest_of_lowest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tell where all of some line of three pixels is inside; beyond the image nothing is."""
    height, width = mask.shape
    out = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for k in range(4):
                dy, dx = _LINE_Y[k], _LINE_X[k]
                if mask[y, x] and _at(mask, y + dy, x + dx) and _at(mask, y - dy, x - dx):
                    out[y, x] = True
    return out


@kernel
def _lowest_of_highest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tell where something of each line of three pixels is inside."""
    height, width = mask.shape
    out = np.ones_like(mask)
    for y in range(height):
        for x in range(width):
            for k in range(4):
                dy, dx = _LINE_Y[k], _LINE_X[k]
                if not (mask[y, x] or _at(mask, y + dy, x + dx) or _at(mask, y - dy, x - dx)):
                    out[y, x] = False
    return out


@kernel
def _at(mask: npt.NDArray[np.bool_], y: int, x: int) -> bool:
    return bool(0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x])
