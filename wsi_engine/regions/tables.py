"""The numbers of regions as files: tables, annotations for QuPath, and what the columns mean."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from wsi_engine.errors import ResultError
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.writer import write_objects
from wsi_engine.regions.notes import Notes
from wsi_engine.regions.summary import Figures, all_columns
from wsi_engine.results.layout import REGIONS_GEOJSON, REGIONS_TABLE, TableFiles
from wsi_engine.results.region import Region, read_regions
from wsi_engine.results.spreadsheets import without_formulas
from wsi_engine.results.table_metadata import table_metadata
from wsi_engine.version import __version__

IDENTITY = (
    Column("slide", "", "name of the slide without its suffix", "this engine"),
    Column("region", "", "name of the annotation; need not be unique", "this engine"),
    Column("kind", "", "slide, tissue or annotation", "this engine"),
    Column("class", "", "class of the annotation", "this engine"),
    Column("id", "", "UUID of the annotation, as in QuPath", "QuPath"),
)


def region_table(
    slide: str,
    regions: Sequence[Region],
    figures: Sequence[Figures],
    facts: dict[str, Any],
    notes: Notes | None = None,
) -> pa.Table:
    """Return one row per region: who it is, then its figures as float64, null where missing.

    ``facts`` are kept as JSON under the metadata key ``wsi_engine``; notes follow who it is.

    Raises
    ------
    ValueError
        When two columns have one name.
    """
    identity = [
        [slide] * len(regions),
        [region.name for region in regions],
        [region.kind for region in regions],
        [region.class_name for region in regions],
        [region.id for region in regions],
    ]
    columns = {
        column.name: pa.array(values, pa.string())
        for column, values in zip(IDENTITY, identity, strict=True)
    }
    for column, texts in (notes or {}).items():
        columns[column.name] = pa.array(texts, pa.string())
    for column in all_columns(figures):
        if column.name in columns:
            raise ValueError(f"two columns are called {column.name!r}")
        values = [row.get(column, math.nan) for row in figures]
        columns[column.name] = pa.array(values, pa.float64(), from_pandas=True)
    return pa.table(columns).replace_schema_metadata(
        table_metadata({"version": __version__, **facts})
    )


def write_table(
    table: pa.Table,
    columns: Iterable[Column],
    folder: Path,
    files: TableFiles,
    in_csv: Sequence[str] | None = None,
) -> None:
    """Write a table as Parquet, as CSV, and its dictionary as JSON.

    Parameters
    ----------
    table
        Table to write.
    columns
        Meaning of its columns.
    folder, files
        Folder of the files, and their names.
    in_csv
        Names of the columns that the CSV has, in its order; by default all.
    """
    style = pa.csv.WriteOptions(quoting_style="needed")
    with (folder / files.csv).open("wb") as stream:
        stream.write("\ufeff".encode())  # without it Excel shows "Area Âµm^2"
        chosen = table if in_csv is None else table.select(list(in_csv))
        pa.csv.write_csv(without_formulas(chosen), stream, style)
    entries = [asdict(column) for column in columns]
    for entry in entries:
        del entry["essential"]
    text = json.dumps(entries, indent=1, ensure_ascii=False)
    (folder / files.columns).write_text(text, encoding="utf-8")
    pq.write_table(table, folder / files.parquet, compression="zstd")


def write_annotations(path: Path, regions: Sequence[Region], figures: Sequence[Figures]) -> None:
    """Write regions as QuPath annotations that carry their figures; the slide is none."""
    objects = [
        with_figures(region.source, row)
        for region, row in zip(regions, figures, strict=True)
        if region.source is not None
    ]
    write_objects(path, objects)


def read_written_regions(folder: Path) -> list[Region]:
    """Read the regions of a result that were written as annotations, without their figures.

    Raises
    ------
    ResultError
        When the table beside them, which holds the figures, cannot be read.
    """
    path = folder / REGIONS_TABLE
    try:
        table = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ResultError(
            f"{path} cannot be read ({error}): compute it again with `wsi-engine regions {folder}`"
        ) from None
    regions = []
    for region in read_regions(folder / REGIONS_GEOJSON, "annotation"):
        assert region.source is not None
        regions.append(replace(region, source=_without(region.source, table.names)))
    return regions


def with_figures(annotation: PathObject, figures: Figures) -> PathObject:
    """Return an annotation that has figures as measurements, after those of its own.

    What it had under these names is of an earlier call: it goes, also where there is no value now.
    """
    own = _without(annotation, {column.name for column in figures}).measurements
    known = {column.name: value for column, value in figures.items() if math.isfinite(value)}
    return replace(annotation, measurements=own | known)


def _without(annotation: PathObject, names: Collection[str]) -> PathObject:
    own = {k: v for k, v in annotation.measurements.items() if k not in names}
    return replace(annotation, measurements=own)
