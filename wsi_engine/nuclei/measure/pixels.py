"""Which pixels belong to a nucleus, and the stains in them.

A pixel belongs to a nucleus when its centre lies inside the polygon. Where nuclei overlap it
belongs to each of them, so that what is measured inside a nucleus depends on nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.nuclei.measure.outlines import Outlines
from wsi_engine.nuclei.raster import add_crossings
from wsi_engine.slide.frames import ModelBox, ModelGrid
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.stain_vectors import Stains


@dataclass(frozen=True, slots=True)
class Field:
    """The pixels to measure on.

    Attributes
    ----------
    rgb
        uint8, shape (window.height, window.width, 3).
    window
        Their place on the grid.
    grid
        The frame of these pixels.
    """

    rgb: RGB
    window: ModelBox
    grid: ModelGrid

    @property
    def inside(self) -> ModelBox:
        """The part of the window that lies on the slide, in the window's own pixels."""
        part = self.window.within(self.grid.extent)
        return replace(part, x=part.x - self.window.x, y=part.y - self.window.y)


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

    def joined(self, others: Self) -> Self:
        """Return sets that have the pixels of both, those of the others last."""
        sizes = np.diff(self.offsets), np.diff(others.offsets)
        owners = np.concatenate([np.repeat(np.arange(len(self)), size) for size in sizes])
        index = np.concatenate([self.index, others.index])[np.argsort(owners, kind="stable")]
        return type(self)(index, self.offsets + others.offsets)


def cover(outlines: Outlines, field: Field) -> PixelSets:
    """Find the pixels of nuclei.

    Parameters
    ----------
    outlines
        Rings in QuPath pixels.
    field
        Pixels outside the window or the slide belong to nobody.
    """
    grid, window, inside = field.grid, field.window, field.inside
    index, offsets = _cover(
        outlines.xy / np.array([grid.scale_x, grid.scale_y]), outlines.rings, outlines.members,
        window.x, window.y, window.width,
        inside.x, inside.y, inside.x_stop, inside.y_stop,
    )  # fmt: skip
    return PixelSets(index[: offsets[-1]].copy(), offsets)


@kernel
def _cover(
    xy: npt.NDArray[np.float64],
    rings: npt.NDArray[np.int64],
    members: npt.NDArray[np.int64],
    x_origin: int,
    y_origin: int,
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Fill by scan lines through the pixels' centres, even and odd.

    Crossings are computed in coordinates of the slide, so they are the same in every window.

    Parameters
    ----------
    xy, rings, members
        Those of `Outlines`, in pixels of the grid.
    x_origin, y_origin, width
        Place and width of the window on the grid.
    left, top, right, bottom
        The part of the window that lies on the slide, in the window's pixels.

    Returns
    -------
    index, offsets
        Those of `PixelSets`; there may be room left in the index.
    """
    count = len(members) - 1
    offsets = np.empty(count + 1, np.int64)
    offsets[0] = 0
    index = np.empty(1024, np.int64)
    used = 0
    crossings = np.empty(64)
    for i in range(count):
        start, stop = rings[members[i]], rings[members[i + 1]]
        if stop > start:
            lowest, highest = math.inf, -math.inf
            for v in range(start, stop):
                lowest, highest = min(lowest, xy[v, 1]), max(highest, xy[v, 1])
            first = max(math.ceil(lowest - 0.5) - y_origin, top)
            last = min(math.ceil(highest - 0.5) - y_origin, bottom)
            if stop - start > len(crossings):
                crossings = np.empty(stop - start)
            for row in range(first, last):
                found = np.int64(0)
                for r in range(members[i], members[i + 1]):
                    ring = xy[rings[r] : rings[r + 1]]
                    found = add_crossings(ring, row + y_origin + 0.5, crossings, found)
                for k in range(0, found - 1, 2):
                    begin = max(math.ceil(crossings[k] - 0.5) - x_origin, left)
                    end = min(math.ceil(crossings[k + 1] - 0.5) - x_origin, right)
                    index = with_room(index, used, end - begin)
                    for column in range(begin, end):
                        index[used] = row * width + column
                        used += 1
        offsets[i + 1] = used
    return index, offsets


@kernel
def with_room(index: npt.NDArray[np.int64], used: int, more: int) -> npt.NDArray[np.int64]:
    """Return an array that begins with the used part of an index (k,), and has room for more."""
    if used + more <= len(index):
        return index
    longer = np.empty(2 * len(index) + more, np.int64)
    for k in range(used):
        longer[k] = index[k]
    return longer


def stain_amounts(rgb: RGB, sets: PixelSets, stains: Stains) -> npt.NDArray[np.float32]:
    """Amount of both stains in each pixel of some sets, in OD; float32, shape (2, p)."""
    return _deconvolve(rgb.reshape(-1, 3), sets.index, stains.table)


@kernel
def _deconvolve(
    rgb: RGB, index: npt.NDArray[np.int64], table: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Look up the amounts, shape (2, p), of pixels (p,) of an image (q, 3); table (2, 3, 256)."""
    out = np.empty((2, len(index)), np.float32)
    for k in range(len(index)):
        r, g, b = rgb[index[k], 0], rgb[index[k], 1], rgb[index[k], 2]
        out[0, k] = table[0, 0, r] + table[0, 1, g] + table[0, 2, b]
        out[1, k] = table[1, 0, r] + table[1, 1, g] + table[1, 2, b]
    return out
