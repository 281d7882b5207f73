"""Histograms and boxes as inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from wsi_engine.report import svg
from wsi_engine.report.colours import INK

PERCENTS = (5, 25, 50, 75, 95)
BINS = 40
SHOWN_PERCENT = 0.5
"""Share of the values at each end that a histogram leaves out."""

END_ROOM = 8.0
BAR, BOX = "#56b4e9", "#0072b2"


@dataclass(frozen=True)
class Distribution:
    """One measurement of many nuclei.

    Attributes
    ----------
    name, unit
        Name and unit as in the table of nuclei.
    count
        Nuclei that have a value.
    percentiles
        5th, 25th, 50th, 75th and 95th; NaN without values.
    """

    name: str
    unit: str
    count: int
    percentiles: tuple[float, float, float, float, float]

    @property
    def title(self) -> str:
        """Name and unit for a reader."""
        name = readable(self.name)
        known = not self.unit or self.unit in self.name
        return name if known else f"{name} ({readable(self.unit)})"


def readable(name: str) -> str:
    """Write a measurement's name with superscripts."""
    return name.replace("^2", "²")


def distribution(name: str, unit: str, values: npt.NDArray[np.floating]) -> Distribution:
    """Describe values; those that are missing are left out."""
    known = values[np.isfinite(values)]
    ranks = np.percentile(known, PERCENTS) if len(known) else np.full(5, math.nan)
    p5, p25, p50, p75, p95 = (float(rank) for rank in ranks)
    return Distribution(name, unit, len(known), (p5, p25, p50, p75, p95))


def histogram(what: Distribution, values: npt.NDArray[np.floating]) -> Markup:
    """Draw a histogram with the box of its percentiles below it."""
    # Between two float32 that are nearly the same there is no room for the edges of the bins.
    known = values[np.isfinite(values)].astype(np.float64)
    if len(known) == 0:
        return svg.drawing(f"{what.title}: no values", 360, 60, svg.text(10, 35, "no values"))
    low = np.percentile(known, SHOWN_PERCENT, method="lower")
    high = np.percentile(known, 100 - SHOWN_PERCENT, method="higher")
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(known, BINS, (low, high))
    left, width, floor, tall = 8.0, 344.0, 150.0, 140.0
    axis = Axis(float(low), float(high), left, width)
    step = width / BINS
    bars = [
        svg.box(left + k * step, floor - h, max(step - 0.8, 0.5), h, fill=BAR)
        for k, h in enumerate(counts / counts.max() * tall)
        if h > 0
    ]
    median = axis.place(what.percentiles[2])
    numbers = ", ".join(
        f"{percent} % {number(v)}" for percent, v in zip(PERCENTS, what.percentiles, strict=True)
    )
    return svg.drawing(
        f"Histogram of {what.title}; percentiles {numbers}",
        360,
        208,
        *bars,
        svg.line(median, floor - tall, median, floor, stroke=INK, stroke_width=1.2),
        box_plot(what.percentiles, axis, floor + 14),
        axis.draw(floor + 28),
        class_="chart",
    )


@dataclass(frozen=True)
class Axis:
    """A horizontal axis from ``low`` to ``high``, ``width`` units long."""

    low: float
    high: float
    left: float
    width: float

    def place(self, value: float) -> float:
        """Return where a value is; beyond the ends, at the end."""
        share = (value - self.low) / (self.high - self.low)
        return self.left + self.width * min(max(share, 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Return round values, three to six of them."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(f for f in (1, 2, 5, 10) if f * power >= rough)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]

    def draw(self, y: float) -> Markup:
        """Draw the axis and its numbers at a height."""
        parts = [svg.line(self.left, y, self.left + self.width, y, stroke=INK)]
        for tick in self.ticks():
            x = self.place(tick)
            label = f"{tick:.6g}"
            half = 3.4 * len(label)
            # Labels at the ends must not leave the drawing.
            too_far = x + half > self.left + self.width + END_ROOM
            anchor = "start" if x < half else "end" if too_far else "middle"
            parts += [
                svg.line(x, y, x, y + 5, stroke=INK),
                svg.text(x, y + 19, label, anchor, font_size=12, fill=INK),
            ]
        return svg.tag("g", *parts)


def box_plot(percentiles: tuple[float, ...], axis: Axis, y: float) -> Markup:
    """Draw percentiles as a line (5 to 95), a box (25 to 75) and the median.

    Parameters
    ----------
    percentiles
        5th, 25th, 50th, 75th, 95th.
    axis
        Axis on which they are placed.
    y
        Height of the middle.
    """
    p5, p25, p50, p75, p95 = (axis.place(value) for value in percentiles)
    return svg.tag(
        "g",
        svg.line(p5, y, p95, y, stroke=BOX, stroke_width=1.5),
        svg.box(p25, y - 5, max(p75 - p25, 1), 10, fill=BOX),
        svg.line(p50, y - 7, p50, y + 7, stroke="#fff", stroke_width=2.5),
        svg.line(p50, y - 7, p50, y + 7, stroke=INK, stroke_width=1.2),
    )


def number(value: float | None) -> str:
    """Write a measurement with three significant digits, thousands apart."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
