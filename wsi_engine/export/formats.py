"""The formats of exports, in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from wsi_engine.export.options import Options
from wsi_engine.results.finished import SlideResult

Write = Callable[[SlideResult, Path, Options], list[Path]]
"""Writes an export to a path and returns all files that it wrote."""


@dataclass(frozen=True, slots=True)
class Format:
    """One way to export a result.

    Attributes
    ----------
    module
        In this room, with a function ``write``; imported when it is used, so that no format
        waits for the packages of another.
    suffixes
        That a file of it may have, the usual one first.
    options
        Names of the options that it takes.
    tail
        Between the name of the slide and the suffix, where no name is given.
    """

    module: str
    suffixes: tuple[str, ...]
    options: frozenset[str] = frozenset()
    tail: str = ""

    @property
    def write(self) -> Write:
        """The function that writes it."""
        write: Write = import_module(f"wsi_engine.export.{self.module}").write
        return write


FORMATS = {
    "geoparquet": Format("geoparquet_copy", (".parquet", ".geoparquet"), frozenset({"um"})),
    "csv": Format("csv_table", (".csv", ".csv.gz")),
    "geojson": Format(
        "qupath_geojson",
        (".geojson.gz", ".geojson", ".json", ".json.gz", ".zip"),
        frozenset({"measurements", "split"}),
    ),
    "anndata": Format("anndata_table", (".h5ad",)),
    "annotationstore": Format("annotation_store", (".db",)),
    "labels": Format("label_pyramid", (".ome.tif", ".ome.tiff"), frozenset({"mpp"}), "_labels"),
    "spatialdata": Format("spatialdata_store", (".zarr",), frozenset({"labels"})),
}
