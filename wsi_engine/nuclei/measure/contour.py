"""How a contour deviates from smooth and round: fractal dimension, Fourier descriptors.

Both walk along the exterior at equal steps, so that they do not depend on where the polygon
happens to have its vertices.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from wsi_engine.nuclei.measure.columns import Column

POINTS = 64
"""Along the contour, at equal distances."""

STRIDES = (1, 2, 4, 8)
"""Lengths of the dividers' step, in points."""

LOBES = (2, 3, 4, 5, 6)

_ANGLE = 2 * math.pi * np.arange(POINTS) / POINTS
_COSINE, _SINE = np.cos(_ANGLE), np.sin(_ANGLE)

DESCRIPTORS = (
    Column(
        "Fractal dimension",
        "",
        f"1 - slope of log length over log step; the contour walked in {POINTS} equal steps and "
        "in steps of 2, 4 and 8 times that; 1 is smooth",
        "Richardson's dividers: Mandelbrot, Science 156:636 (1967)",
    ),
    *(
        Column(
            f"Fourier descriptor {lobes}",
            "",
            f"√(|c(1+{lobes})|² + |c(1-{lobes})|²) / |c(1)| of the contour x + iy at {POINTS} "
            f"equal steps: {lobes} lobes; 0 for a circle",
            "Granlund, IEEE Trans Comput C-21:195 (1972)",
        )
        for lobes in LOBES
    ),
)


@numba.njit(nogil=True, cache=True)
def ring_length(ring):  # type: ignore[no-untyped-def]
    """Length of a closed ring, shape (v, 2)."""
    total = 0.0
    for k in range(len(ring) - 1):
        total += math.hypot(ring[k + 1, 0] - ring[k, 0], ring[k + 1, 1] - ring[k, 1])
    return total


@numba.njit(nogil=True, cache=True)
def describe_contour(ring, out):  # type: ignore[no-untyped-def]
    """Write `DESCRIPTORS` of a closed ring, shape (v, 2); nothing where it has no length."""
    points = np.empty((POINTS, 2))
    if not _walk(ring, points):
        return
    out[0] = _fractal_dimension(points)
    _fourier(points, out[1:])


@numba.njit(nogil=True, cache=True)
def _walk(ring, points):  # type: ignore[no-untyped-def]
    """Write points at equal distances along a ring; return whether it has a length."""
    length = ring_length(ring)
    if not length > 0:
        return False
    edge, passed = 0, 0.0
    dx, dy = ring[1, 0] - ring[0, 0], ring[1, 1] - ring[0, 1]
    side = math.hypot(dx, dy)
    for j in range(POINTS):
        goal = length * j / POINTS
        while passed + side < goal and edge < len(ring) - 2:
            passed += side
            edge += 1
            dx, dy = ring[edge + 1, 0] - ring[edge, 0], ring[edge + 1, 1] - ring[edge, 1]
            side = math.hypot(dx, dy)
        share = (goal - passed) / side if side > 0 else 0.0
        # From a vertex near by: coordinates of a slide are large, steps are small.
        points[j, 0] = ring[edge, 0] - ring[0, 0] + share * dx
        points[j, 1] = ring[edge, 1] - ring[0, 1] + share * dy
    return True


@numba.njit(nogil=True, cache=True)
def _fractal_dimension(points):  # type: ignore[no-untyped-def]
    """Slope of the mean length over all starting points, by least squares."""
    count = len(STRIDES)
    sx = sy = sxx = sxy = 0.0
    for stride in STRIDES:
        total = 0.0
        for j in range(POINTS):
            k = (j + stride) % POINTS
            total += math.hypot(points[k, 0] - points[j, 0], points[k, 1] - points[j, 1])
        # Each of `stride` walks has POINTS / stride steps.
        if not total > 0:
            return math.nan
        x, y = math.log(total / POINTS), math.log(total / stride)
        sx += x
        sy += y
        sxx += x * x
        sxy += x * y
    spread = count * sxx - sx * sx
    return 1 - (count * sxy - sx * sy) / spread if spread > 0 else math.nan


@numba.njit(nogil=True, cache=True)
def _fourier(points, out):  # type: ignore[no-untyped-def]
    area = 0.0
    for j in range(POINTS):
        k = (j + 1) % POINTS
        area += points[j, 0] * points[k, 1] - points[k, 0] * points[j, 1]
    turn = 1 if area > 0 else -1
    size = _squared_coefficient(points, turn)
    if not size > 0:
        return
    for n in range(len(LOBES)):
        lobes = LOBES[n]
        power = _squared_coefficient(points, turn * (1 + lobes))
        power += _squared_coefficient(points, turn * (1 - lobes))
        out[n] = math.sqrt(power / size)


@numba.njit(nogil=True, cache=True)
def _squared_coefficient(points, order):  # type: ignore[no-untyped-def]
    real = imaginary = 0.0
    for j in range(POINTS):
        k = (order * j) % POINTS
        real += points[j, 0] * _COSINE[k] + points[j, 1] * _SINE[k]
        imaginary += points[j, 1] * _COSINE[k] - points[j, 0] * _SINE[k]
    return real * real + imaginary * imaginary
