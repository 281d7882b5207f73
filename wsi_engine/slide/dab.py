"""Slides stained with DAB, shown to networks that know haematoxylin and eosin alone.

Two views, each like a section with haematoxylin and a little eosin. One shows the haematoxylin
by itself: nuclei in brown cytoplasm stand out. The other shows DAB as haematoxylin, too: nuclei
that are brown themselves, which hide theirs, are dark.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsi_engine.slide.optical_density import floored_od
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.stain import MILLI, haematoxylin
from wsi_engine.slide.stain_vectors import DAB, EOSIN, HAEMATOXYLIN

SPLIT_OFF = "DAB split off"
"""By this name the record of a run says that a network saw the two views."""

_STEP_PX = 4
_FAINTEST_OD, _OPAQUE_OD = 0.08, 0.95
"""Optical density in the strongest channel from which on a pixel is stained, and in the weakest
from which on nothing can be said of its colour."""

_DARKEST_SUM_OD = 0.7
_BLUE_OVER_GREEN, _GREEN_OVER_RED = 0.05, 0.08
"""A pixel is brown where the three channels together absorb more than that, and blue more than
green, green more than red, by such shares of it; DAB has 0.13 and 0.19, eosin -0.15."""

SMALLEST_BROWN_SHARE = 0.015
"""Share of the stained pixels that are brown. Of 864 fields of H&E (MoNuSeg, TNBC, NuInsSeg, DSB
2018) none has more than 0.012; a field in which a tenth of the nuclei is positive has that."""

_GROUND_OD = 0.05
"""Eosin everywhere."""

_MOST_MILLI = 3 * MILLI


class Views(NamedTuple):
    """The two views of pixels, of the same shape as these.

    Attributes
    ----------
    haematoxylin
        Haematoxylin alone.
    both
        Haematoxylin and DAB together, as if both were haematoxylin.
    """

    haematoxylin: RGB
    both: RGB


def shows_dab(fields: RGB) -> bool:
    """Tell whether tissue is stained with a brown chromogen.

    Parameters
    ----------
    fields
        Fields of tissue, uint8, shape (n, height, width, 3).
    """
    density = floored_od(fields[:, ::_STEP_PX, ::_STEP_PX]).reshape(-1, 3)
    red, green, blue = density.T
    coloured = np.minimum(np.minimum(red, green), blue) < _OPAQUE_OD
    stained = coloured & (np.maximum(np.maximum(red, green), blue) > _FAINTEST_OD)
    total = density.sum(axis=1)
    brown = (
        coloured
        & (total > _DARKEST_SUM_OD)
        & (blue - green > _BLUE_OVER_GREEN * total)
        & (green - red > _GREEN_OVER_RED * total)
    )
    return bool(brown.sum() >= SMALLEST_BROWN_SHARE * max(stained.sum(), 1))


def views_of(pixels: RGB) -> Views:
    """Return the two views of pixels, uint8, shape (..., 3), each pixel by itself."""
    first, second = np.array(HAEMATOXYLIN), np.array(DAB)
    residual = np.cross(first, second)
    own = haematoxylin(pixels, np.stack([first, second, residual]))
    brown = haematoxylin(pixels, np.stack([second, first, residual]))
    both = own + np.maximum(brown, 0)
    return Views(*(_LOOK[np.clip(amount, 0, _MOST_MILLI)] for amount in (own, both)))


def _look() -> npt.NDArray[np.uint8]:
    """Return the colour of each amount of haematoxylin, in thousandths, shape (n, 3)."""
    stains = np.array([HAEMATOXYLIN, EOSIN])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    amounts = np.arange(_MOST_MILLI + 1)[:, None] / MILLI
    light = 256 * 10 ** -(amounts * stains[0] + _GROUND_OD * stains[1]) - 1
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


_LOOK = _look()
