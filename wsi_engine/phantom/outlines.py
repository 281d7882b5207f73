"""The truth of a phantom: nuclei as outlines that are known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

FloatArray = npt.NDArray[np.float64]

_VERTICES = 48
_HARMONICS = 4


class Kind(IntEnum):
    """What a nucleus belongs to."""

    EPITHELIAL = 0
    LYMPHOCYTE = 1
    SPINDLE = 2


@dataclass(frozen=True, slots=True)
class _Build:
    """How nuclei of one kind are built; pairs are the ends of uniform ranges."""

    semi_major_um: tuple[float, float]
    elongation: tuple[float, float]
    bump: float
    stain: tuple[float, float]


_BUILDS = {
    Kind.EPITHELIAL: _Build((4.0, 6.0), (1.2, 1.9), 0.05, (0.45, 0.75)),
    Kind.LYMPHOCYTE: _Build((2.8, 3.7), (1.0, 1.3), 0.035, (0.60, 0.95)),
    Kind.SPINDLE: _Build((4.2, 7.2), (2.3, 4.2), 0.075, (0.42, 0.80)),
}


@dataclass(frozen=True, slots=True)
class Blobs:
    """Star-shaped outlines: n ellipses, each perturbed by a short Fourier series.

    In the frame where the ellipse is the unit circle, the outline lies at radius
    ``1 + Re(sum_k bumps[k] * exp(1j * (k + 2) * phi))``.

    Attributes
    ----------
    center_px
        Shape (n, 2), float64, (x, y).
    semi_axes_px
        Shape (n, 2), float64, along and across ``angle``.
    angle
        Shape (n,), float64, radians from the x axis towards the y axis (down).
    bumps
        Shape (n, k), complex128: amplitude and phase of harmonics 2 to k + 1.
    """

    center_px: FloatArray
    semi_axes_px: FloatArray
    angle: FloatArray
    bumps: npt.NDArray[np.complex128]

    def __len__(self) -> int:
        return len(self.center_px)

    def outlines(self) -> FloatArray:
        """Return the outlines, shape (n, 48, 2), in pixels (corners); rings are left open."""
        circle = np.exp(2j * np.pi * np.arange(_VERTICES) / _VERTICES)
        harmonics = circle ** np.arange(2, 2 + self.bumps.shape[1])[:, None]
        points = circle * (1 + (self.bumps @ harmonics).real)
        along = points.real * self.semi_axes_px[:, :1]
        across = points.imag * self.semi_axes_px[:, 1:]
        turned = (along + 1j * across) * np.exp(1j * self.angle)[:, None]
        return np.stack([turned.real, turned.imag], axis=-1) + self.center_px[:, None]

    def relative_radius(self, index: int, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Return how far points offset from centre ``index`` lie outwards; the outline is 1."""
        turned = (dx + 1j * dy) * np.exp(-1j * self.angle[index])
        semi_major, semi_minor = self.semi_axes_px[index]
        points = turned.real / semi_major + 1j * (turned.imag / semi_minor)
        distance: FloatArray = np.abs(points)
        power = circle = points / np.maximum(distance, 1e-9)
        outline = np.ones_like(distance)
        for bump in self.bumps[index]:
            power = power * circle
            outline += (bump * power).real
        return distance / outline

    def take(self, rows: npt.NDArray[Any]) -> Blobs:
        """Return the chosen blobs, by index or mask."""
        return Blobs(
            self.center_px[rows], self.semi_axes_px[rows], self.angle[rows], self.bumps[rows]
        )


def random_bumps(
    count: int, amplitude: float, rng: np.random.Generator
) -> npt.NDArray[np.complex128]:
    """Draw Fourier perturbations, shape (count, 4), weaker from harmonic to harmonic."""
    size = rng.normal(0, amplitude, (count, _HARMONICS)) / np.arange(1, 1 + _HARMONICS)
    # Three sigma at most, or a rare nucleus would fold.
    size = np.clip(size, -3 * amplitude, 3 * amplitude)
    phase = rng.uniform(0, 2 * np.pi, (count, _HARMONICS))
    bumps: npt.NDArray[np.complex128] = size * np.exp(1j * phase)
    return bumps


