"""Stain normalisation: the amounts of two stains stay, their colours and strength do not.

Two ways to find the stains: the extreme directions of optical density (Macenko), and sparse
non-negative matrix factorisation (Vahadane).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import SlideError
from wsi_engine.kernels import kernel
from wsi_engine.slide.normalisation.reinhard import to_lab
from wsi_engine.slide.protocol import RGB

Matrix = npt.NDArray[np.float64]

_LIGHTEST_TISSUE = 80.0
"""L* after stretching the contrast, above which a pixel is no tissue."""
_STRETCHED_PERCENT = (2, 98)
_ANGLE_PERCENT = (1, 99)
_STRENGTH_PERCENT = 99
_SPARSITY = 0.1
_ROUNDS = 100
_STEPS = 4096
"""Optical density is added up as whole numbers of so many steps."""

_DENSITY = np.maximum(-np.log(np.maximum(np.arange(256), 1) / 255), 1e-6)
"""Natural optical density of an 8-bit value."""


@dataclass(frozen=True)
class StainLook:
    """Two stains, and how strong they are.

    Attributes
    ----------
    stains
        Rows are the natural optical density of haematoxylin and eosin in R, G, B, of unit
        length; shape (2, 3).
    strengths
        99th percentile of the amount of each.
    """

    stains: tuple[tuple[float, ...], ...]
    strengths: tuple[float, ...]

    @classmethod
    def macenko(cls, pixels: RGB) -> Self:
        """Look at pixels, uint8, shape (n, 3): the stains are the extreme directions.

        Raises
        ------
        SlideError
            When there is no tissue, or all of it is alike.

        References
        ----------
        Macenko M et al. A method for normalizing histology slides for quantitative analysis.
        ISBI 2009:1107-1110.
        """
        return cls._with(_extreme_directions(_tissue_density(pixels)), pixels)

    @classmethod
    def vahadane(cls, pixels: RGB) -> Self:
        """Look at pixels: the stains of which a few explain each pixel, no amount negative.

        Raises
        ------
        SlideError
            When there is no tissue, or all of it is alike.

        References
        ----------
        Vahadane A et al. Structure-preserving color normalization and sparse stain separation for
        histological images. IEEE Trans Med Imaging 35:1962-1971, 2016.
        """
        density = _tissue_density(pixels)
        return cls._with(_sparse_factors(density, _extreme_directions(density)), pixels)

    @classmethod
    def _with(cls, stains: Matrix, pixels: RGB) -> Self:
        amounts = _DENSITY[pixels] @ np.linalg.pinv(stains)
        strengths = np.percentile(amounts, _STRENGTH_PERCENT, axis=0)
        if not (strengths > 0).all():
            raise SlideError("no two stains can be told apart: choose another normalisation")
        return cls(tuple(map(tuple, stains.tolist())), tuple(strengths.tolist()))

    def towards(self, target: Self) -> DensityMatrix:
        """Return what gives each stain the target's colour and strength."""
        ratio = np.array(target.strengths) / np.array(self.strengths)
        return DensityMatrix(
            np.linalg.pinv(np.array(self.stains)) @ np.diag(ratio) @ np.array(target.stains)
        )


@dataclass(frozen=True)
class DensityMatrix:
    """A map of colours: a matrix on optical densities, as whole numbers in tables.

    Attributes
    ----------
    matrix
        From the densities of R, G, B (a row) to those of the result, shape (3, 3).
    """

    matrix: Matrix

    def __call__(self, image: RGB) -> RGB:
        """Map an image or a batch, uint8, shape (..., 3)."""
        parts = np.rint(_DENSITY[None, :, None] * self.matrix[:, None, :] * _STEPS)
        darkest = int(np.ceil(np.log(2 * 255) * _STEPS))
        light = np.rint(255 * np.exp(-np.arange(darkest + 1) / _STEPS)).astype(np.uint8)
        flat = np.ascontiguousarray(image).reshape(-1, 3)
        return np.asarray(_apply(flat, parts.astype(np.int32), light).reshape(image.shape))


@kernel
def _apply(
    rgb: npt.NDArray[np.uint8], parts: npt.NDArray[np.int32], light: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    out = np.empty_like(rgb)
    darkest = light.shape[0] - 1
    for i in range(rgb.shape[0]):
        for k in range(3):
            total = parts[0, rgb[i, 0], k] + parts[1, rgb[i, 1], k] + parts[2, rgb[i, 2], k]
            out[i, k] = light[min(max(total, 0), darkest)]
    return out


def _tissue_density(pixels: RGB) -> Matrix:
    """Return the optical density of those pixels that are not too light, shape (n, 3)."""
    low, high = np.percentile(pixels, _STRETCHED_PERCENT)
    stretched = pixels
    if high > low:
        share = (np.clip(pixels, low, high) - low) / (high - low)
        stretched = (255 * share).astype(np.uint8)
    tissue = to_lab(stretched)[:, 0] < _LIGHTEST_TISSUE
    if tissue.sum() < 2:
        raise SlideError("there is no tissue to fit a normalisation to: switch it off")
    return _DENSITY[pixels[tissue]]


def _extreme_directions(density: Matrix) -> Matrix:
    _, axes = np.linalg.eigh(np.cov(density.T))
    plane = axes[:, [2, 1]]
    plane = plane * np.where(plane[0] < 0, -1, 1)
    x, y = (density @ plane).T
    ends = np.percentile(np.arctan2(y, x), _ANGLE_PERCENT)
    found = np.array([plane @ [np.cos(end), np.sin(end)] for end in ends])
    return _haematoxylin_first(found)


def _sparse_factors(density: Matrix, start: Matrix) -> Matrix:
    """Minimise ½ ‖V - H W‖² + λ ‖H‖₁ for W, H ≥ 0, by turns and stain by stain."""
    stains = np.maximum(start, 1e-6)
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    amounts = np.maximum(density @ np.linalg.pinv(stains), 0)
    for _ in range(_ROUNDS):
        before = stains.copy()
        for k in (0, 1):
            other = 1 - k
            rest = density @ stains[k] - amounts[:, other] * (stains[other] @ stains[k])
            amounts[:, k] = np.maximum(rest - _SPARSITY, 0)
        for k in (0, 1):
            other = 1 - k
            rest = amounts[:, k] @ density - (amounts[:, k] @ amounts[:, other]) * stains[other]
            length = np.linalg.norm(np.maximum(rest, 0))
            if length > 0:
                stains[k] = np.maximum(rest, 0) / length
        if np.abs(stains - before).max() < 1e-5:
            break
    return _haematoxylin_first(stains)


def _haematoxylin_first(stains: Matrix) -> Matrix:
    """Put the stain first that takes more of the red light."""
    if stains[0, 0] < stains[1, 0]:
        stains = stains[::-1]
    return np.asarray(stains / np.linalg.norm(stains, axis=1, keepdims=True))
