"""Optical density of the stains in each nucleus."""

from __future__ import annotations

import math
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
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
    told = np.full((len(values), len(sets), STATISTICS_FIELDS), np.nan, np.float32)
    room = np.empty(np.diff(sets.offsets).max(initial=0), np.float32)
    _statistics(values, sets.offsets, room, told)
    for described, found in zip(columns, told, strict=True):
        measured |= by_name(described, found)
    return measured


@kernel
def _statistics(
    values: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.int64],
    room: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Write the statistics of channels (c, p) in sets of pixels (n + 1,) into (c, n, 5).

    Where there are no pixels nothing is written; there is room for the largest set.
    """
    for c in range(len(values)):
        for i in range(len(offsets) - 1):
            if offsets[i + 1] > offsets[i]:
                own = values[c, offsets[i] : offsets[i + 1]]
                told = _statistics_of(own, room[: len(own)])
                for f in range(STATISTICS_FIELDS):
                    out[c, i, f] = told[f]


@kernel
def _statistics_of(
    values: npt.NDArray[np.float32], room: npt.NDArray[np.float32]
) -> Statistics[float]:
    """Return the statistics of values (k,), k > 0, with room (k,) to sort them in part."""
    total, lowest, highest = 0.0, math.inf, -math.inf
    for k in range(len(values)):
        room[k] = values[k]
        total += values[k]
        lowest, highest = min(lowest, values[k]), max(highest, values[k])
    mean = total / len(values)
    squares = 0.0
    for value in values:
        squares += (value - mean) ** 2
    return Statistics(
        mean=mean,
        median=_median(room),
        min=lowest,
        max=highest,
        std=math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else math.nan,
    )


@kernel
def _median(values: npt.NDArray[np.float32]) -> float:
    """Return the median of values (k,), k > 0, which are put into another order.

    numba's own takes longer to compile than all else here together.
    """
    half = len(values) // 2
    low, high = 0, len(values) - 1
    while low < high:  # Hoare's quickselect
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if half <= j:
            high = j
        elif half >= i:
            low = i
        else:
            break
    if len(values) % 2:
        return float(values[half])
    before = values[0]
    for k in range(1, half):
        before = max(before, values[k])
    return float((before + values[half]) / 2)
