"""Whether a slide is stained as the networks expect, and its colours are those of the glass slide.

Haematoxylin and eosin both absorb green the most. A brown chromogen absorbs blue the most, blue
and green dyes absorb red. Where red and blue were exchanged, the dark nuclei absorb more blue than
the pale stroma beside them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_engine.slide.glass import find_glass, is_blank, is_grey, least, most
from wsi_engine.slide.quality.flag import Flag, FlagLevel
from wsi_engine.slide.quality.overview import Overview
from wsi_engine.slide.tissue import Mask

FAINTEST_OD = 0.08
FEWEST_PIXELS = 500
"""Fainter pixels, or fewer, say nothing about stains."""

SMALLEST_GREEN_SHARE, SMALLEST_GREEN_SHARE_BAD = 0.8, 0.5
"""Share of the stained pixels that absorb green the most."""

DARK_QUANTILE = 0.85
SMALLEST_HUE_STEP = -0.015
"""How much more of their density dark pixels have in red, and less in blue, than the others.
Measured on four slides: 0.026 to 0.108."""

PALEST_SHARE, LARGEST_RED_CAST_OD = 0.05, 0.15
"""Luma and chroma taken for red, green and blue make red of the palest part of a slide."""


def stain_flag(overview: Overview, tissue: Mask, *, splits_dab: bool = False) -> Flag:
    """Say whether the colours are those of haematoxylin and eosin.

    Parameters
    ----------
    overview
        Overview of the slide.
    tissue
        Tissue on it.
    splits_dab
        Whether the nuclei were found on haematoxylin and DAB apart; see `wsi_engine.slide.dab`.
    """
    if is_grey(overview.rgb):
        sentence = "It is grey, without the colours of stains: nuclei cannot be relied on."
        return Flag("stain", "bad", None, "%", sentence)
    density = overview.density
    seen = ~is_blank(overview.rgb)
    if _red_cast(density[seen]) > LARGEST_RED_CAST_OD:
        sentence = (
            "What is palest is red, as where luma and chroma were taken for colours: nuclei cannot "
            "be relied on."
        )
        return Flag("stain", "bad", None, "%", sentence)
    glass = find_glass(density, density, seen)
    beyond = (density - glass)[tissue]
    beyond = beyond[(most(beyond) > FAINTEST_OD) & (least(density[tissue]) < 0.95)]
    if len(beyond) < FEWEST_PIXELS:
        return Flag("stain", "not checked", None, "%", "Too little is stained to tell the stain.")
    strongest = beyond.argmax(axis=1)
    red, green, blue = (float((strongest == channel).mean()) for channel in range(3))
    value = round(100 * green, 1)
    if green < SMALLEST_GREEN_SHARE:
        if blue > red and splits_dab:
            sentence = (
                f"{100 * blue:.0f} % of what is stained is brown, as with DAB: nuclei were found "
                "on haematoxylin and DAB apart. Check some fields by eye."
            )
            return Flag("stain", "look", value, "%", sentence)
        level: FlagLevel = "bad" if green < SMALLEST_GREEN_SHARE_BAD else "look"
        kind = "brown, as with DAB" if blue > red else "blue, as with Luxol or Giemsa"
        sentence = (
            f"Only {value:g} % of what is stained has the colour of haematoxylin or eosin, much of "
            f"the rest is {kind}, or the colours were read wrongly: nuclei cannot be relied on."
        )
        return Flag("stain", level, value, "%", sentence)
    if _dark_hue(beyond) < SMALLEST_HUE_STEP:
        sentence = (
            "What is dark is redder than what is pale: red and blue may have been exchanged, and "
            "nuclei cannot be relied on."
        )
        return Flag("stain", "bad", value, "%", sentence)
    return Flag("stain", "ok", value, "%", "The colours are those of haematoxylin and eosin.")


def _red_cast(density: npt.NDArray[np.float32]) -> float:
    """Return how much less red than green and blue the palest pixels absorb; pixels (n, 3)."""
    if len(density) == 0:
        return 0.0
    total = density.sum(axis=1)
    red, green, blue = np.median(density[total <= np.quantile(total, PALEST_SHARE)], axis=0)
    return float(min(green, blue) - red)


def _dark_hue(beyond: npt.NDArray[Any]) -> float:
    """Return how much more red than blue dark pixels absorb, compared with the others.

    NaN where all are equally dark.
    """
    total = beyond.sum(axis=1)
    hue = (beyond[:, 0] - beyond[:, 2]) / total
    dark = total > np.quantile(total, DARK_QUANTILE)
    if not dark.any():
        return math.nan
    return float(np.median(hue[dark]) - np.median(hue[~dark]))
