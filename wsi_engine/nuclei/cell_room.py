"""How far a point may go from its outline until another outline is as near."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel

GAP_UM = 0.2
"""Left free between two cells: more than straight lines between the ends of rays, simplification
and rounding move a border. QuPath's own cells are a pixel apart."""

SHORTEST_UM = 0.02
"""Where a ray would be shorter, the cell ends with its nucleus."""

TOUCHING_UM = 1e-4
"""So near, an outline is touched: hundredths of a pixel make a larger distance."""

BLOCK = 8
"""So many edges, one after the other, have a box in common, outside of which none is looked at."""

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class Outlines(NamedTuple):
    """Outlines, in µm, and how far rays from them may get.

    Attributes
    ----------
    xy, rings
        Closed outlines, shape (v, 2); nucleus i has ``xy[rings[i]:rings[i + 1]]``.
    bounds
        Their boxes: left, top, right, bottom, shape (n, 4).
    blocks
        Those of `boxes_of_blocks`.
    distance
        Longest ray.
    width, height
        Size of the slide.
    """

    xy: Floats
    rings: Indices
    bounds: Floats
    blocks: Floats
    distance: float
    width: float
    height: float


class Ray(NamedTuple):
    """Where a ray begins, and its direction, of length 1."""

    x: float
    y: float
    nx: float
    ny: float


@kernel
def free_length(outlines: Outlines, others: Indices, nearest: int, ray: Ray) -> tuple[float, int]:
    """How far a ray gets, and the edge that ends it, -1 for none.

    Parameters
    ----------
    outlines
        All of them.
    others
        The nuclei around, shape (c,).
    nearest
        The edge that ended the ray before, which is looked at first.
    ray
        The ray.
    """
    free = min(
        outlines.distance,
        _to_edge(ray.x, ray.nx, outlines.width),
        _to_edge(ray.y, ray.ny, outlines.height),
    )
    # Taken out once: each time costs as much as an edge does.
    xy, rings, bounds, blocks = outlines.xy, outlines.rings, outlines.bounds, outlines.blocks
    if nearest >= 0:
        touching = _touching(xy, nearest, ray) - GAP_UM / 2
        if touching < free:
            free = touching
        else:
            nearest = -1
    for other in others:
        if free < SHORTEST_UM:
            return 0.0, nearest
        free, edge = _free_of(xy, rings, bounds, blocks, other, ray, free)
        nearest = edge if edge >= 0 else nearest
    return (free if free >= SHORTEST_UM else 0.0), nearest


