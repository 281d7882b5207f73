"""Polygons drawn into label images."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.kernels import kernel

Floating = TypeVar("Floating", np.float32, np.float64)

UNKNOWN = 65535
"""Label of a pixel of which nothing is known: not annotated, or outside of the image."""


@kernel
def add_crossings(
    ring: npt.NDArray[Floating], y: float, out: npt.NDArray[Floating], found: int
) -> int:
    """Add where a ring crosses a horizontal line to the crossings of other rings.

    Parameters
    ----------
    ring
        Vertices, shape (v, 2), closed or not.
    y
        The line. A vertex that lies on it counts as above.
    out
        The x of the crossings in ascending order, with room for v more.
    found
        How many there are.

    Returns
    -------
    int
        How many there are now.
    """
    before = len(ring) - 1
    for k in range(len(ring)):
        y0, y1 = ring[before, 1], ring[k, 1]
        if (y0 <= y) != (y1 <= y):
            x0, x1 = ring[before, 0], ring[k, 0]
            x = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
            place = found
            while place > 0 and out[place - 1] > x:
                out[place] = out[place - 1]
                place -= 1
            out[place] = x
            found += 1
        before = k
    return found


@kernel
def _draw(
    xy: npt.NDArray[np.float64],
    rings: npt.NDArray[np.int64],
    polygons: npt.NDArray[np.int64],
    numbers: npt.NDArray[Any],
    labels: npt.NDArray[Any],
) -> None:
    """Draw as `draw` does; numbers are of the type of the labels."""
    height, width = labels.shape
    for k in range(len(polygons) - 1):
        y_of_all = xy[rings[polygons[k]] : rings[polygons[k + 1]], 1]
        if len(y_of_all) == 0:
            continue
        crossings = np.empty(len(y_of_all))
        top = max(0, math.floor(y_of_all.min()))
        bottom = min(height, math.ceil(y_of_all.max()))
        for row in range(top, bottom):
            found = 0
            for r in range(polygons[k], polygons[k + 1]):
                found = add_crossings(xy[rings[r] : rings[r + 1]], row + 0.5, crossings, found)
            for pair in range(0, found - 1, 2):
                first = max(0, math.ceil(crossings[pair] - 0.5))
                stop = min(width, math.ceil(crossings[pair + 1] - 0.5))
                for column in range(first, stop):
                    labels[row, column] = numbers[k]


def draw(
    xy: npt.NDArray[np.float64],
    rings: npt.NDArray[np.int64],
    polygons: npt.NDArray[np.int64],
    numbers: npt.NDArray[Any],
    labels: npt.NDArray[Any],
) -> None:
    """Draw polygons with holes into a label image: the pixels whose centres they hold.

    Parameters
    ----------
    xy
        Vertices of all rings in pixel corners of the image, shape (v, 2).
    rings
        Ring r is ``xy[rings[r]:rings[r + 1]]``, closed or not.
    polygons
        Polygon k has the rings ``polygons[k]`` to ``polygons[k + 1] - 1`` (even-odd rule).
    numbers
        Label of each polygon. Where polygons overlap, the later one is on top.
    labels
        Whole numbers, shape (height, width); changed in place. What lies outside is cut off.
    """
    if len(polygons) > 1:
        _draw(
            np.ascontiguousarray(xy, np.float64),
            np.asarray(rings, np.int64),
            np.asarray(polygons, np.int64),
            np.asarray(numbers, labels.dtype),
            labels,
        )


def rasterise(
    xy: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64], shape: tuple[int, int]
) -> npt.NDArray[np.int32]:
    """Draw rings into a label image: the pixels whose centres they hold (even-odd rule).

    Parameters
    ----------
    xy, offsets
        Rings as in `wsi_engine.models.protocol.Predictions`, pixel corners of the image.
        Where rings overlap, the later one is on top.
    shape
        Height and width.

    Returns
    -------
    numpy.ndarray
        int32, 0 for background and k + 1 for ring k.

    Examples
    --------
    >>> square = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 2.0], [1.0, 2.0]])
    >>> rasterise(square, np.array([0, 4]), (3, 4))
    array([[0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]], dtype=int32)
    """
    labels = np.zeros(shape, np.int32)
    each = np.arange(len(offsets))
    draw(xy, offsets, each, each[1:], labels)
    return labels


def draw_polygons(
    geometries: npt.ArrayLike, numbers: npt.ArrayLike, labels: npt.NDArray[Any]
) -> None:
    """Draw polygons, or several in one, into a label image, as `draw` does.

    Parameters
    ----------
    geometries
        Polygons and MultiPolygons in pixel corners of the image, shape (n,).
    numbers, labels
        As for `draw`.
    """
    parts, owners = shapely.get_parts(np.asarray(geometries, object), return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    xy, of_ring = shapely.get_coordinates(rings, return_index=True)
    draw(
        xy,
        np.searchsorted(of_ring, np.arange(len(rings) + 1)),
        np.searchsorted(of_part, np.arange(len(parts) + 1)),
        np.asarray(numbers)[owners],
        labels,
    )
