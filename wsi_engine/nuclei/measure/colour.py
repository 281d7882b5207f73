"""Optical density of the stains in each nucleus."""

from __future__ import annotations

import math
from typing import Generic, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.measure.columns import Column, Measurements, by_name
from wsi_engine.nuclei.measure.pixels import PixelSets
from wsi_engine.nuclei.measure.view import PixelView
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.stain_vectors import Stains

T = TypeVar("T")


class Statistics(NamedTuple, Generic[T]):
    """What is told of the values of one channel in a nucleus: numbers, or what describes them."""

    mean: T
    median: T
    min: T
    max: T
    std: T


STATISTICS_FIELDS = len(Statistics._fields)
STATISTICS = Statistics("Mean", "Median", "Min", "Max", "Std.Dev.")
RGB_CHANNELS = ("Red", "Green", "Blue")

_FORMULAS = Statistics(
    mean="mean",
    median="median",
    min="smallest value",
    max="largest value",
    std="sample standard deviation (n - 1)",
)
_NAMES = "as QuPath's addIntensityMeasurements"
_SOURCE = f"Ruifrok & Johnston, Anal Quant Cytol Histol 23:291 (2001); {_NAMES}"


def stain_statistics(
    stains: Stains, prefix: str = "", where: str = "nucleus"
) -> list[Statistics[Column]]:
    """Describe the statistics of each stain."""

    def described(channel: str, statistic: str, formula: str) -> Column:
        return Column(
            f"{prefix}{channel}: {statistic}",
            "OD",
            f"{formula} of {channel} in the {where}, by the vectors {stains.name}",
            _SOURCE,
            essential=statistic == STATISTICS.mean,
        )

    return [
        Statistics(*(described(channel, *both) for both in zip(STATISTICS, _FORMULAS, strict=True)))
        for channel in stains.channels
    ]


def rgb_statistics() -> list[Statistics[Column]]:
    """Describe the statistics of red, green and blue."""

    def described(channel: str, statistic: str, formula: str) -> Column:
        return Column(
            f"{channel}: {statistic}",
            "",
            f"{formula} of {channel}, 0 to 255, in the nucleus",
            _NAMES,
        )

    return [
        Statistics(*(described(channel, *both) for both in zip(STATISTICS, _FORMULAS, strict=True)))
        for channel in RGB_CHANNELS
    ]


def stain_columns(stains: Stains) -> tuple[Column, ...]:
    """Describe the columns of the group ``colour``."""
    return tuple(column for channel in stain_statistics(stains) for column in channel)


def rgb_columns(stains: Stains) -> tuple[Column, ...]:
    """Describe the columns of the group ``rgb``, which are the same for all stains."""
    return tuple(column for channel in rgb_statistics() for column in channel)


def measure_colour(view: PixelView) -> Measurements:
    """Measure the stains in nuclei."""
    return statistics(view.amounts, view.pixels, stain_statistics(view.stains))


def measure_rgb(view: PixelView) -> Measurements:
    """Measure red, green and blue in nuclei."""
    return statistics(rgb_values(view.field.rgb, view.pixels), view.pixels, rgb_statistics())


def rgb_values(rgb: RGB, sets: PixelSets) -> npt.NDArray[np.float32]:
    """Red, green and blue of each pixel of some sets, float32, shape (3, p)."""
    return np.ascontiguousarray(rgb.reshape(-1, 3)[sets.index].T, np.float32)


def statistics(
    values: npt.NDArray[np.float32], sets: PixelSets, columns: list[Statistics[Column]]
) -> Measurements:
    """Take the statistics of each nucleus.

    Parameters
    ----------
    values
        Channels by pixels, shape (c, p).
    sets
        The pixels of the nuclei.
    columns
        Descriptions, for each channel.

    Returns
    -------
    dict
        Values by the names of the columns; NaN where there are no pixels.
    """
    measured: Measurements = {}
    for described, found in zip(columns, _statistics(values, sets.offsets), strict=True):
        measured |= by_name(described, found)
    return measured


@numba.njit(nogil=True, cache=True)
def _statistics(
    values: npt.NDArray[np.float32], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return the statistics of channels (c, p) in sets of pixels (n + 1,); shape (c, n, 5)."""
    channels, count = len(values), len(offsets) - 1
    out = np.full((channels, count, STATISTICS_FIELDS), np.nan, np.float32)
    for c in range(channels):
        for i in range(count):
            if offsets[i + 1] > offsets[i]:
                out[c, i] = _statistics_of(values[c, offsets[i] : offsets[i + 1]])
    return out


@numba.njit(nogil=True, cache=True)
def _statistics_of(values: npt.NDArray[np.float32]) -> Statistics[float]:
    """Return the statistics of values (k,), k > 0."""
    total, lowest, highest = 0.0, math.inf, -math.inf
    for value in values:
        total += value
        lowest, highest = min(lowest, value), max(highest, value)
    mean = total / len(values)
    squares = 0.0
    for value in values:
        squares += (value - mean) ** 2
    return Statistics(
        mean=mean,
        median=float(np.median(values)),
        min=lowest,
        max=highest,
        std=math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else math.nan,
    )
