"""The rays of cells: how far it is from an outline to where another outline is as near."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel

GAP_UM = 0.2
"""Left free between two cells: more than straight lines between the ends of rays, simplification
and rounding move a border. QuPath's own cells are a pixel apart."""

STEP_UM = 1.0
"""Longest step from one ray to the next along an outline."""

TURN = 0.25
"""Largest angle from one ray to the next around a vertex, in radians."""

BEND_UM = 0.05
"""Between two rays there is another one where it is not as long as their mean, by so much; so there
are many where nuclei nearly touch."""

FINEST = 1 / 32
"""Smallest part of a step, or of a turn, from one ray to the next."""

SHORTEST_UM = 0.02
"""Where a ray would be shorter, the cell ends with its nucleus."""

TOUCHING_UM = 1e-4
"""So near, an outline is touched: hundredths of a pixel make a larger distance."""

LIFT_PX = 0.015
"""How far points between two vertices are kept away from the outline: when they are rounded, they
must not come to lie within the nucleus."""

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
        Those of `_boxes_of_blocks`.
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
def expand(
    xy: Floats,
    rings: Indices,
    bounds: Floats,
    wanted: Indices,
    near: Indices,
    offsets: Indices,
    distance: float,
    width: float,
    height: float,
    lift: float,
) -> tuple[Floats, Indices, npt.NDArray[np.bool_]]:
    """Find where the rays of outlines end.

    Parameters
    ----------
    xy, rings
        Closed outlines in µm, shape (v, 2); nucleus i has ``xy[rings[i]:rings[i + 1]]``.
    bounds
        Their boxes: left, top, right, bottom, shape (n, 4).
    wanted, near, offsets
        Positions of m nuclei, and of those around each, nucleus k of them has
        ``near[offsets[k]:offsets[k + 1]]``.
    distance
        Longest ray.
    width, height
        Size of the slide.
    lift
        Length of rays between vertices that would have none.

    Returns
    -------
    ends, cells
        Open rings: cell k is ``ends[cells[k]:cells[k + 1]]``; there may be room left.
    touches
        Whether some rays of a cell end at once, shape (m,).
    """
    ends = np.empty((1024, 2))
    cells = np.empty(len(wanted) + 1, np.int64)
    touches = np.empty(len(wanted), np.bool_)
    cells[0] = 0
    used = 0
    # Rays that wait for those between them and the last one, and their lengths.
    waiting, lengths = np.empty(16), np.empty(16)
    edge = np.empty(7)
    outlines = Outlines(xy, rings, bounds, _boxes_of_blocks(xy), distance, width, height)
    for k in range(len(wanted)):
        first, last = rings[wanted[k]], rings[wanted[k] + 1] - 1
        side = 1.0 if _is_anticlockwise(xy, first, last) else -1.0
        others = near[offsets[k] : offsets[k + 1]]
        touches[k] = False
        before, held, length = False, False, -1.0
        hx, hy = 0.0, 0.0
        nearest = -1
        for v in range(first, last):
            _describe_edge(xy, v, v + 2 if v + 1 < last else first + 1, edge)
            steps, turns = edge[5], edge[6]
            if length < 0:
                ray = _ray(edge, 0.0, side)
                length, nearest = _free(outlines, others, nearest, ray)
                before = length < SHORTEST_UM
            low, at_vertex = 0.0, False
            for goal in range(1, int(steps + turns) + 1):
                ray = _ray(edge, float(goal), side)
                waiting[0] = goal
                lengths[0], nearest = _free(outlines, others, nearest, ray)
                top = 0
                while top >= 0:
                    high = waiting[top]
                    if high - low > FINEST:
                        middle = (low + high) / 2
                        ray = _ray(edge, middle, side)
                        between, nearest = _free(outlines, others, nearest, ray)
                        if abs(between - (length + lengths[top]) / 2) > BEND_UM:
                            top += 1
                            waiting[top], lengths[top] = middle, between
                            continue
                    low, length = high, lengths[top]
                    top -= 1
                    x, y, nx, ny = _ray(edge, low, side)
                    ends = _with_room(ends, used, 2)
                    if length >= SHORTEST_UM:
                        if held:
                            ends[used, 0], ends[used, 1] = hx, hy
                            used += 1
                        ends[used, 0], ends[used, 1] = x + length * nx, y + length * ny
                        used += 1
                        before, held, at_vertex = False, False, False
                        continue
                    # Of what stays with the nucleus its own vertices are enough, each once, and
                    # the points where the border leaves the outline and comes back.
                    touches[k] = True
                    if low >= steps:
                        if not at_vertex:
                            ends[used, 0], ends[used, 1] = x, y
                            used += 1
                        held, at_vertex = False, True
                    else:
                        hx = min(max(x + lift * nx, 0.0), width)
                        hy = min(max(y + lift * ny, 0.0), height)
                        held = before
                        if not before:
                            ends[used, 0], ends[used, 1] = hx, hy
                            used += 1
                    before = True
        cells[k + 1] = used
    return ends, cells, touches


