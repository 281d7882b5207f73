"""The formats of exports, in one table; help, errors and docs/exports.md are made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_engine.errors import ExportError
from wsi_engine.export.options import HELP, Options
from wsi_engine.plugins import plugins

if TYPE_CHECKING:
    from wsi_engine.results.finished import SlideResult

GROUP = "wsi_engine.exports"
"""Entry points of other packages; each is a `Format` under its name."""

Write = Callable[["SlideResult", Path, Options], list[Path]]
"""Writes an export to a path and returns all files that it wrote."""


@dataclass(frozen=True, slots=True)
class Format:
    """One way to export a result.

    Attributes
    ----------
    write
        Writes it. Packages that only this format needs are imported when it is called.
    suffixes
        Endings that a file of it may have, the usual one first.
    what, programs
        What is written, and who reads it; Markdown, a few words each.
    options
        Names of the options that it takes.
    tail
        Text between the name of the slide and the suffix, where no name is given.
    """

    write: Write
    suffixes: tuple[str, ...]
    what: str
    programs: str
    options: frozenset[str] = frozenset()
    tail: str = ""


def _write(module: str, run: SlideResult, path: Path, options: Options) -> list[Path]:
    write: Write = import_module(f"wsi_engine.export.{module}").write
    return write(run, path, options)


def _in(module: str) -> Write:
    """Return the function ``write`` of a module of this room, imported when it is called."""
    return partial(_write, module)


FORMATS = {
    "geoparquet": Format(
        _in("geoparquet_copy"),
        (".parquet", ".geoparquet"),
        "GeoParquet 1.1 with bounding boxes, in pixels or `--um`",
        "geopandas, QGIS, DuckDB (1)",
        frozenset({"um"}),
    ),
    "csv": Format(
        _in("csv_table"),
        (".csv", ".csv.gz"),
        "a row per nucleus, and a dictionary of the columns; `'` before text that begins with `=`, "
        "`+`, `-` or `@` (not in `-o x.csv.gz`)",
        "Excel, R, pandas",
    ),
    "geojson": Format(
        _in("qupath_geojson"),
        (".geojson.gz", ".geojson", ".json", ".json.gz", ".zip"),
        r"detections, `--measurements essential\|all\|none`, `--split 200000`",
        "QuPath",
        frozenset({"measurements", "split"}),
    ),
    "anndata": Format(
        _in("anndata_table"),
        (".h5ad",),
        "`.h5ad`, measurements in `X`, centroids in µm",
        "squidpy, scanpy",
    ),
    "annotationstore": Format(
        _in("annotation_store"), (".db",), "SQLite", "TIAToolbox and its viewer"
    ),
    "labels": Format(
        _in("label_pyramid"),
        (".ome.tif", ".ome.tiff"),
        "pyramidal OME-TIFF, uint32, at the slide's pixels or `--mpp 0.5`",
        "QuPath, napari, tifffile",
        frozenset({"mpp"}),
        "_labels",
    ),
    "ome-zarr": Format(
        _in("ome_zarr_labels"),
        (".ome.zarr", ".zarr"),
        "OME-NGFF 0.4: a pyramid in `labels/nuclei`, with colour, class and id of each label; "
        "`--mpp 0.5`",
        "napari, ome-zarr-py, spatialdata",
        frozenset({"mpp"}),
        "_labels",
    ),
    "spatialdata": Format(
        _in("spatialdata_store"),
        (".zarr",),
        "`.zarr`: shapes and their table, `--labels` for an image",
        "spatialdata",
        frozenset({"labels"}),
    ),
    "dicom": Format(
        _in("dicom.annotations"),
        (".dcm",),
        "bulk annotations in pixels or `--mm`, regions as a label map segmentation, "
        r"`--measurements essential\|all\|none`, `--slide slide.dcm`",
        "highdicom, wsidicom, archives (2)",
        frozenset({"measurements", "slide", "mm"}),
        "_nuclei",
    ),
}
"""The formats of this package."""


def find_formats(names: list[str]) -> dict[str, Format]:
    """Return formats by name, those of other packages among them.

    Raises
    ------
    ExportError
        When there is none of a name, its package is broken, or no name is given.
    """
    formats = FORMATS
    if not set(names) <= set(FORMATS):
        others = plugins(GROUP, Format, frozenset(FORMATS))
        for name in names:
            if name in others.problems and name not in FORMATS:
                raise ExportError(others.problems[name])
        formats = FORMATS | dict(others.found)
    unknown = [name for name in names if name not in formats]
    if unknown or not names:
        asked = f"there is no format {unknown[0]!r}" if unknown else "no format is given"
        raise ExportError(f"{asked}: give one of {', '.join(formats)}")
    return {name: formats[name] for name in names}


def takers(option: str) -> str:
    """Return the names of this package's formats that take an option."""
    return ", ".join(name for name, kind in FORMATS.items() if option in kind.options)


def help_of(option: str) -> str:
    """Return the help of an option: who takes it, and what it does."""
    return f"{takers(option)}: {HELP[option]}."


def markdown() -> str:
    """Return the table of formats as docs/exports.md shows it."""
    rows = [f"| `{name}` | {kind.what} | {kind.programs} |" for name, kind in FORMATS.items()]
    return "\n".join(["| `--to` | what | for |", "|---|---|---|", *rows]) + "\n"
