"""Colour deconvolution in exact integers.

Thresholds and borders that are found on these values cannot depend on how an image was cut
into tiles: there is no rounding that differs between a vector unit's main loop and its rest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.slide.optical_density import shifted_od
from wsi_engine.slide.protocol import RGB

RUIFROK_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density of haematoxylin, eosin and DAB in R, G, B (Ruifrok & Johnston 2001)."""

MILLI = 1000
"""Stain amounts are integers in thousandths of optical density."""

_FIXED_BITS = 12


def haematoxylin(rgb: RGB, stains: npt.NDArray[np.float64] = RUIFROK_HED) -> npt.NDArray[np.int16]:
    """Amount of the first stain in every pixel, in thousandths of optical density.

    Parameters
    ----------
    rgb
        uint8, shape (..., height, width, 3).
    stains
        Rows are the optical density of each stain in R, G, B; shape (3, 3).

    Returns
    -------
    ndarray
        int16, shape (..., height, width); may be slightly negative where other stains or
        scanner noise dominate.

    References
    ----------
    Ruifrok AC, Johnston DA. Quantification of histochemical staining by color deconvolution.
    Anal Quant Cytol Histol 23:291-299, 2001.
    """
    unit = stains / np.linalg.norm(stains, axis=1, keepdims=True)
    weights = np.rint(np.linalg.inv(unit)[:, 0] * (1 << _FIXED_BITS)).astype(np.int64)
    density = shifted_od(np.arange(256)) * MILLI
    table = np.rint(density[None, :] * weights[:, None]).astype(np.int64)
    flat = np.ascontiguousarray(rgb).reshape(-1, 3)
    return _weighted_sum(flat, table).reshape(rgb.shape[:-1])


@kernel
def _weighted_sum(rgb: RGB, table: npt.NDArray[np.int64]) -> npt.NDArray[np.int16]:
    """Add what a table (3, 256) says of each channel of pixels (n, 3); shape (n,)."""
    out = np.empty(rgb.shape[0], np.int16)
    half = 1 << (_FIXED_BITS - 1)
    for i in range(rgb.shape[0]):
        total = table[0, rgb[i, 0]] + table[1, rgb[i, 1]] + table[2, rgb[i, 2]]
        out[i] = (total + half) >> _FIXED_BITS
    return out
