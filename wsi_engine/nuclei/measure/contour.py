"""How a contour deviates from smooth and round: fractal dimension, Fourier descriptors.

Both walk along the exterior at equal steps, so that they do not depend on where the polygon
happens to have its vertices.
"""

from __future__ import annotations

import math
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.nuclei.measure.columns import Column

POINTS = 64
"""Along the contour, at equal distances."""

STRIDES = (1, 2, 4, 8)
"""Lengths of the dividers' step, in points."""

_ANGLE = 2 * math.pi * np.arange(POINTS) / POINTS
_COSINE, _SINE = np.cos(_ANGLE), np.sin(_ANGLE)

T = TypeVar("T")
Floats = npt.NDArray[np.float64]


class Contour(NamedTuple, Generic[T]):
    """What is told of a contour: numbers, or the columns that describe them."""

    fractal_dimension: T
    fourier_2: T
    fourier_3: T
    fourier_4: T
    fourier_5: T
    fourier_6: T


CONTOUR_FIELDS = len(Contour._fields)


def _fourier_column(lobes: int) -> Column:
    return Column(
        f"Fourier descriptor {lobes}",
        "",
        f"√(|c(1+{lobes})|² + |c(1-{lobes})|²) / |c(1)| of the contour x + iy at {POINTS} "
        f"equal steps: {lobes} lobes; 0 for a circle",
        "Granlund, IEEE Trans Comput C-21:195 (1972)",
    )


DESCRIPTORS = Contour(
    fractal_dimension=Column(
        "Fractal dimension",
        "",
        f"1 - slope of log length over log step; the contour walked in {POINTS} equal steps and "
        "in steps of 2, 4 and 8 times that; 1 is smooth",
        "Richardson's dividers: Mandelbrot, Science 156:636 (1967)",
    ),
    fourier_2=_fourier_column(2),
    fourier_3=_fourier_column(3),
    fourier_4=_fourier_column(4),
    fourier_5=_fourier_column(5),
    fourier_6=_fourier_column(6),
)


@kernel
def ring_length(ring: Floats) -> float:
    """Length of a closed ring, shape (v, 2)."""
    total = 0.0
    for k in range(len(ring) - 1):
        total += math.hypot(ring[k + 1, 0] - ring[k, 0], ring[k + 1, 1] - ring[k, 1])
    return total


@kernel
def describe_contour(ring: Floats, out: npt.NDArray[np.float32]) -> None:
    """Write the fields of `Contour` of a closed ring, shape (v, 2), into a row (6,) of NaN.

    They stay NaN where the ring has no length or no first harmonic.
    """
    points = np.empty((POINTS, 2))
    if not _walk(ring, points):
        return
    turn = _turn(points)
    size = _squared_coefficient(points, turn)
    out[0] = _fractal_dimension(points)
    if size > 0:
        for field in range(1, CONTOUR_FIELDS):
            out[field] = math.sqrt(_power(points, turn, field + 1) / size)


@kernel
def _walk(ring: Floats, points: Floats) -> bool:
    """Write points (POINTS, 2) at equal distances along a ring; return whether it has a length."""
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


@kernel
def _fractal_dimension(points: Floats) -> float:
    """Slope of the mean length over all starting points (POINTS, 2), by least squares."""
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


@kernel
def _turn(points: Floats) -> int:
    """Return 1 where a contour (POINTS, 2) turns from x to y, else -1."""
    area = 0.0
    for j in range(POINTS):
        k = (j + 1) % POINTS
        area += points[j, 0] * points[k, 1] - points[k, 0] * points[j, 1]
    return 1 if area > 0 else -1


@kernel
def _power(points: Floats, turn: int, lobes: int) -> float:
    """Power of both Fourier coefficients that give a contour (POINTS, 2) its lobes."""
    ahead = _squared_coefficient(points, turn * (1 + lobes))
    return ahead + _squared_coefficient(points, turn * (1 - lobes))


@kernel
def _squared_coefficient(points: Floats, order: int) -> float:
    """Return the squared Fourier coefficient of an order of a contour (POINTS, 2)."""
    real = imaginary = 0.0
    for j in range(POINTS):
        k = (order * j) % POINTS
        real += points[j, 0] * _COSINE[k] + points[j, 1] * _SINE[k]
        imaginary += points[j, 1] * _COSINE[k] - points[j, 0] * _SINE[k]
    return real * real + imaginary * imaginary
