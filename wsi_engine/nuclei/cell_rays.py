"""The rays of cells: where they begin along an outline, and where they end."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.nuclei.cell_room import (
    SHORTEST_UM,
    Floats,
    Indices,
    Outlines,
    Ray,
    boxes_of_blocks,
    free_length,
)

STEP_UM = 1.0
"""Longest step from one ray to the next along an outline."""

TURN = 0.25
"""Largest angle from one ray to the next around a vertex, in radians."""

BEND_UM = 0.05
"""Between two rays there is another one where it is not as long as their mean, by so much; so there
are many where nuclei nearly touch."""

FINEST = 1 / 32
"""Smallest part of a step, or of a turn, from one ray to the next."""

LIFT_PX = 0.015
"""How far points between two vertices are kept away from the outline: when they are rounded, they
must not come to lie within the nucleus."""


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
    outlines = Outlines(xy, rings, bounds, boxes_of_blocks(xy), distance, width, height)
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
                length, nearest = free_length(outlines, others, nearest, ray)
                before = length < SHORTEST_UM
            low, at_vertex = 0.0, False
            for goal in range(1, int(steps + turns) + 1):
                ray = _ray(edge, float(goal), side)
                waiting[0] = goal
                lengths[0], nearest = free_length(outlines, others, nearest, ray)
                top = 0
                while top >= 0:
                    high = waiting[top]
                    if high - low > FINEST:
                        middle = (low + high) / 2
                        ray = _ray(edge, middle, side)
                        between, nearest = free_length(outlines, others, nearest, ray)
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
