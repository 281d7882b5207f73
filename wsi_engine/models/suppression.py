"""Non-maximum suppression of star-convex polygons, linear in their number.

Greedy, as in Schmidt et al., "Cell Detection with Star-convex Polygons", MICCAI 2018: the
best polygon stays, and those that lie in it by more than a share of their own area go.
Polygons that stay are entered in a grid of buckets, so that each candidate is compared with
its neighbours only, and areas of overlap are integrated along scan lines.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.nuclei.raster import add_crossings

Float32 = npt.NDArray[np.float32]

# Scan lines across the overlap of two bounding boxes. With 12, the area of overlap of two
# ellipses is accurate to about one percent.
_LINES = 12
_BUCKET_PX = 16.0


def ray_directions(rays: int) -> npt.NDArray[np.float64]:
    """Return the unit vectors (x, y) of the rays, shape (rays, 2).

    Ray k points at angle 2πk / rays, from the x axis towards the y axis (clockwise on
    screen, y being down).
    """
    angle = 2 * math.pi * np.arange(rays) / rays
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def star_polygons(
    centres: npt.NDArray[np.float64], distances: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return the vertices of star-convex polygons, shape (n, rays, 2).

    Parameters
    ----------
    centres
        (x, y), shape (n, 2).
    distances
        Distances from the centre to the boundary along each ray, shape (n, rays).
    """
    directions = ray_directions(distances.shape[1])
    return np.asarray(centres[:, None, :] + distances[:, :, None] * directions[None], np.float64)


def star_areas(distances: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the area of each polygon: the sum of its triangles, ½ sin(2π/R) Σ dₖ dₖ₊₁."""
    d = distances.astype(np.float64)
    sine = math.sin(2 * math.pi / d.shape[1])
    return np.asarray(0.5 * sine * (d * np.roll(d, -1, axis=1)).sum(axis=1), np.float64)


def suppress(
    centres: npt.NDArray[np.float64],
    distances: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    max_overlap: float,
) -> npt.NDArray[np.int64]:
    """Choose the polygons that stay.

    The order is that of the scores, then of the position (y, then x), so the choice does
    not depend on the order of the input.

    Parameters
    ----------
    centres
        (x, y), shape (n, 2).
    distances
        Positive, shape (n, rays).
    scores
        Shape (n,).
    max_overlap
        Largest share of the smaller of two polygons that may lie in the other. One that
        lies in another entirely has a share of 1 and goes.

    Returns
    -------
    numpy.ndarray
        Indices of the polygons that stay, best first.
    """
    if len(scores) == 0:
        return np.empty(0, np.int64)
    order = np.lexsort((centres[:, 0], centres[:, 1], -scores.astype(np.float64)))
    polygons = star_polygons(centres[order], distances[order]).astype(np.float32)
    low, high = polygons.min(axis=1), polygons.max(axis=1)
    origin = low.min(axis=0)
    extent = np.maximum(high.max(axis=0) - origin, 1.0).astype(np.float64)
    # Never many more buckets than polygons, however far apart these lie.
    side = max(_BUCKET_PX, math.sqrt(extent[0] * extent[1] / (4.0 * len(scores) + 1024.0)))
    first = ((low - origin) / side).astype(np.int32)
    last = ((high - origin) / side).astype(np.int32)
    grid = last.max(axis=0) + 1
    entries = int((last - first + 1).astype(np.int64).prod(axis=1).sum())
    keep, buckets = np.zeros(len(order), np.bool_), np.full(grid[0] * grid[1], -1, np.int32)
    _greedy(
        polygons, star_areas(distances[order]), low, high, first, last,
        int(grid[0]), buckets, entries, max_overlap, keep,
    )  # fmt: skip
    return np.asarray(order[keep], np.int64)


@kernel
def _greedy(
    polygons: Float32,
    areas: npt.NDArray[np.float64],
    low: Float32,
    high: Float32,
    first: npt.NDArray[np.int32],
    last: npt.NDArray[np.int32],
    columns: int,
    head: npt.NDArray[np.int32],
    entries: int,
    max_overlap: float,
    keep: npt.NDArray[np.bool_],
) -> None:
    """Walk through the polygons, best first; buckets are linked lists of those that stay.

    Parameters
    ----------
    polygons, areas
        Shape (n, rays, 2) and (n,).
    low, high
        Least and greatest x and y of each polygon, shape (n, 2).
    first, last
        Column and row of the first and the last bucket that it meets, shape (n, 2).
    columns, head, entries
        Number of buckets in a row; the first entry of each bucket, -1 as there is none yet; and
        how many entries all polygons have in them.
    max_overlap
        See `suppress`.
    keep
        False for each, becomes true for those that stay, shape (n,).
    """
    owner = np.empty(entries, np.int32)
    following = np.empty(entries, np.int32)
    crossings = np.empty((2, polygons.shape[1] + 1), np.float32)
    used = 0
    for i in range(len(polygons)):
        stays = True
        for row in range(first[i, 1], last[i, 1] + 1):
            for column in range(first[i, 0], last[i, 0] + 1):
                entry = head[row * columns + column]
                while entry >= 0 and stays:
                    j = owner[entry]
                    # A pair shares several buckets; only the first of them compares it.
                    if (
                        row == max(first[i, 1], first[j, 1])
                        and column == max(first[i, 0], first[j, 0])
                        and low[i, 0] < high[j, 0]
                        and low[j, 0] < high[i, 0]
                        and low[i, 1] < high[j, 1]
                        and low[j, 1] < high[i, 1]
                    ):
                        shared = _shared_area(polygons[i], polygons[j], low, high, i, j, crossings)
                        stays = shared <= max_overlap * min(areas[i], areas[j])
                    entry = following[entry]
                if not stays:
                    break
            if not stays:
                break
        if stays:
            keep[i] = True
            for row in range(first[i, 1], last[i, 1] + 1):
                for column in range(first[i, 0], last[i, 0] + 1):
                    owner[used] = i
                    following[used] = head[row * columns + column]
                    head[row * columns + column] = used
                    used += 1


@kernel
def _shared_area(
    p: Float32, q: Float32, low: Float32, high: Float32, i: int, j: int, crossings: Float32
) -> float:
    """Area of overlap of two polygons by the midpoint rule over horizontal lines.

    The polygons, numbers i and j, have shape (rays, 2), their bounds (n, 2); there is room for
    crossings, shape (2, rays + 1).
    """
    top = max(low[i, 1], low[j, 1])
    bottom = min(high[i, 1], high[j, 1])
    spacing = (bottom - top) / np.float32(_LINES)
    total = np.float32(0)
    for line in range(_LINES):
        y = top + (np.float32(line) + np.float32(0.5)) * spacing
        a = add_crossings(p, y, crossings[0], np.int64(0))
        b = add_crossings(q, y, crossings[1], np.int64(0))
        m = n = 0
        while m + 1 < a and n + 1 < b:
            left = max(crossings[0, m], crossings[1, n])
            right = min(crossings[0, m + 1], crossings[1, n + 1])
            if right > left:
                total += right - left
            if crossings[0, m + 1] < crossings[1, n + 1]:
                m += 2
            else:
                n += 2
    return total * spacing
