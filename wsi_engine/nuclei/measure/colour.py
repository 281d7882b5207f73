"""Optical density of the stains in each nucleus."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.pixels import PixelSets
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.stain_vectors import Stains

STATISTICS = ("Mean", "Median", "Min", "Max", "Std.Dev.")
RGB_CHANNELS = ("Red", "Green", "Blue")

_SAYS = {
    "Mean": "mean",
    "Median": "median",
    "Min": "smallest value",
    "Max": "largest value",
    "Std.Dev.": "sample standard deviation (n - 1)",
}
_NAMES = "as QuPath's addIntensityMeasurements"
_SOURCE = f"Ruifrok & Johnston, Anal Quant Cytol Histol 23:291 (2001); {_NAMES}"


def stain_columns(stains: Stains, prefix: str = "", where: str = "nucleus") -> tuple[Column, ...]:
    """Describe the statistics of each stain."""
    return tuple(
        Column(
            f"{prefix}{channel}: {statistic}",
            "OD",
            f"{_SAYS[statistic]} of {channel} in the {where}, by the vectors {stains.name}",
            _SOURCE,
            essential=statistic == "Mean",
        )
        for channel in stains.channels
        for statistic in STATISTICS
    )


def rgb_columns() -> tuple[Column, ...]:
    """Describe the statistics of red, green and blue."""
    return tuple(
        Column(
            f"{channel}: {statistic}",
            "",
            f"{_SAYS[statistic]} of {channel}, 0 to 255, in the nucleus",
            _NAMES,
        )
        for channel in RGB_CHANNELS
        for statistic in STATISTICS
    )


def stain_amounts(rgb: RGB, sets: PixelSets, stains: Stains) -> npt.NDArray[np.float32]:
    """Amount of both stains in each pixel of some sets, in OD; float32, shape (2, p)."""
    return _deconvolve(rgb.reshape(-1, 3), sets.index, stains.table)


def rgb_values(rgb: RGB, sets: PixelSets) -> npt.NDArray[np.float32]:
    """Red, green and blue of each pixel of some sets, float32, shape (3, p)."""
    return np.ascontiguousarray(rgb.reshape(-1, 3)[sets.index].T, np.float32)


def statistics(values: npt.NDArray[np.float32], sets: PixelSets) -> npt.NDArray[np.float32]:
    """Take `STATISTICS` of each nucleus.

    Parameters
    ----------
    values
        Channels by pixels, shape (c, p).
    sets
        Whose pixels they are.

    Returns
    -------
    ndarray
        float32, shape (n, 5 c), channel by channel; NaN where there are no pixels.
    """
    return _statistics(values, sets.offsets)


@numba.njit(nogil=True, cache=True)
def _deconvolve(rgb, index, table):  # type: ignore[no-untyped-def]
    out = np.empty((2, len(index)), np.float32)
    for k in range(len(index)):
        r, g, b = rgb[index[k], 0], rgb[index[k], 1], rgb[index[k], 2]
        out[0, k] = table[0, 0, r] + table[0, 1, g] + table[0, 2, b]
        out[1, k] = table[1, 0, r] + table[1, 1, g] + table[1, 2, b]
    return out


@numba.njit(nogil=True, cache=True)
def _statistics(values, offsets):  # type: ignore[no-untyped-def]
    channels, count = len(values), len(offsets) - 1
    out = np.full((count, 5 * channels), np.nan, np.float32)
    for i in range(count):
        pixels = offsets[i + 1] - offsets[i]
        if pixels == 0:
            continue
        for c in range(channels):
            own = values[c, offsets[i] : offsets[i + 1]]
            total, lowest, highest = 0.0, math.inf, -math.inf
            for value in own:
                total += value
                lowest, highest = min(lowest, value), max(highest, value)
            mean = total / pixels
            squares = 0.0
            for value in own:
                squares += (value - mean) ** 2
            out[i, 5 * c] = mean
            out[i, 5 * c + 1] = np.median(own)
            out[i, 5 * c + 2] = lowest
            out[i, 5 * c + 3] = highest
            if pixels > 1:
                out[i, 5 * c + 4] = math.sqrt(squares / (pixels - 1))
    return out
