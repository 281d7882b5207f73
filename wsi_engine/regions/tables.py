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
from wsi_engine.regions.summary import Figures, all_columns
from wsi_engine.results.region import Region, read_regions
from wsi_engine.version import __version__
from wsi_engine.writing import atomic_path

IDENTITY = (
    Column("slide", "", "name of the slide without its suffix", "this engine"),
    Column("region", "", "name of the annotation; need not be unique", "this engine"),
    Column("kind", "", "slide, tissue or annotation", "this engine"),
    Column("class", "", "class of the annotation", "this engine"),
    Column("id", "", "UUID of the annotation, as in QuPath", "QuPath"),
)


def region_table(
    slide: str, regions: Sequence[Region], figures: Sequence[Figures], facts: dict[str, Any]
) -> pa.Table:
    """Return one row per region: who it is, then its figures as float64, null where missing.

    ``facts`` are kept as JSON under the metadata key ``wsi_engine``.

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
    for column in all_columns(figures):
        if column.name in columns:
            raise ValueError(f"two columns are called {column.name!r}")
        values = [row.get(column, math.nan) for row in figures]
        columns[column.name] = pa.array(values, pa.float64(), from_pandas=True)
    metadata = {"wsi_engine": json.dumps({"version": __version__, **facts})}
    return pa.table(columns).replace_schema_metadata(metadata)


def write_table(table: pa.Table, columns: Iterable[Column], path: Path) -> list[Path]:
    """Write a table as Parquet, as CSV, and its dictionary as JSON; return the files.

    The Parquet file is written last: where it is, the others are.

    Parameters
    ----------
    table
        Table to write.
    columns
        Meaning of its columns.
    path
        Without suffix.
    """
    files = [path.with_name(path.name + end) for end in (".parquet", ".csv", "_columns.json")]
    style = pa.csv.WriteOptions(quoting_style="needed")
    with atomic_path(files[1]) as partial, partial.open("wb") as stream:
        stream.write("\ufeff".encode())  # without it Excel shows "Area Âµm^2"
        pa.csv.write_csv(table, stream, style)
    entries = [asdict(column) for column in columns]
    for entry in entries:
        del entry["essential"]
    with atomic_path(files[2]) as partial:
        partial.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")
    with atomic_path(files[0]) as partial:
        pq.write_table(table, partial, compression="zstd")
    return files


def write_annotations(path: Path, regions: Sequence[Region], figures: Sequence[Figures]) -> Path:
    """Write regions as QuPath annotations that carry their figures; the slide is none."""
    objects = [
        with_figures(region.source, row)
        for region, row in zip(regions, figures, strict=True)
        if region.source is not None
    ]
    write_objects(path, objects)
    return path


def read_written_regions(path: Path) -> list[Region]:
    """Read regions that were written as annotations, without the figures that they carry.

    Raises
    ------
    ResultError
        When the table beside them, which holds the figures, cannot be read.
    """
    table_path = path.with_suffix(".parquet")
    try:
        table = pq.read_schema(table_path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ResultError(
            f"{table_path} cannot be read ({error}): compute it again with "
            f"`wsi-engine regions {path.parent}`"
        ) from None
    regions = []
    for region in read_regions(path, "annotation"):
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