@kernel
def boxes_of_blocks(xy: Floats) -> Floats:
    """Return left, top, right and bottom of every `BLOCK` edges between points of shape (v, 2)."""
    boxes = np.empty(((len(xy) + BLOCK - 1) // BLOCK, 4))
    for k in range(len(boxes)):
        boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3] = (
            math.inf,
            math.inf,
            -math.inf,
            -math.inf,
        )
        for v in range(k * BLOCK, min((k + 1) * BLOCK + 1, len(xy))):
            boxes[k, 0], boxes[k, 1] = min(boxes[k, 0], xy[v, 0]), min(boxes[k, 1], xy[v, 1])
            boxes[k, 2], boxes[k, 3] = max(boxes[k, 2], xy[v, 0]), max(boxes[k, 3], xy[v, 1])
    return boxes


@kernel
def _to_edge(at: float, direction: float, size: float) -> float:
    """How far it is along one axis to the border of the slide."""
    if direction > 0:
        return max(0.0, (size - at) / direction)
    if direction < 0:
        return max(0.0, -at / direction)
    return math.inf


@kernel
def _free_of(
    xy: Floats,
    rings: Indices,
    bounds: Floats,
    blocks: Floats,
    other: int,
    ray: Ray,
    free: float,
) -> tuple[float, int]:
    """How far a ray gets before another outline is nearer, but for half of the gap.

    It returns the edge that is as near then, too, -1 where the ray gets as far as before.

    Parameters
    ----------
    xy, rings, bounds, blocks
        Those of all `Outlines`.
    other
        Which of them.
    ray
        The ray.
    free
        How far it gets for others.
    """
    # What does not meet the disc that is free so far makes it no smaller.
    radius = free + GAP_UM / 2
    reach = radius + TOUCHING_UM
    cx, cy = ray.x + radius * ray.nx, ray.y + radius * ray.ny
    if _is_beyond(bounds, other, cx, cy, reach):
        return free, -1
    # Whether the ray begins inside is asked of every edge, but only where the box leaves it open.
    nearest, inside = -1, False
    within = not _is_beyond(bounds, other, ray.x, ray.y, 0.0)
    v, stop = rings[other], rings[other + 1] - 1
    while v < stop:
        end = min((v // BLOCK + 1) * BLOCK, stop)
        if not within and _is_beyond(blocks, v // BLOCK, cx, cy, reach):
            v = end
            continue
        for edge in range(v, end):
            if within and _is_crossed(xy, edge, ray.x, ray.y):
                inside = not inside
            if _distance2(xy, edge, cx, cy) > reach * reach:
                continue
            touching = _touching(xy, edge, ray) - GAP_UM / 2
            if touching >= free:
                continue
            free, nearest = touching, edge
            if free <= 0:
                return 0.0, nearest
            radius = free + GAP_UM / 2
            reach = radius + TOUCHING_UM
            cx, cy = ray.x + radius * ray.nx, ray.y + radius * ray.ny
        v = end
    return (0.0 if inside else free), nearest


@kernel
def _is_beyond(boxes: Floats, k: int, x: float, y: float, reach: float) -> bool:
    """Whether one of boxes (n, 4) is farther from a point along an axis than so much."""
    if boxes[k, 0] > x + reach or boxes[k, 2] < x - reach:
        return True
    return bool(boxes[k, 1] > y + reach or boxes[k, 3] < y - reach)


@kernel
def _is_crossed(xy: Floats, v: int, x: float, y: float) -> bool:
    """Whether the edge from a point of (v, 2) to the next is met on the way from x, y to +x."""
    ay, by = xy[v, 1] - y, xy[v + 1, 1] - y
    if (ay > 0) == (by > 0):
        return False
    ax, bx = xy[v, 0] - x, xy[v + 1, 0] - x
    return bool(ax + ay / (ay - by) * (bx - ax) > 0)


@kernel
def _distance2(xy: Floats, v: int, x: float, y: float) -> float:
    """Square of the distance from x, y to the edge from a point of (v, 2) to the next."""
    ex, ey, dx, dy = xy[v + 1, 0] - xy[v, 0], xy[v + 1, 1] - xy[v, 1], x - xy[v, 0], y - xy[v, 1]
    at = min(max((dx * ex + dy * ey) / (ex * ex + ey * ey), 0.0), 1.0)
    dx, dy = dx - at * ex, dy - at * ey
    return dx * dx + dy * dy


@kernel
def _touching(xy: Floats, v: int, ray: Ray) -> float:
    """Radius of the disc with its centre on a ray that touches its beginning, and an edge.

    The disc through a point d has the radius d² / (2 n·d), which is least at an end of the
    edge, or where its derivative is 0. The edge is that from point v of (v, 2) to the next.
    """
    nx, ny = ray.nx, ray.ny
    ax, ay, bx, by = xy[v, 0] - ray.x, xy[v, 1] - ray.y, xy[v + 1, 0] - ray.x, xy[v + 1, 1] - ray.y
    ex, ey = bx - ax, by - ay
    length2, along, start2 = ex * ex + ey * ey, ax * ex + ay * ey, ax * ax + ay * ay
    ahead, climb = ax * nx + ay * ny, ex * nx + ey * ny
    nearest = min(max(-along / length2, 0.0), 1.0)
    if math.hypot(ax + nearest * ex, ay + nearest * ey) < TOUCHING_UM:
        return 0.0
    radius = start2 / (2 * ahead) if ahead > 0 else math.inf
    if ahead + climb > 0:
        radius = min(radius, (bx * bx + by * by) / (2 * (ahead + climb)))
    root = math.sqrt(length2) * math.hypot(ahead * ex - climb * ax, ahead * ey - climb * ay)
    if root == 0:
        return radius
    if ahead > 0:
        at = (climb * start2 - 2 * along * ahead) / (length2 * ahead + root)
    elif climb > 0:
        at = (root - length2 * ahead) / (length2 * climb)
    else:
        return radius
    if 0 < at < 1:
        x, y = ax + at * ex, ay + at * ey
        radius = min(radius, (x * x + y * y) * length2 / (2 * root))
    return radius