@dataclass(frozen=True, slots=True)
class PhantomNuclei:
    """The truth of a phantom: n nuclei with their outline, kind and staining.

    Attributes
    ----------
    shapes
        Outlines in pixels of the image.
    kind
        Shape (n,), int64, values of `Kind`.
    stain
        Shape (n,), float64, optical density of haematoxylin at the rim.
    """

    shapes: Blobs
    kind: npt.NDArray[np.int64]
    stain: FloatArray

    def __len__(self) -> int:
        return len(self.kind)

    def outlines(self) -> FloatArray:
        """Return the exact outlines, shape (n, 48, 2), in pixels (corners); rings are open."""
        return self.shapes.outlines()

    def polygons(self) -> npt.NDArray[np.object_]:
        """Return the exact outlines as n shapely polygons, in pixels (corners)."""
        polygons: npt.NDArray[np.object_] = shapely.polygons(self.outlines())
        return polygons

    def take(self, rows: npt.NDArray[Any]) -> PhantomNuclei:
        """Return the chosen nuclei, by index or mask."""
        return PhantomNuclei(self.shapes.take(rows), self.kind[rows], self.stain[rows])

    def moved_to(self, center_px: FloatArray) -> PhantomNuclei:
        """Return the same nuclei around other centres, shape (n, 2), (x, y) in pixels."""
        shapes = self.shapes
        moved = Blobs(center_px, shapes.semi_axes_px, shapes.angle, shapes.bumps)
        return PhantomNuclei(moved, self.kind, self.stain)

    @classmethod
    def joined(cls, parts: list[PhantomNuclei]) -> PhantomNuclei:
        """Return the nuclei of all parts, in order."""
        return cls(
            Blobs(
                np.concatenate([part.shapes.center_px for part in parts]),
                np.concatenate([part.shapes.semi_axes_px for part in parts]),
                np.concatenate([part.shapes.angle for part in parts]),
                np.concatenate([part.shapes.bumps for part in parts]),
            ),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.stain for part in parts]),
        )


def make_nuclei(
    center_px: npt.ArrayLike,
    mpp: float,
    rng: np.random.Generator,
    kind: Kind = Kind.EPITHELIAL,
    angle: npt.ArrayLike | None = None,
) -> PhantomNuclei:
    """Build nuclei of one kind exactly where they are wanted, overlaps and all.

    Parameters
    ----------
    center_px
        Shape (n, 2), (x, y) in pixels (corners): (512, 512) is the corner that four tiles
        of 512 pixels share.
    mpp
        Pixel size in µm; nuclei have their natural size in µm.
    rng
        Source of shape and staining.
    kind
        Kind of the nuclei.
    angle
        Direction of the long axis in radians, one or n; by default random.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> nuclei = make_nuclei([(512, 512), (512, 300)], mpp=0.25, rng=rng)
    >>> nuclei.outlines().shape
    (2, 48, 2)
    """
    center = np.asarray(center_px, np.float64).reshape(-1, 2)
    count = len(center)
    build = _BUILDS[kind]
    semi_major = rng.uniform(*build.semi_major_um, count) / mpp
    semi_minor = semi_major / rng.uniform(*build.elongation, count)
    turned = rng.uniform(0, np.pi, count)
    if angle is not None:
        turned = np.broadcast_to(np.asarray(angle, np.float64), (count,)).copy()
    shapes = Blobs(
        center,
        np.stack([semi_major, semi_minor], axis=1),
        turned,
        random_bumps(count, build.bump, rng),
    )
    stain = rng.uniform(*build.stain, count)
    return PhantomNuclei(shapes, np.full(count, int(kind), np.int64), stain)
