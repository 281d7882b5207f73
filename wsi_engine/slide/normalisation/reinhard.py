"""Reinhard's colour transfer: mean and spread in CIE L*a*b* become those of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.slide.protocol import RGB

_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
"""sRGB to XYZ under D65 (ITU-R BT.709)."""
_WHITE = _TO_XYZ.sum(axis=1)
_TO_RELATIVE_XYZ = _TO_XYZ / _WHITE[:, None]
_FROM_RELATIVE_XYZ = np.linalg.inv(_TO_RELATIVE_XYZ)
_ENCODED_STEPS = 1 << 14
_NARROWEST = 1e-3
"""Spread below which a channel says nothing."""


def _linear(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _encoded(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


_LINEAR = _linear(np.arange(256) / 255)
_ENCODED = np.rint(255 * _encoded(np.arange(_ENCODED_STEPS + 1) / _ENCODED_STEPS)).astype(np.uint8)


def to_lab(pixels: RGB) -> npt.NDArray[np.float64]:
    """Convert sRGB, uint8, shape (..., 3), to CIE L*a*b* under D65, float64."""
    xyz = _LINEAR[pixels] @ _TO_RELATIVE_XYZ.T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@dataclass(frozen=True)
class ReinhardLook:
    """Mean and standard deviation of L*, a*, b*."""

    means: tuple[float, ...]
    spreads: tuple[float, ...]

    @classmethod
    def of(cls, pixels: RGB) -> Self:
        """Look at pixels, uint8, shape (n, 3)."""
        lab = to_lab(pixels)
        return cls(tuple(lab.mean(axis=0).tolist()), tuple(lab.std(axis=0).tolist()))

    def towards(self, target: Self) -> LabTransfer:
        """Return what gives each channel the target's mean and spread.

        References
        ----------
        Reinhard E, Ashikhmin M, Gooch B, Shirley P. Color transfer between images. IEEE Comput
        Graph Appl 21(5):34-41, 2001.
        """
        own = np.maximum(self.spreads, _NARROWEST)
        scale = np.array(target.spreads) / own
        return LabTransfer(scale, np.array(target.means) - scale * np.array(self.means))


@dataclass(frozen=True)
class LabTransfer:
    """A map of colours: each of L*, a*, b* scaled, and shifted.

    Attributes
    ----------
    scale, shift
        float64, shape (3,).
    """

    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]

    def __call__(self, image: RGB) -> RGB:
        """Map an image or a batch, uint8, shape (..., 3)."""
        flat = np.ascontiguousarray(image).reshape(-1, 3)
        mapped = _transfer(
            *(flat, _LINEAR, _TO_RELATIVE_XYZ, _FROM_RELATIVE_XYZ),
            *(self.scale, self.shift, _ENCODED),
        )
        return np.asarray(mapped.reshape(image.shape))


@kernel
def _transfer(
    rgb: npt.NDArray[np.uint8],
    linear: npt.NDArray[np.float64],
    to_xyz: npt.NDArray[np.float64],
    from_xyz: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64],
    shift: npt.NDArray[np.float64],
    encoded: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]:
    out = np.empty_like(rgb)
    steps = encoded.shape[0] - 1
    knee = 6 / 29
    for i in range(rgb.shape[0]):
        red, green, blue = linear[rgb[i, 0]], linear[rgb[i, 1]], linear[rgb[i, 2]]
        f = np.empty(3)
        for k in range(3):
            t = to_xyz[k, 0] * red + to_xyz[k, 1] * green + to_xyz[k, 2] * blue
            f[k] = np.cbrt(t) if t > knee**3 else t / (3 * knee * knee) + 4 / 29
        lightness = scale[0] * (116 * f[1] - 16) + shift[0]
        a = scale[1] * 500 * (f[0] - f[1]) + shift[1]
        b = scale[2] * 200 * (f[1] - f[2]) + shift[2]
        f[1] = (min(max(lightness, 0.0), 100.0) + 16) / 116
        f[0] = f[1] + a / 500
        f[2] = f[1] - b / 200
        for k in range(3):
            f[k] = f[k] ** 3 if f[k] > knee else 3 * knee * knee * (f[k] - 4 / 29)
        for k in range(3):
            value = from_xyz[k, 0] * f[0] + from_xyz[k, 1] * f[1] + from_xyz[k, 2] * f[2]
            out[i, k] = encoded[int(min(max(value, 0.0), 1.0) * steps + 0.5)]
    return out
