"""What the columns of a table mean: written beside it, and as a page of the documentation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wsi_engine.errors import OutputError
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.groups import GROUPS, columns_of
from wsi_engine.results.bounding_boxes import BOX_COLUMN
from wsi_engine.results.layout import COLUMNS, NUCLEI_TABLE
from wsi_engine.results.nucleus_table import PROBABILITY, SLIDE_COLUMN
from wsi_engine.slide.stain_vectors import H_AND_E

_ENGINE = "this engine"

IDENTITY = (
    Column("id", "", "UUID of version 5, from slide, model and position", "RFC 9562"),
    Column("geometry", "px", "outline as WKB, in full-resolution pixels as QuPath counts", "OGC"),
    Column(BOX_COLUMN, "px", "bounding box: xmin, ymin, xmax, ymax", "GeoParquet 1.1"),
    Column("x", "px", "anchor: the point that decides which tile a nucleus belongs to", _ENGINE),
    Column("y", "px", "anchor", _ENGINE),
    Column("class", "", "the most probable class; empty where the model gives none", _ENGINE),
    Column("score", "", "confidence of the model, 0 to 1; `Detection score` in QuPath", _ENGINE),
    Column(SLIDE_COLUMN, "", "name of the result, which is that of the slide", _ENGINE),
)

LABELS = (
    Column("name", "", "that a person gave to the nucleus in QuPath", _ENGINE),
    Column("source", "", "`engine`; `edited` or `added` by a person; `other` program", _ENGINE),
    Column("roi", "", "name, or else class, of the smallest annotation around the anchor", _ENGINE),
    Column("roi_id", "", "UUID of that annotation", _ENGINE),
)

CORES = (
    Column("tma_core", "", "name of the core of a tissue microarray around the anchor", "QuPath"),
    Column("tma_row", "", "row of that core in its microarray, by its name", "QuPath"),
    Column("tma_column", "", "column of that core, likewise", "QuPath"),
)
"""In tables of runs that such cores bounded."""


def all_columns(
    classes: Sequence[str], measurements: Sequence[Column], *, with_cores: bool = False
) -> list[Column]:
    """Describe every column of ``nuclei.parquet``, in its order."""
    probabilities = [
        Column(PROBABILITY + name, "", f"the model's probability of {name}", _ENGINE)
        for name in classes
    ]
    return [*IDENTITY, *probabilities, *LABELS, *(CORES if with_cores else ()), *measurements]


def write_dictionary(
    path: Path,
    classes: Sequence[str],
    measurements: Sequence[Column],
    for_qupath: Sequence[str],
    *,
    with_cores: bool = False,
) -> None:
    """Write the dictionary of a table as JSON: a list of columns.

    Parameters
    ----------
    path
        Target.
    classes
        Class names by index.
    measurements
        Further columns.
    for_qupath
        Names of those that the GeoJSON has, too.
    with_cores
        Whether the table has the columns `CORES`.
    """
    entries = [
        asdict(column) | {"in_geojson": column.name in for_qupath}
        for column in all_columns(classes, measurements, with_cores=with_cores)
    ]
    path.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")


def column_of(entry: dict[str, Any]) -> Column:
    """Return the column that an entry of a dictionary describes."""
    # Results of earlier versions say only what went to QuPath.
    essential = entry.get("essential", entry.get("in_geojson", False))
    texts = {text: entry[text] for text in ("name", "unit", "formula", "source")}
    pixel_um = tuple(entry["pixel_um"]) if entry.get("pixel_um") else None
    return Column(**texts, essential=essential, pixel_um=pixel_um)


def read_dictionary(path: Path, names: Sequence[str]) -> tuple[list[Column], list[str]]:
    """Read back the measurements of a dictionary, and the names of those in the GeoJSON.

    Raises
    ------
    OutputError
        When it is missing or does not describe all of the names.
    """
    try:
        entries = {entry["name"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))}
        columns = [column_of(entries[name]) for name in names]
        return columns, [name for name in names if entries[name]["in_geojson"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{path} does not describe the measurements beside it: {error}") from None


def markdown() -> str:
    """Return the page that describes all groups of measurements."""
    lines = [
        "# Measurements",
        "",
        "What the engine measures of every nucleus, by the groups of the setting `measure`. This",
        f"page is made by `make docs`; the `{COLUMNS}` of a result describes its own columns.",
        "Those in **bold** go to QuPath by default (`geojson_measurements`), all of them to",
        f"`{NUCLEI_TABLE}`: QuPath needs memory for 12 to 15 times the GeoJSON that it opens, of",
        "which a nucleus takes 0.9 kB with these and 2.9 kB with all. A value that is not defined",
        "is missing (NaN), never 0.",
        "",
        "A pixel belongs to a nucleus when its centre lies inside the polygon, and to each of",
        "them where nuclei overlap. Pixels are whole ones of the slide, whatever the model sees:",
        "of 0.25 µm the means of 2 x 2, of 0.499 µm the slide's own, always as many as come",
        "nearest to 0.5 µm. So colour and texture do not depend on where a nucleus lies. Texture",
        f"depends on the size of the pixels, which `{COLUMNS}` tells as `pixel_um`. (Pixels whose",
        "sides differ by more than 2 % are resampled to 0.5 µm.) The ring lies around the",
        "nucleus, outside of all nuclei, and ends half-way to neighbours. Optical density is",
        "log10(255 / value); stains are separated with QuPath's default vectors of H&E, unless",
        "`stains` says otherwise. A nucleus that was drawn or reshaped in QuPath has measurements",
        "of its shape and context: its pixels are not read again. The context is that among the",
        "nuclei as they are after all corrections.",
    ]
    for group in GROUPS:
        lines += ["", f"## {group}", "", "| name | unit | formula | source |", "|---|---|---|---|"]
        for column in columns_of((group,), H_AND_E):
            name = f"**{column.name}**" if column.essential else column.name
            cells = (name, column.unit, column.formula.replace("|", "\\|"), column.source)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