@kernel
def _describe_edge(xy: Floats, v: int, following: int, edge: Floats) -> None:
    """Write start and end (x, y), heading and turn to the next edge, numbers of steps and turns.

    Parameters
    ----------
    xy
        Points, shape (v, 2).
    v, following
        The edge is from point v to the next, and is followed by that to point ``following``.
    edge
        Gets x and y of the start, the heading, the length, the turn, and the numbers of steps and
        of turns; shape (7,).
    """
    x, y = xy[v + 1, 0], xy[v + 1, 1]
    dx, dy = x - xy[v, 0], y - xy[v, 1]
    edge[0], edge[1] = xy[v, 0], xy[v, 1]
    edge[2], edge[3] = math.atan2(dy, dx), math.hypot(dx, dy)
    turn = math.atan2(xy[following, 1] - y, xy[following, 0] - x) - edge[2]
    if turn > math.pi:
        turn -= 2 * math.pi
    elif turn < -math.pi:
        turn += 2 * math.pi
    edge[4] = turn
    edge[5] = max(1, math.ceil(edge[3] / STEP_UM))
    edge[6] = max(1, math.ceil(abs(turn) / TURN))


@kernel
def _ray(edge: Floats, at: float, side: float) -> Ray:
    """Return a ray of an edge.

    Parameters
    ----------
    edge
        What `_describe_edge` writes, shape (7,).
    at
        Which ray: first the steps along the edge, then the turns at its end.
    side
        1 where the outline turns from x to y, else -1.
    """
    along = edge[3] * min(at, edge[5]) / edge[5]
    angle = edge[2] + edge[4] * max(0.0, at - edge[5]) / edge[6]
    x, y = edge[0] + along * math.cos(edge[2]), edge[1] + along * math.sin(edge[2])
    return Ray(x, y, side * math.sin(angle), -side * math.cos(angle))


@kernel
def _free(outlines: Outlines, others: Indices, nearest: int, ray: Ray) -> tuple[float, int]:
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
def _boxes_of_blocks(xy: Floats) -> Floats:
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
def _with_room(points: Floats, used: int, more: int) -> Floats:
    """Return an array that begins with the used part of points (k, 2), with room for more."""
    if used + more <= len(points):
        return points
    longer = np.empty((2 * len(points) + more, 2))
    for k in range(used):
        longer[k, 0], longer[k, 1] = points[k, 0], points[k, 1]
    return longer


@kernel
def _is_anticlockwise(xy: Floats, first: int, last: int) -> bool:
    """Whether a closed ring of points (v, 2) turns from x to y."""
    twice = 0.0
    for v in range(first, last):
        twice += (xy[v, 0] - xy[first, 0]) * (xy[v + 1, 1] - xy[first, 1])
        twice -= (xy[v + 1, 0] - xy[first, 0]) * (xy[v, 1] - xy[first, 1])
    return twice > 0


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
