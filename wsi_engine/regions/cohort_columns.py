"""Which of some hundred columns of a cohort a person reads: those of its table for spreadsheets."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.regions.positive import ALLRED, H_SCORE, PERCENT
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.quality_files import read_flags

MEASUREMENTS = (
    "Area µm^2",
    "Circularity",
    "Hematoxylin: Mean",
    "Nearest neighbor distance µm",
)
STATISTICS = ("Mean", "Median", "Std.Dev.")

ESSENTIAL = (
    "Area mm^2",
    "Searched area mm^2",
    "Nuclei",
    "Nuclei per mm^2",
    *(f"{name}: {statistic}" for name in MEASUREMENTS for statistic in STATISTICS),
    "Area µm^2: CV",
    "Clark-Evans: R",
)
"""Figures that are essential; those of classes, and of what is positive, are, too."""

OF_CLASSES = ("Nuclei: ", "Num ")
OF_POSITIVE = (PERCENT, f"{PERCENT}: 95% CI low", f"{PERCENT}: 95% CI high", H_SCORE, ALLRED)

QUALITY = Column(
    "Quality flags",
    "",
    "checks of the slide that found something, as on its page, or ok; missing without a page",
    "this engine",
)


def quality_flags(result: SlideResult) -> str | None:
    """Name the checks of a slide that a person should look at; ``None`` where none was made."""
    flags = read_flags(result)
    if flags is None:
        return None
    found = [f"{flag.name}: {flag.level}" for flag in flags if flag.level in ("look", "bad")]
    return ", ".join(found) or "ok"


def essential_columns(table: pa.Table) -> list[str]:
    """Return the names of the columns that say what a row is, and of the essential figures.

    All texts but the UUID say what a row is: slide, region, what the study and QuPath note of it,
    and the slide's flags. They come first.
    """
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    figures = [name for name in table.column_names if name not in texts]
    chosen = [
        name
        for name in figures
        if name in ESSENTIAL or name.startswith(OF_CLASSES) or name.endswith(OF_POSITIVE)
    ]
    return [name for name in texts if name != "id"] + chosen


def essential_first(names: Iterable[str], essential: list[str]) -> list[str]:
    """Return all names, the essential ones first."""
    return essential + [name for name in names if name not in essential]
