"""The bare glass of a slide: its tint, and how far everything else is from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.slide.protocol import RGB

Density = npt.NDArray[np.float32]
"""Optical density in R, G, B, shape (height, width, 3)."""

SAMPLE_STEP_PX = 2
HUE_STEP_OD, LARGEST_HUE_OD = 0.005, 0.8
SMALLEST_GLASS_SHARE = 0.05
LARGEST_GRAIN_OD = 0.006
"""Glass is no more uneven than this (median; measured: glass up to 0.004, the palest stroma from
0.009), and takes up this share of the slide."""

LARGEST_PINK_OD = 0.1
"""Glass that absorbs green the most is no more colourful: what is, is stain."""

SMALLEST_GREY_SHARE, LARGEST_GREY_RANGE = 0.01, 2
"""A slide is grey where so much of it is neither glass nor black, and nowhere do red, green and
blue, 0 to 255, differ by more, which is what JPEG makes of equal ones."""

OPAQUE_OD = 0.95
"""Where no channel lets more light through, nothing can be said of its colour."""

SMALLEST_SATURATION = 0.15
"""Range over the channels relative to the darkest of them. Dust, lines and black borders have up
to 0.1, the darkest nuclei and melanin from 0.24."""


def is_blank(rgb: RGB) -> npt.NDArray[np.bool_]:
    """Return where a scanner stored nothing, which readers show as pure white."""
    return least(rgb) == 255


GREY = "it is grey, and nuclei are told by the colours of their stains"
"""Why a slide for which `is_grey` holds is of no use."""


def is_grey(rgb: RGB) -> bool:
    """Tell whether what lies on the glass has no colours at all, as where one channel was stored.

    Parameters
    ----------
    rgb
        Overview of a slide, shape (height, width, 3).
    """
    darkest, lightest = least(rgb).astype(np.int16), most(rgb)
    there = (darkest > 0.1 * 255) & (lightest < 0.8 * np.median(lightest))
    if there.mean() < SMALLEST_GREY_SHARE:
        return False
    return bool((lightest - darkest)[there].max() <= LARGEST_GREY_RANGE)


def most(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the largest of three channels, shape (height, width)."""
    # Over an axis of three, numpy's own reductions take ten times as long.
    return np.asarray(np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2]))


def least(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the smallest of three channels, shape (height, width)."""
    return np.asarray(np.minimum(np.minimum(values[..., 0], values[..., 1]), values[..., 2]))


def find_glass(density: Density, blurred: Density, seen: npt.NDArray[np.bool_]) -> Density:
    """Return the optical density of the bare glass in R, G, B; 0 where the slide shows none.

    Scanners do not all balance their white, and old mounting media are yellow. Light that falls
    off to the corners darkens all channels alike, so that glass is one hue, not one brightness.
    It is the palest of the frequent hues that are smooth: without the first the stroma of a field
    that shows no glass would pass for it, without the second a large homogeneous piece.

    Parameters
    ----------
    density, blurred
        Optical density as it was read, and without its noise.
    seen
        Pixels that show anything, shape (height, width).
    """
    none = np.zeros(3, np.float32)
    few = np.s_[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX]
    density, blurred, seen = density[few], blurred[few], seen[few]
    seen = seen & (least(blurred) < OPAQUE_OD)
    colours, raw = blurred[seen], density[seen]
    if len(colours) == 0:
        return none
    hue = colours[:, ::2] - colours[:, 1:2]
    steps = round(2 * LARGEST_HUE_OD / HUE_STEP_OD)
    cell = ((hue + LARGEST_HUE_OD) / HUE_STEP_OD).astype(np.int64).clip(0, steps - 1)
    index = cell[:, 0] * steps + cell[:, 1]
    counts = np.bincount(index, minlength=steps**2).reshape(steps, steps)
    around = ndimage.uniform_filter(counts.astype(np.float64), 3, mode="constant") * 9
    peaks = (around >= SMALLEST_GLASS_SHARE * len(colours)) & (
        around == ndimage.maximum_filter(around, 5)
    )
    found: list[tuple[float, Density]] = []
    for row, column in np.argwhere(peaks):
        alike = (abs(cell[:, 0] - row) <= 1) & (abs(cell[:, 1] - column) <= 1)
        here = colours[alike]
        typical = np.median(here, axis=0)
        # As a share of white: a camera's noise does not grow as the light gets dimmer.
        grain = float(np.median((np.abs(raw[alike] - here) * 10**-typical).max(axis=1)))
        pink = typical.argmax() == 1 and np.ptp(typical) >= LARGEST_PINK_OD
        if grain < LARGEST_GRAIN_OD and not pink:
            found.append((float(np.percentile(here.mean(axis=1), 5)), typical))
    return min(found, key=lambda one: one[0])[1] if found else none


def without_black(density: Density, glass: Density) -> Density:
    """Return the density with black made a neutral shade over the glass.

    Where no light comes through there is no tint either, and what lies between black and tinted
    glass would look coloured.
    """
    opaque = least(density) > OPAQUE_OD
    if not opaque.any():
        return density
    grey = glass + (density[opaque] - glass).mean(axis=1, keepdims=True)
    density = density.copy()
    density[opaque] = grey
    return density


def stain_contrast(density: Density, glass: Density) -> npt.NDArray[np.float32]:
    """Return how unequally the channels are absorbed beyond the glass, shape (height, width).

    Stain absorbs them unequally; dust, black borders and shadows equally, and count as 0.
    """
    beyond = density - glass
    darkest = most(beyond)
    contrast = darkest - least(beyond)
    contrast[contrast < SMALLEST_SATURATION * darkest] = 0
    return contrast
