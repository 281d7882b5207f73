"""GeoParquet: the engine's own tables, QuPath objects as tables, and tables of other tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from wsi_engine.convert.properties import object_of_properties, properties_of_object
from wsi_engine.convert.types import Types
from wsi_engine.errors import ConversionError
from wsi_engine.nuclei.labels import ENGINE, ROI_ID_KEY, ROI_KEY, SOURCE_KEY
from wsi_engine.qupath.features import SCORE_NAME
from wsi_engine.qupath.objects import PathObject
from wsi_engine.results.table_metadata import geo_metadata
from wsi_engine.version import __version__

ROWS_AT_ONCE = 10_000
MEASUREMENT = "measurement: "
"""Before the name of a measurement that would otherwise be taken for something else."""

_FIELDS = {
    "id": pa.string(),
    "geometry": pa.binary(),
    "objectType": pa.dictionary(pa.int16(), pa.string()),
    "class": pa.dictionary(pa.int16(), pa.string()),
    "class_colour": pa.string(),
    "name": pa.string(),
    "color": pa.string(),
    "isLocked": pa.bool_(),
    "isMissing": pa.bool_(),
    "isEllipse": pa.bool_(),
    "plane": pa.string(),
    "isNucleus": pa.bool_(),
    "nucleus": pa.string(),
    "metadata": pa.string(),
    "unknown": pa.string(),
    "unknownProperties": pa.string(),
}
_AS_JSON = ("class_colour", "color", "plane", "metadata", "unknown", "unknownProperties")
_OF_ENGINE = {"score": SCORE_NAME, "source": SOURCE_KEY, "roi": ROI_KEY, "roi_id": ROI_ID_KEY}
"""Columns of a run by the names under which QuPath shows them."""
_FOREIGN_IDS = ("id", "object_id", "cell_id", "key")
_NATIVE = {
    name.lower(): getattr(shapely.GeometryType, name)
    for name in ("POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON")
}


def read_geoparquet(path: str | Path, *, types: Types | None = None) -> Iterator[PathObject]:
    """Read the rows of a GeoParquet file as QuPath objects, one after the other.

    What `write_geoparquet` wrote, and the engine's ``nuclei.parquet``, comes back whole. In
    other files each shape is a detection; a column ``class``, ``type`` or ``cell_type`` is its
    class, other numbers are measurements and other texts metadata.

    Parameters
    ----------
    path
        GeoParquet, its geometry as WKB or natively encoded.
    types
        Classes of types that are numbers.

    Raises
    ------
    ConversionError
        When the file is no GeoParquet; the message names the row.
    """
    path = Path(path)
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
            column, encoding = _geometry_column(file.schema_arrow, path.name)
            rows = _OwnRows() if _is_own(metadata) else _ForeignRows(b"wsi_engine" in metadata)
            start = 0
            for batch in file.iter_batches(ROWS_AT_ONCE):
                shapes = _shapes(batch.column(column), encoding)
                others = batch.drop_columns([column])
                for k, (identity, said) in enumerate(rows.properties(others)):
                    where = f"{path.name}: row {start + k}"
                    if shapes[k] is None:
                        raise ConversionError(f"{where} has no geometry")
                    yield object_of_properties(shapes[k], identity, said, types or {}, where)
                start += len(batch)
    except FileNotFoundError:
        raise ConversionError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException, shapely.GEOSException, ValueError) as error:
        raise ConversionError(f"{path.name} cannot be read as GeoParquet: {error}") from None


def measurement_names(objects: Iterable[PathObject]) -> list[str]:
    """Return the names of all measurements, in the order in which they first appear."""
    names: dict[str, None] = {}
    for item in objects:
        for part in item.flattened():
            names.update(dict.fromkeys(part.measurements))
    return list(names)


def write_geoparquet(
    path: Path, objects: Iterable[PathObject], measurements: Sequence[str]
) -> None:
    """Write objects as GeoParquet 1.1 with ``float64`` measurements.

    A measurement that an object does not have is null. Objects without a shape, such as the
    root, are left out; children become rows of their own.

    Parameters
    ----------
    path
        Target.
    objects
        Objects in their final coordinates, each with its id.
    measurements
        Names from `measurement_names`: the columns must be known before the first row.
    """
    facts = {
        "version": __version__,
        "unit": "full-resolution pixel, QuPath origin",
        "content": "objects",
    }
    columns = {name: _column_name(name) for name in measurements}
    schema = pa.schema(
        [*_FIELDS.items(), *((column, pa.float64()) for column in columns.values())],
        metadata=geo_metadata(facts, geometry_types=()),
    )
    shown = (part for item in objects for part in item.flattened() if not part.geometry.is_empty)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(shown, ROWS_AT_ONCE)):
            writer.write_table(_table(group, columns, schema))


def _table(group: list[PathObject], columns: dict[str, str], schema: pa.Schema) -> pa.Table:
    rows = [properties_of_object(item) for item in group]
    for row in rows:
        row["class"] = row.pop("type", None)
        for name in _AS_JSON:
            if name in row:
                row[name] = orjson.dumps(row[name]).decode()
    values = {name: [row.get(name) for row in rows] for name in list(_FIELDS)[2:]}
    values["id"] = [item.id for item in group]
    values["geometry"] = shapely.to_wkb([item.geometry for item in group]).tolist()
    for name, column in columns.items():
        values[column] = [item.measurements.get(name) for item in group]
    return pa.table(values, schema=schema)


def _column_name(measurement: str) -> str:
    taken = measurement in _FIELDS or measurement.startswith(MEASUREMENT)
    return MEASUREMENT + measurement if taken else measurement


def _is_own(metadata: dict[bytes, bytes]) -> bool:
    try:
        return bool(json.loads(metadata[b"wsi_engine"])["content"] == "objects")
    except (KeyError, TypeError, ValueError):
        return False


class _OwnRows:
    """Rows that `write_geoparquet` wrote: NaN is a value, what is missing is null."""

    def properties(self, batch: pa.RecordBatch) -> Iterator[tuple[Any, dict[str, Any]]]:
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        fixed = [name for name in _FIELDS if name in columns and name != "id"]
        measured = {
            name.removeprefix(MEASUREMENT): values
            for name, values in columns.items()
            if name not in _FIELDS
        }
        for k in range(len(batch)):
            said = {name: columns[name][k] for name in fixed if columns[name][k] is not None}
            said |= {name: json.loads(said[name]) for name in _AS_JSON if name in said}
            said["measurements"] = {n: v[k] for n, v in measured.items() if v[k] is not None}
            yield columns["id"][k], said


class _ForeignRows:
    """Rows of other tools, or of a run of the engine: NaN means that there is no value."""

    def __init__(self, of_engine: bool) -> None:
        self._of_engine = of_engine
        self._renamed = _OF_ENGINE if of_engine else {}
        # Where the engine anchors a nucleus follows from its shape, and so does its box.
        self._ignored = {"x", "y", "bbox", "slide"} if of_engine else set()

    def properties(self, batch: pa.RecordBatch) -> Iterator[tuple[Any, dict[str, Any]]]:
        columns = {
            self._renamed.get(name, name): _values(batch.column(name))
            for name in batch.schema.names
            if name not in self._ignored and not name.startswith("__index_level")
        }
        if self._of_engine and SOURCE_KEY in columns:
            # QuPath gets only what did not come from the engine.
            columns[SOURCE_KEY] = [None if s == ENGINE else s for s in columns[SOURCE_KEY]]
        identity = next((name for name in _FOREIGN_IDS if name in columns), None)
        for k in range(len(batch)):
            said = {name: values[k] for name, values in columns.items()}
            yield said.pop(identity, None) if identity else None, said


def _values(column: pa.Array) -> list[Any]:
    """Return what JSON could hold; 0.1 of single precision stays 0.1."""
    if pa.types.is_floating(column.type):
        numbers = column.to_numpy(zero_copy_only=False)
        exact = numbers.astype(np.float64)
        if numbers.dtype.itemsize < 8:
            exact = numbers.astype(str).astype(np.float64)
        return [None if number != number else number for number in exact.tolist()]
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    values = column.to_pylist()
    return [value if isinstance(value, str | int | float) else None for value in values]


def _geometry_column(schema: pa.Schema, name: str) -> tuple[str, str]:
    try:
        geo = json.loads((schema.metadata or {})[b"geo"])
        column = geo["primary_column"]
        encoding = str(geo["columns"][column]["encoding"])
    except KeyError:
        column, encoding = "geometry", "WKB"
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{name}: its geo metadata are broken: {error}") from None
    if column not in schema.names:
        raise ConversionError(
            f"{name} is no GeoParquet: it has no geometry column, only {', '.join(schema.names)}"
        )
    if encoding != "WKB" and encoding not in _NATIVE:
        raise ConversionError(f"{name}: geometry encoded as {encoding!r} cannot be read")
    return column, encoding


def _shapes(column: pa.Array, encoding: str) -> npt.NDArray[np.object_]:
    if encoding == "WKB":
        return np.asarray(shapely.force_2d(shapely.from_wkb(column.to_numpy(zero_copy_only=False))))
    present = column.drop_null()
    values, offsets = present, []
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        limits = values.offsets.to_numpy()
        offsets.append(limits - limits[0])
        values = values.values.slice(limits[0], limits[-1] - limits[0])
    xy = np.column_stack([values.field(axis).to_numpy(zero_copy_only=False) for axis in "xy"])
    shapes = np.full(len(column), None, object)
    filled = column.is_valid().to_numpy(zero_copy_only=False)
    shapes[filled] = shapely.from_ragged_array(
        _NATIVE[encoding], xy, tuple(reversed(offsets)) or None
    )
    return shapes
