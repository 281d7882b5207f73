"""The ring around a nucleus, for its cytoplasm: 3 µm wide, clipped at neighbours.

A pixel belongs to the ring of the nucleus that is nearest to it, so that rings end half-way
between neighbours as QuPath's cells do, and to none where it lies in a nucleus. Of two nuclei
equally near the upper, the left one has it.

A tile clips at all nuclei that it predicts in its window. Its view of a neighbour is exact where
neither of the two reaches further from its anchor than half of what the halo leaves beyond the
receptive radius and two rings: 16 px or 8 µm with the default model, which holds for 99.7 % of the
nuclei of a dense carcinoma. A halo for the largest object would read 16 % more pixels at cores of
1024 px; without it no value differed on three slides between cores of 256 and 1024 px.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.kernels import kernel
from wsi_engine.nuclei.measure.pixels import Field, PixelSets, with_room
from wsi_engine.nuclei.polygons import Polygons

WIDTH_UM = 3.0

BORDER_PX = 0.4
"""How far the border of a nucleus lies beyond the centres of its outermost pixels, on average:
rings of ellipses then have the area that they should within 2 %."""


def reach_um(width_um: float) -> float:
    """How far apart two nuclei still have something to share out.

    That is two rings, and a pixel for each border.
    """
    return 2 * width_um + 1.0


REACH_UM = reach_um(WIDTH_UM)


def rings(
    polygons: Polygons, sets: PixelSets, field: Field, width_um: float = WIDTH_UM
) -> PixelSets:
    """Find the pixels of the rings of nuclei.

    Parameters
    ----------
    polygons, sets
        All nuclei that may be near one another, and their pixels.
    field
        The pixels on which they lie.
    width_um
        Width of the rings.
    """
    left, top = shapely.bounds(polygons).T[:2] if len(polygons) else np.empty((2, 0))
    rank = np.empty(len(polygons), np.int64)
    rank[np.lexsort((left, top))] = np.arange(len(polygons))
    inside, disc = field.inside, _disc(width_um / field.grid.mpp)
    key = np.full(field.window.width * field.window.height, np.iinfo(np.int32).max, np.int32)
    key[sets.index] = -1
    index, offsets = _rings(
        sets.index, sets.offsets, rank, field.window.width,
        inside.x, inside.y, inside.x_stop, inside.y_stop, disc, int(disc[:, 0].max()),
        31 - int(disc[:, 2].max()).bit_length(), key,
    )  # fmt: skip
    return PixelSets(index[: offsets[-1]].copy(), offsets)


def _disc(radius: float) -> npt.NDArray[np.int64]:
    """List the steps (dy, dx, squared length) to the pixels that a ring reaches."""
    reach = math.ceil(radius + BORDER_PX)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    squared = y * y + x * x
    near = (squared <= (radius + BORDER_PX) ** 2) & (squared > 0)
    return np.column_stack([y[near], x[near], squared[near]]).astype(np.int64)


@kernel
def _rings(
    index: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    rank: npt.NDArray[np.int64],
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
    disc: npt.NDArray[np.int64],
    reach: int,
    rank_bits: int,
    key: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give each pixel near a nucleus to the nearest: by squared distance, then by rank.

    Parameters
    ----------
    index, offsets
        The pixels of n nuclei, as `PixelSets`.
    rank
        Which of two nuclei equally near comes first, shape (n,).
    width
        Width of the window.
    left, top, right, bottom
        The part of it that lies on the slide.
    disc, reach
        Steps (dy, dx, squared length), shape (s, 3), and the longest dy.
    rank_bits
        Room for the rank in a key; the distance is above it.
    key
        For each pixel of the window -1 in a nucleus, else the lowest key of distance and rank so
        far; changed in place.

    Returns
    -------
    index, offsets
        The pixels of their rings, as `PixelSets`; there may be room left in the index.
    """
    count = len(offsets) - 1
    for i in range(count):
        for k in range(offsets[i], offsets[i + 1]):
            y, x = index[k] // width, index[k] % width
            if not _on_border(key, y, x, width, left, top, right, bottom):
                continue
            for s in range(len(disc)):
                v, u = y + disc[s, 0], x + disc[s, 1]
                if top <= v < bottom and left <= u < right:
                    mine = np.int32((disc[s, 2] << rank_bits) | rank[i])
                    if mine < key[v * width + u]:
                        key[v * width + u] = mine
    found = np.empty(1024, np.int64)
    ends = np.empty(count + 1, np.int64)
    ends[0] = 0
    used = 0
    for i in range(count):
        if offsets[i + 1] > offsets[i]:
            own = index[offsets[i] : offsets[i + 1]]
            first, last = own[0] // width, own[-1] // width
            low, high = width, 0
            for pixel in own:
                low, high = min(low, pixel % width), max(high, pixel % width)
            low, high = max(low - reach, left), min(high + reach + 1, right)
            found = with_room(found, used, (last - first + 1 + 2 * reach) * (high - low))
            for v in range(max(first - reach, top), min(last + reach + 1, bottom)):
                for u in range(low, high):
                    value = key[v * width + u]
                    if value >= 0 and value & ((1 << rank_bits) - 1) == rank[i]:
                        found[used] = v * width + u
                        used += 1
        ends[i + 1] = used
    return found, ends


@kernel
def _on_border(
    key: npt.NDArray[np.int32],
    y: int,
    x: int,
    width: int,
    left: int,
    top: int,
    right: int,
    bottom: int,
) -> bool:
    """Whether one of the four neighbours of a pixel lies in no nucleus; key: (pixels,)."""
    pixel = y * width + x
    return (
        (y > top and key[pixel - width] >= 0)
        or (y + 1 < bottom and key[pixel + width] >= 0)
        or (x > left and key[pixel - 1] >= 0)
        or (x + 1 < right and key[pixel + 1] >= 0)
    )
