"""A table that spreadsheets and statistics programs open."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import shapely

from wsi_engine.export.options import Options
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.nucleus_table import PROBABILITY, defined, polygons_of
from wsi_engine.results.spreadsheets import without_formulas
from wsi_engine.writing import atomic_path

_CENTROID = tuple(
    Column(f"Centroid {axis} {unit}", unit, f"{axis.lower()} of the centroid of the outline",
           "QuPath")
    for unit in ("px", "µm") for axis in "XY"
)  # fmt: skip
DECIMALS = 3
"""Decimals of centroids; outlines have two."""


def write(run: SlideResult, path: Path, options: Options) -> list[Path]:
    """Write one row per nucleus, and beside it what the columns mean.

    Units are in the names; an empty cell is a value that is not defined. A ``.csv`` begins with a
    byte order mark: without it Excel takes UTF-8 for the code page of the machine, and shows
    ``Area Âµm^2``. Text that Excel would take for a formula, as it begins with = + - or @, has an
    apostrophe before it. A ``.csv.gz``, which Excel does not open, has neither. A row group is in
    memory at a time.
    """
    del options
    packed = _is_packed(path.name)
    columns = _columns(run)
    schema = pa.schema([(column.name, _type(run, column.name)) for column in columns])
    style = pa.csv.WriteOptions(quoting_style="needed")
    with (
        atomic_path(path) as partial,
        _stream(partial, path.name) as stream,
        pa.csv.CSVWriter(stream, schema, write_options=style) as writer,
    ):
        for group in run.table.groups():
            rows = _rows(run, group, schema)
            writer.write_table(rows if packed else without_formulas(rows))
    return [path, _write_dictionary(path, columns)]


def _columns(run: SlideResult) -> Sequence[Column]:
    table = run.table
    names = [PROBABILITY + name for name in table.classes] + table.texts + table.measurements
    return [
        *[run.described(name) for name in ("id", "class", "score")],
        *_CENTROID,
        *[run.described(name) for name in names],
    ]


def _type(run: SlideResult, name: str) -> pa.DataType:
    if name in {column.name for column in _CENTROID}:
        return pa.float64()
    kind = run.table.schema.field(name).type
    return pa.string() if pa.types.is_dictionary(kind) else kind


def _rows(run: SlideResult, group: pa.Table, schema: pa.Schema) -> pa.Table:
    px = shapely.get_coordinates(shapely.centroid(polygons_of(group)))
    um = px * [run.mpp.x, run.mpp.y]
    places = np.round(np.hstack([px, um]), DECIMALS).T
    made = {column.name: pa.array(place) for column, place in zip(_CENTROID, places, strict=True)}
    columns = [
        made[field.name]
        if field.name in made
        else defined(group[field.name].combine_chunks()).cast(field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _is_packed(name: str) -> bool:
    return name.lower().endswith(".gz")


@contextmanager
def _stream(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file for a table: packed, or with a byte order mark."""
    with ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(path.open("wb"))
        if _is_packed(name):
            # No time stamp and no name: the same nuclei give the same bytes.
            packed = gzip.GzipFile("", "wb", fileobj=stream, mtime=0)
            stream = stack.enter_context(cast(IO[bytes], packed))
        else:
            stream.write("\ufeff".encode())
        yield stream


def _write_dictionary(table: Path, columns: Sequence[Column]) -> Path:
    stem = table.name[: table.name.lower().rindex(".csv")]
    path = table.with_name(f"{stem}_columns.csv")
    with (
        atomic_path(path) as partial,
        partial.open("w", encoding="utf-8-sig", newline="") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(["name", "unit", "formula", "source"])
        writer.writerows([c.name, c.unit, c.formula, c.source] for c in columns)
    return path
