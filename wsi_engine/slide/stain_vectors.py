"""Stain vectors of a slide, and colour deconvolution as QuPath does it.

The optical density of a channel is ``log10(255 / max(value, 1))``. Two stains and a residual at
right angles to both span all colours; what is reported of a stain is its amount in that basis.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator
from pydantic_core import PydanticKnownError

from wsi_engine.slide.optical_density import WHITE, qupath_od

StainName = Literal["H&E", "H-DAB", "estimated"]
_SPELLINGS: dict[str, StainName] = {"h&e": "H&E", "he": "H&E", "h-dab": "H-DAB", "hdab": "H-DAB"}

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
        ``H&E``, ``H-DAB``, ``H&E estimated``, ``H-DAB estimated``, or ``given``.
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


_LONGEST_TEXT, _LONGEST_NAME = 1000, 50
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_STAIN = re.compile(rf"\s*(\S(?:.*?\S)?)[\s=:]+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s*")


def parse_stains(text: str) -> Stains:
    """Read two stain vectors: as text, or as QuPath writes them into its scripts.

    Parameters
    ----------
    text
        ``Hematoxylin 0.65 0.70 0.29, DAB 0.27 0.57 0.78``, or the JSON of
        ``setColorDeconvolutionStains``, in which the background must be white.

    Raises
    ------
    ValueError
        When it holds something else, or two vectors that are nearly the same.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError("that is too long for two stains")
    found = [_STAIN.fullmatch(part) for part in _parts(text)]
    if len(found) != 2 or None in found:
        raise ValueError("give two stains as Hematoxylin 0.65 0.70 0.29, DAB 0.27 0.57 0.78")
    names = [match[1] for match in found if match]
    pair = np.array([[float(match[k]) for k in (2, 3, 4)] for match in found if match])
    if len(set(names)) < 2 or any(":" in n or len(n) > _LONGEST_NAME for n in names):
        raise ValueError("give the two stains short names without a colon that differ")
    lengths = np.linalg.norm(pair, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ValueError("a stain vector has a length above 0")
    pair /= lengths
    if np.arccos(np.clip(pair[0] @ pair[1], -1, 1)) < SMALLEST_ANGLE:
        raise ValueError("these two stains are one: their vectors lie within 8° of each other")
    first, second = (tuple(row) for row in pair.tolist())
    return Stains("given", (names[0], names[1]), (first, second))


def _parts(text: str) -> list[str]:
    """Return name and numbers of each stain."""
    if not text.lstrip().startswith("{"):
        return text.split(",")
    told = json.loads(text)
    white = str(told.get("Background", "255 255 255")).split()
    if any(float(part) != WHITE for part in white):
        raise ValueError(
            "the background must be 255 255 255, as optical density is counted from it"
        )
    return [f"{told.get(f'Stain {k}')} {told.get(f'Values {k}')}" for k in (1, 2)]


def _checked(value: Any) -> Any:
    """Spell a setting as it is kept."""
    if not isinstance(value, str) or value in ("H&E", "H-DAB", "estimated"):
        return value
    if (known := _SPELLINGS.get(value.lower())) is not None:
        return known
    if re.search(r"\d", value) is None:
        wanted = "'H&E', 'H-DAB', 'estimated' or two vectors"
        raise PydanticKnownError("literal_error", {"expected": wanted})
    stains = parse_stains(value)
    pairs = zip(stains.channels, stains.vectors, strict=True)
    return ", ".join(f"{name} {' '.join(f'{v:.5f}' for v in vector)}" for name, vector in pairs)


StainSetting = Annotated[StainName | str, BeforeValidator(_checked)]
"""A name, or two vectors as `parse_stains` reads them."""


def choose_stains(setting: StainSetting, fields: npt.NDArray[np.uint8]) -> Stains:
    """Return the stains of a setting; those of H&E where none can be estimated.

    Parameters
    ----------
    setting
        ``estimated`` looks at the fields; the others are fixed, or are vectors.
    fields
        Tissue of the slide, uint8, shape (n, side, side, 3).
    """
    if setting == "H-DAB":
        return H_DAB
    if setting == "estimated":
        return estimate_stains(fields) or H_AND_E
    return H_AND_E if setting == "H&E" else parse_stains(setting)


def stain_warnings(setting: StainSetting, stains: Stains) -> list[str]:
    """Say so where the stains are not those that were asked for."""
    if setting == "estimated" and stains is H_AND_E:
        return ["no two stains could be told apart: measured with the default vectors of H&E"]
    return []


def estimate_stains(fields: npt.NDArray[np.uint8]) -> Stains | None:
    """Estimate haematoxylin, and eosin or DAB, from tissue; ``None`` where there are no two stains.

    The other stain is DAB where it absorbs more blue light than green.

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
    like = H_DAB if second[2] > second[1] else H_AND_E
    return Stains(f"{like.name} estimated", like.channels, (tuple(first), tuple(second)))
