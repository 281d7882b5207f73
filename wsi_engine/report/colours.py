"""Colours that people with colour-blindness can distinguish, on screen and in print."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TISSUE = "#00695c"
INK = "#1a1a1a"

OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#000000", "#f0e442")
"""Colours of classes, those that stand out most on white first (Okabe & Ito, Color Universal
Design, 2008)."""
UNCLASSIFIED = "#999999"

_VIRIDIS = (
    "#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70",
    "#7ad151", "#bddf26", "#fde725",
)  # fmt: skip
"""Colours of values from 0 to 1 in tenths (Smith & van der Walt, SciPy 2015)."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue of ``#rrggbb``."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def viridis(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Return the colours of values from 0 to 1, shape (..., 3)."""
    stops = np.array([rgb(colour) for colour in _VIRIDIS], float)
    place = np.linspace(0, 1, len(stops))
    channels = [np.interp(values, place, stops[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def viridis_stops() -> tuple[str, ...]:
    """Return the colours from 0 to 1, evenly spaced."""
    return _VIRIDIS
