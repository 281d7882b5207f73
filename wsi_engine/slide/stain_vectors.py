"""Stain vectors of a slide, and colour deconvolution as QuPath does it.

The optical density of a channel is ``log10(255 / max(value, 1))``. Two stains and a residual at
right angles to both span all colours; what is reported of a stain is its amount in that basis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wsi_engine.slide.optical_density import WHITE, qupath_od

StainSetting = Literal["H&E", "H-DAB", "estimated"]

HAEMATOXYLIN = (0.65111, 0.70119, 0.29049)
EOSIN = (0.2159, 0.8012, 0.5581)
DAB = (0.26917, 0.56824, 0.77759)

FAINTEST_OD = 0.15
"""Length of a pixel's optical density below which it says nothing about stains."""
CLIPPED_PERCENT = 1.0
"""Share of the pixels at each end that an estimate passes over."""
FEWEST_PIXELS = 1000
SMALLEST_ANGLE = np.radians(8.0)
"""Two stains closer than this are one."""


@dataclass(frozen=True)
class Stains:
    """Two stains by their optical density in R, G, B.

    Attributes
    ----------
    name
        ``H&E``, ``H-DAB``, or ``H&E estimated``.
    channels
        Names of the stains, spelt as QuPath does.
    vectors
        Unit length, rows of R, G, B.
    """

    name: str
    channels: tuple[str, str]
    vectors: tuple[tuple[float, float, float], tuple[float, float, float]]

    @cached_property
    def table(self) -> npt.NDArray[np.float64]:
        """Share of each channel's value in the amount of each stain, shape (2, 3, 256)."""
        pair = np.array(self.vectors)
        pair /= np.linalg.norm(pair, axis=1, keepdims=True)
        residual = np.cross(pair[0], pair[1])
        basis = np.vstack([pair, residual / np.linalg.norm(residual)])
        weights = np.linalg.inv(basis)[:, :2].T
        return np.asarray(weights[:, :, None] * qupath_od(np.arange(256)))

    def describe(self) -> dict[str, Any]:
        """Return what a record keeps of them."""
        vectors = {
            channel: [round(v, 5) for v in vector]
            for channel, vector in zip(self.channels, self.vectors, strict=True)
        }
        return {"name": self.name, "vectors": vectors, "background": [WHITE] * 3}


H_AND_E = Stains("H&E", ("Hematoxylin", "Eosin"), (HAEMATOXYLIN, EOSIN))
"""QuPath's default vectors: haematoxylin is that of Ruifrok & Johnston (2001)."""

H_DAB = Stains("H-DAB", ("Hematoxylin", "DAB"), (HAEMATOXYLIN, DAB))
"""QuPath's default vectors, both of Ruifrok & Johnston (2001)."""


def choose_stains(setting: StainSetting, fields: npt.NDArray[np.uint8]) -> Stains:
    """Return the stains of a setting; those of H&E where none can be estimated.

    Parameters
    ----------
    setting
        ``estimated`` looks at the fields; the others are fixed.
    fields
        Tissue of the slide, uint8, shape (n, side, side, 3).
    """
    if setting == "H-DAB":
        return H_DAB
    if setting == "estimated":
        return estimate_stains(fields) or H_AND_E
    return H_AND_E


def stain_warnings(setting: StainSetting, stains: Stains) -> list[str]:
    """Say so where the stains are not those that were asked for."""
    if setting == "estimated" and stains is H_AND_E:
        return ["no two stains could be told apart: measured with the default vectors of H&E"]
    return []


def estimate_stains(fields: npt.NDArray[np.uint8]) -> Stains | None:
    """Estimate haematoxylin and eosin from tissue; ``None`` where there are no two stains.

    References
    ----------
    Macenko M et al. A method for normalizing histology slides for quantitative analysis.
    ISBI 2009:1107-1110.
    """
    every_fourth = fields[:, ::2, ::2].reshape(-1, 3)
    density = qupath_od(np.arange(256))[every_fourth]
    density = density[np.linalg.norm(density, axis=1) > FAINTEST_OD]
    if len(density) < FEWEST_PIXELS:
        return None
    _, axes = np.linalg.eigh(np.cov(density.T))
    plane = axes[:, [2, 1]]
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)
    x, y = (density @ plane).T
    ends = np.percentile(np.arctan2(y, x), [CLIPPED_PERCENT, 100 - CLIPPED_PERCENT])
    if ends[1] - ends[0] < SMALLEST_ANGLE:
        return None
    found = np.clip((plane @ np.array([np.cos(ends), np.sin(ends)])).T, 0, None)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    # Haematoxylin takes more of the red light than eosin does.
    first, second = sorted(found.tolist(), key=lambda vector: -float(vector[0]))
    return Stains("H&E estimated", H_AND_E.channels, (tuple(first), tuple(second)))
