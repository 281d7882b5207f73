"""Which pixels belong to a nucleus.

A pixel belongs to a nucleus when its centre lies inside the polygon. Where nuclei overlap it
belongs to each of them, so that what is measured inside a nucleus depends on nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numba
import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.measure.outlines import Outlines
from wsi_engine.slide.frames import ModelBox, ModelGrid
from wsi_engine.slide.protocol import RGB

FINEST_MPP = 0.5
"""Pixels are measured at about this size, in µm: finer ones are put together to it."""


@dataclass(frozen=True, slots=True)
class Field:
    """The pixels to measure on.

    Attributes
    ----------
    rgb
        uint8, shape (window.height, window.width, 3).
    window
        Where they lie on the grid.
    grid
        Of the slide; its pixels may be larger than the model's.
    """

    rgb: RGB
    window: ModelBox
    grid: ModelGrid

    @property
    def inside(self) -> ModelBox:
        """The part of the window that lies on the slide, in the window's own pixels."""
        extent, window = self.grid.extent, self.window
        left, top = max(extent.x - window.x, 0), max(extent.y - window.y, 0)
        right = min(extent.x_stop - window.x, window.width)
        bottom = min(extent.y_stop - window.y, window.height)
        return ModelBox(left, top, max(right - left, 0), max(bottom - top, 0))


@dataclass(frozen=True, slots=True)
class PixelSets:
    """The pixels of n nuclei, one after the other, each row by row.

    Attributes
    ----------
    index
        Position in the flattened window, int64.
    offsets
        Nucleus i has ``index[offsets[i]:offsets[i + 1]]``; int64, shape (n + 1,).
    """

    index: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, which: npt.NDArray[np.bool_]) -> Self:
        """Return the sets where a mask holds."""
        sizes = np.diff(self.offsets)
        offsets = np.concatenate([[0], np.cumsum(sizes[which])])
        return type(self)(self.index[np.repeat(which, sizes)], offsets)


def binned(rgb: RGB, window: ModelBox, grid: ModelGrid) -> Field:
    """Put pixels that are finer than `FINEST_MPP` together, on a grid fixed to the slide."""
    side = max(round(FINEST_MPP / grid.mpp), 1)
    if side == 1:
        return Field(rgb, window, grid)
    left, top = -(-window.x // side), -(-window.y // side)
    width, height = window.x_stop // side - left, window.y_stop // side - top
    y, x = top * side - window.y, left * side - window.x
    blocks = rgb[y : y + height * side, x : x + width * side].reshape(height, side, width, side, 3)
    sums = blocks.astype(np.uint32).sum(axis=(1, 3))
    mean = ((sums + side * side // 2) // (side * side)).astype(np.uint8)
    coarse = ModelGrid(
        grid.mpp * side, grid.slide_mpp, grid.origin_x, grid.origin_y,
        grid.slide_width, grid.slide_height,
    )  # fmt: skip
    return Field(mean, ModelBox(left, top, width, height), coarse)


def cover(outlines: Outlines, field: Field) -> PixelSets:
    """Find the pixels of nuclei.

    Parameters
    ----------
    outlines
        In QuPath pixels.
    field
        Pixels outside the window or the slide belong to nobody.
    """
    grid, window, inside = field.grid, field.window, field.inside
    index, offsets = _cover(
        outlines.xy / np.array([grid.scale_x, grid.scale_y]), outlines.rings, outlines.members,
        window.x, window.y, window.width,
        inside.x, inside.y, inside.x_stop, inside.y_stop,
    )  # fmt: skip
    return PixelSets(index, offsets)


@numba.njit(nogil=True, cache=True)
def _cover(  # type: ignore[no-untyped-def]
    xy, rings, members, x_origin, y_origin, width, left, top, right, bottom
):
    """Fill by scan lines through the pixels' centres, even and odd.

    Crossings are computed in coordinates of the slide, so they are the same in every window.
    """
    count = len(members) - 1
    offsets = np.zeros(count + 1, np.int64)
    index = np.empty(1024, np.int64)
    used = 0
    crossings = np.empty(64)
    for i in range(count):
        start, stop = rings[members[i]], rings[members[i + 1]]
        if stop > start:
            lowest, highest = xy[start:stop, 1].min(), xy[start:stop, 1].max()
            first = max(math.ceil(lowest - 0.5) - y_origin, top)
            last = min(math.ceil(highest - 0.5) - y_origin, bottom)
            if stop - start > len(crossings):
                crossings = np.empty(stop - start)
            for row in range(first, last):
                found = _crossings(
                    xy, rings, members[i], members[i + 1], row + y_origin + 0.5, crossings
                )
                for k in range(0, found - 1, 2):
                    begin = max(math.ceil(crossings[k] - 0.5) - x_origin, left)
                    end = min(math.ceil(crossings[k + 1] - 0.5) - x_origin, right)
                    if used + max(end - begin, 0) > len(index):
                        longer = np.empty(2 * len(index) + end - begin, np.int64)
                        longer[:used] = index[:used]
                        index = longer
                    for column in range(begin, end):
                        index[used] = row * width + column
                        used += 1
        offsets[i + 1] = used
    return index[:used].copy(), offsets


@numba.njit(nogil=True, cache=True)
def _crossings(xy, rings, first_ring, stop_ring, y, out):  # type: ignore[no-untyped-def]
    """Write where some rings cross a horizontal line, sorted; return how often."""
    found = 0
    for r in range(first_ring, stop_ring):
        for k in range(rings[r], rings[r + 1] - 1):
            y0, y1 = xy[k, 1], xy[k + 1, 1]
            if (y0 <= y) != (y1 <= y):
                x0, x1 = xy[k, 0], xy[k + 1, 0]
                x = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
                place = found
                while place > 0 and out[place - 1] > x:
                    out[place] = out[place - 1]
                    place -= 1
                out[place] = x
                found += 1
    return found
