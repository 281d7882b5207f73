"""Least width and smallest enclosing circle of a convex polygon."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel

Floats = npt.NDArray[np.float64]

_TOUCHES = 1e-12
"""Relative tolerance of the squared radius."""


@kernel
def least_width(hull: Floats) -> float:
    """Smallest distance between two parallel lines that hold a convex polygon between them.

    One of the lines lies on an edge; the farthest vertex moves on with the edge (rotating
    calipers, Toussaint 1983).

    Parameters
    ----------
    hull
        Closed ring, shape (v, 2), v >= 4.
    """
    count = len(hull) - 1
    least = math.inf
    far = 1
    for k in range(count):
        dx, dy = hull[k + 1, 0] - hull[k, 0], hull[k + 1, 1] - hull[k, 1]
        width = abs(dx * (hull[far, 1] - hull[k, 1]) - dy * (hull[far, 0] - hull[k, 0]))
        for _ in range(count):
            after = far + 1 if far + 1 < count else 0
            further = abs(dx * (hull[after, 1] - hull[k, 1]) - dy * (hull[after, 0] - hull[k, 0]))
            if further < width:
                break
            width, far = further, after
        length = math.hypot(dx, dy)
        if length > 0:
            least = min(least, width / length)
    return least


@kernel
def bounding_circle_radius(hull: Floats) -> float:
    """Radius of the smallest circle around a convex polygon.

    The circle of at most three vertices grows by the vertex farthest outside until there is
    none (Elzinga and Hearn 1972).

    Parameters
    ----------
    hull
        Closed ring, shape (v, 2).
    """
    x, y, squared = hull[0, 0], hull[0, 1], 0.0
    corners = np.empty((4, 2))
    corners[0, 0], corners[0, 1] = x, y
    held = 1
    for _ in range(len(hull)):
        farthest, distance = 0, -1.0
        for k in range(len(hull) - 1):
            d = (hull[k, 0] - x) ** 2 + (hull[k, 1] - y) ** 2
            if d > distance:
                farthest, distance = k, d
        if distance <= squared * (1 + _TOUCHES):
            break
        corners[held, 0], corners[held, 1] = hull[farthest, 0], hull[farthest, 1]
        x, y, squared, held = _smallest_circle(corners, held + 1)
    return math.sqrt(squared)


@kernel
def _smallest_circle(corners: Floats, count: int) -> tuple[float, float, float, int]:
    """Smallest circle around the first points of (4, 2), the last of them on it.

    Moves the points that define it to the front; returns centre, squared radius and how many.
    """
    best_x, best_y, best = 0.0, 0.0, math.inf
    first = second = -1
    last = corners[count - 1]
    for a in range(count - 1):
        x, y = (corners[a, 0] + last[0]) / 2, (corners[a, 1] + last[1]) / 2
        squared = (last[0] - x) ** 2 + (last[1] - y) ** 2
        if squared < best and _holds(corners, count, x, y, squared):
            best_x, best_y, best, first, second = x, y, squared, a, -1
        for b in range(a):
            x, y, squared = _circle_through(corners[a], corners[b], last)
            if squared < best and _holds(corners, count, x, y, squared):
                best_x, best_y, best, first, second = x, y, squared, a, b
    for axis in range(2):
        one, other, on_it = corners[first, axis], corners[second, axis], last[axis]
        corners[0, axis], corners[1, axis], corners[2, axis] = on_it, one, other
    return best_x, best_y, best, 2 if second < 0 else 3


@kernel
def _circle_through(p: Floats, q: Floats, r: Floats) -> tuple[float, float, float]:
    """Return centre and squared radius of the circle through three points of shape (2,)."""
    ax, ay, bx, by = p[0] - r[0], p[1] - r[1], q[0] - r[0], q[1] - r[1]
    double_cross = 2 * (ax * by - ay * bx)
    if double_cross == 0:
        return 0.0, 0.0, math.inf
    aa, bb = ax * ax + ay * ay, bx * bx + by * by
    x, y = (by * aa - ay * bb) / double_cross, (ax * bb - bx * aa) / double_cross
    return r[0] + x, r[1] + y, x * x + y * y


@kernel
def _holds(corners: Floats, count: int, x: float, y: float, squared: float) -> bool:
    """Whether a circle holds the first points of (4, 2)."""
    for k in range(count):
        if (corners[k, 0] - x) ** 2 + (corners[k, 1] - y) ** 2 > squared * (1 + 10 * _TOUCHES):
            return False
    return True
