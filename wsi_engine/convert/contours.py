"""Contours through pixel centres, and the outlines of the pixels that they mean.

``cv2.findContours`` joins the *centres* of the border pixels, given as whole numbers without
the half pixel that a centre has. Taken as polygons such contours lie half a pixel too far up
and left and are half a pixel too small all round: a disc of 10 pixels' radius loses a tenth of
its area. The contour still says which pixels were meant, all of them, so that here they are
painted and outlined anew, as the engine outlines its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import Polygons, polygons_from_rings
from wsi_engine.nuclei.raster import rasterise
from wsi_engine.nuclei.tracing import trace_labels

Contour = npt.NDArray[np.float64]
"""Vertices, shape (k, 2), k from 1."""

CANVAS_PIXELS = 1 << 20
"""Area of the canvas on which nuclei are painted side by side; what alone is larger is none."""


def pixel_outlines(contours: Sequence[Contour]) -> Polygons:
    """Outline the pixels on and inside of contours through pixel centres.

    Parameters
    ----------
    contours
        Contours of whole numbers: pixel (3, 2) is the point (3, 2). One pixel or a line of them is
        fine. A contour with fractions was not traced that way and becomes a polygon as it is.

    Returns
    -------
    Polygons
        In pixel corners, where pixel (3, 2) is the square from (3, 2) to (4, 3); vertices lie
        half way between the centres inside and outside (see `models.tracing`). Pixels that
        hang on the rest by a corner only are left out. Empty where a contour with fractions
        has less than three vertices. A contour that spans more than `CANVAS_PIXELS` is moved
        and grown by half a pixel instead.

    Examples
    --------
    >>> pixel_outlines([np.array([[3.0, 2.0]])])[0].bounds
    (3.0, 2.0, 4.0, 3.0)
    """
    outlines = np.empty(len(contours), object)
    painted = []
    for k, contour in enumerate(contours):
        if (contour != np.floor(contour)).any():
            outlines[k] = polygon_of(contour)
        elif np.prod(np.ptp(contour, axis=0) + 1) > CANVAS_PIXELS:
            outlines[k] = polygon_of(contour + 0.5).buffer(0.5, join_style="mitre")
        else:
            painted.append(k)
    for group in _groups(contours, painted):
        outlines[group] = _outlined([contours[k] for k in group])
    return outlines


def polygon_of(contour: Contour) -> shapely.Polygon:
    """Take the vertices as they are; empty where there are less than three."""
    return shapely.Polygon(contour) if len(contour) >= 3 else shapely.Polygon()


def _groups(contours: Sequence[Contour], chosen: Sequence[int]) -> Iterator[list[int]]:
    """Split contours into groups that fit on one canvas side by side."""
    group: list[int] = []
    width = height = 0
    for k in chosen:
        w, h = (np.ptp(contours[k], axis=0) + 1).tolist()
        if group and (width + w) * max(height, h) > CANVAS_PIXELS:
            yield group
            group, width, height = [], 0, 0
        group.append(k)
        width, height = width + w, max(height, h)
    if group:
        yield group


def _outlined(contours: Sequence[Contour]) -> Polygons:
    lengths = [len(contour) for contour in contours]
    corners = np.array([contour.min(axis=0) for contour in contours])
    sizes = np.array([contour.max(axis=0) for contour in contours]) - corners + 1
    left = np.concatenate([[0], np.cumsum(sizes[:, 0])])
    moved = corners - np.column_stack([left[:-1], np.zeros(len(contours))])
    xy = np.concatenate(contours) - np.repeat(moved, lengths, axis=0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Of the pixels whose centres lie on the contour itself, the even-odd rule finds some only.
    canvas = rasterise(xy + 0.5, offsets, (int(sizes[:, 1].max()), int(left[-1])))
    owners, (columns, rows) = _steps(xy, offsets)
    canvas[rows, columns] = owners + 1
    outlines, starts, _ = trace_labels(canvas)
    back = np.repeat(moved, np.diff(starts), axis=0)
    return polygons_from_rings(outlines + back, starts)


def _steps(
    xy: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Walk along closed contours from pixel to pixel.

    Returns
    -------
    owners
        int64, shape (p,): the contour of each pixel on the way.
    pixels
        int64, shape (2, p): column and row.
    """
    following = np.arange(1, len(xy) + 1)
    following[offsets[1:] - 1] = offsets[:-1]
    way = xy[following] - xy
    steps = np.maximum(np.abs(way).max(axis=1), 1).astype(np.int64)
    edges = np.repeat(np.arange(len(xy)), steps)
    done = np.arange(len(edges)) - np.repeat(np.cumsum(steps) - steps, steps)
    pixels = np.rint(xy[edges] + way[edges] * (done / steps[edges])[:, None]).astype(np.int64)
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return owners[edges], pixels.T
