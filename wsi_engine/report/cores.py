"""The cores of tissue microarrays, as their grid has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from wsi_engine.report import svg
from wsi_engine.report.charts import number
from wsi_engine.report.colours import INK, UNCLASSIFIED, viridis

STEP, RADIUS, MARGIN = 46.0, 18.0, 40.0
NARROWEST = 300.0
"""Drawings are as wide as the page has room: cores of small arrays would be huge."""
_DARK = 0.55
"""Below it a core of viridis is dark, and what is written on it white."""


@dataclass(frozen=True)
class Core:
    """One core of a microarray.

    Attributes
    ----------
    name
        As in QuPath, such as ``A-1``.
    row, column
        Its place in the array.
    missing
        Whether it was marked as holding no tissue.
    nuclei, density
        Nuclei, and nuclei per mm²; ``None`` where nothing was searched.
    """

    name: str
    row: str
    column: str
    missing: bool
    nuclei: float | None
    density: float | None


def grid_of_cores(slide: str, cores: Sequence[Core]) -> Markup:
    """Draw the cores of a slide in rows and columns, coloured by nuclei per mm²."""
    rows = sorted({core.row for core in cores}, key=_in_order)
    columns = sorted({core.column for core in cores}, key=_in_order)
    top = max((core.density or 0 for core in cores), default=0) or 1.0
    parts = [
        svg.text(MARGIN + (k + 0.5) * STEP, MARGIN - 12, name, "middle", font_size=13, fill=INK)
        for k, name in enumerate(columns)
    ]
    parts += [
        svg.text(MARGIN - 14, MARGIN + (k + 0.5) * STEP + 5, name, "end", font_size=13, fill=INK)
        for k, name in enumerate(rows)
    ]
    for core in cores:
        x = MARGIN + (columns.index(core.column) + 0.5) * STEP
        y = MARGIN + (rows.index(core.row) + 0.5) * STEP
        parts.append(_drawn(core, x, y, top))
    width, height = MARGIN + len(columns) * STEP + 8, MARGIN + len(rows) * STEP + 8
    width = max(width, NARROWEST)
    return svg.drawing(f"Cores of {slide}", width, height, *parts)


def _drawn(core: Core, x: float, y: float, top: float) -> Markup:
    if core.missing or core.density is None:
        what = "missing" if core.missing else "not searched"
        circle = svg.tag("circle", cx=x, cy=y, r=RADIUS, fill="none", stroke=UNCLASSIFIED,
                         stroke_dasharray="4 3")  # fmt: skip
        mark = svg.text(x, y + 4, "–", "middle", font_size=12, fill=INK)
        return svg.tag("g", svg.tag("title", f"{core.name}: {what}"), circle, mark)
    share = core.density / top
    red, green, blue = viridis(np.array(share)).tolist()
    circle = svg.tag("circle", cx=x, cy=y, r=RADIUS, fill=f"#{red:02x}{green:02x}{blue:02x}")
    ink = "#ffffff" if share < _DARK else INK
    count = svg.text(x, y + 4, number(core.nuclei), "middle", font_size=11, fill=ink)
    told = f"{core.name}: {number(core.nuclei)} nuclei, {number(core.density)} per mm²"
    return svg.tag("g", svg.tag("title", told), circle, count)


def _in_order(name: str) -> list[tuple[bool, int, str]]:
    """Sort as people do: 2 before 10, and Z before AA."""
    parts = re.findall(r"\d+|\D+", name)
    return [(p.isdigit(), int(p) if p.isdigit() else len(p), p) for p in parts]
