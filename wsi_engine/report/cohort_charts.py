"""Slides beside each other, by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from wsi_engine.report import svg
from wsi_engine.report.charts import Axis, box_plot, number
from wsi_engine.report.colours import INK, OKABE_ITO

WIDTH, NAME_WIDTH = 440.0, 150.0
ROW, THIN_ROW, HEAD = 20.0, 9.0, 24.0
MOST_NAMED = 60
"""With more slides, rows are thin and have no names."""
LONGEST_NAME = 21


@dataclass(frozen=True)
class Group:
    """Slides that belong together.

    Attributes
    ----------
    name
        Empty where there is one group only.
    slides
        Their names.
    rows
        Their rows in the table of slides.
    """

    name: str
    slides: list[str]
    rows: list[int]


Ranks = Sequence[float | None]


def boxes_by_group(title: str, groups: Sequence[Group], ranks: Sequence[Ranks]) -> Markup:
    """Draw the percentiles of each slide.

    Parameters
    ----------
    title
        Name of what was measured.
    groups
        Groups of slides.
    ranks
        5th, 25th, 50th, 75th and 95th percentile of each slide; ``None`` where missing.
    """
    axis = _axis([value for row in ranks for value in row if value is not None])
    named = len(ranks) <= MOST_NAMED
    step = ROW if named else THIN_ROW
    parts: list[Markup] = []
    y = 0.0
    for group in groups:
        parts += _heading(group, [ranks[k][2] for k in group.rows], y)
        y += HEAD if group.name else 6
        for slide, percentiles in _by_median(group, ranks):
            y += step
            middle = y - step / 2
            parts += [_name(slide, middle)] if named else []
            known = tuple(value for value in percentiles if value is not None)
            parts += [box_plot(known, axis, middle)] if len(known) == len(percentiles) else []
        y += ROW / 2
    title = f"{title} of each slide"
    return svg.drawing(title, WIDTH, y + 34, *parts, axis.draw(y + 6), class_="chart")


def dots_by_group(title: str, groups: Sequence[Group], values: Ranks) -> Markup:
    """Draw one number of each slide as a dot, a line of dots per group, with its median."""
    axis = _axis([value for value in values if value is not None] + [0.0])
    parts: list[Markup] = []
    y = 0.0
    for k, group in enumerate(groups):
        known = [value for row in group.rows if (value := values[row]) is not None]
        parts += _heading(group, known, y)
        y += (HEAD if group.name else 6) + ROW / 2
        colour = OKABE_ITO[k % len(OKABE_ITO)]
        parts += [
            svg.tag("circle", svg.tag("title", f"{slide}: {number(values[row])}"),
                    cx=axis.place(value), cy=y, r=5, fill=colour, fill_opacity=0.75, stroke=INK)
            for slide, row in zip(group.slides, group.rows, strict=True)
            if (value := values[row]) is not None
        ]  # fmt: skip
        if known:
            x = axis.place(float(np.median(known)))
            parts.append(svg.line(x, y - 11, x, y + 11, stroke=INK, stroke_width=2))
        y += ROW
    return svg.drawing(title, WIDTH, y + 34, *parts, axis.draw(y + 6), class_="chart")


def _by_median(group: Group, ranks: Sequence[Ranks]) -> list[tuple[str, Ranks]]:
    """Return each slide of a group with its percentiles, those without a median last."""
    pairs = zip(group.slides, (ranks[k] for k in group.rows), strict=True)
    return sorted(pairs, key=lambda pair: math.inf if pair[1][2] is None else pair[1][2])


def _heading(group: Group, medians: Sequence[float | None], y: float) -> list[Markup]:
    if not group.name:
        return []
    known = [value for value in medians if value is not None]
    middle = f", median {number(float(np.median(known)))}" if known else ""
    count = f"{len(group.slides)} slide{'s' if len(group.slides) > 1 else ''}"
    label = f"{group.name}: {count}{middle}"
    return [svg.text(0, y + 16, label, font_size=14, font_weight=600, fill=INK)]


def _name(slide: str, y: float) -> Markup:
    short = slide if len(slide) <= LONGEST_NAME else slide[: LONGEST_NAME - 1] + "…"
    return svg.tag("g", svg.tag("title", slide), svg.text(0, y + 4, short, font_size=12, fill=INK))


def _axis(values: Sequence[float]) -> Axis:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    room = 0.03 * (high - low)
    return Axis(low, high + room, NAME_WIDTH, WIDTH - NAME_WIDTH - 12)
