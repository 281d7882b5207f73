"""Nuclei as GeoParquet, written as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from wsi_engine.closing import Closing
from wsi_engine.errors import ResultError
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.nuclei.table import NucleusTable
from wsi_engine.qupath.intensity import base_of
from wsi_engine.results.bounding_boxes import BOX_FIELD, COVERED, boxes_of
from wsi_engine.results.table_metadata import facts_of, geo_metadata
from wsi_engine.version import __version__

NUCLEI_IN_ROW_GROUP = 10_000
CLASS = pa.dictionary(pa.int16(), pa.string())
TEXT = pa.dictionary(pa.int32(), pa.string())
PROBABILITY = "probability: "
SLIDE_COLUMN = "slide"
# Not encoded: Arrow does not group joined tables by columns whose dictionaries differ.
SLIDE_FIELD = pa.field(SLIDE_COLUMN, pa.string())


class GeoParquetWriter(Closing):
    """Writes nuclei as GeoParquet 1.1, which geopandas, DuckDB and QGIS open.

    Geometry is WKB in QuPath pixels. It has no coordinate reference system of the earth:
    ``crs`` is null, and the metadata key ``wsi_engine`` holds the pixel size. A column has the
    bounding box of each nucleus, so that a part of the slide can be read without the rest.

    Parameters
    ----------
    path
        Target.
    classes
        Class names by index.
    measurements
        Names of the measurement columns, float32.
    facts
        Kept as JSON under the metadata key ``wsi_engine``.
    texts
        Names of the columns of text, such as ``roi``.
    more_classes
        Class names that the model does not know, numbered after its own; they have no
        probability.
    slide
        Name of the result, which its rows have in a column of their own.
    """

    def __init__(
        self,
        path: Path,
        classes: Sequence[str],
        measurements: Sequence[str],
        facts: Mapping[str, object],
        texts: Sequence[str] = (),
        more_classes: Sequence[str] = (),
        slide: str = "",
    ) -> None:
        self._slide = slide
        self._classes = np.array([*classes, *more_classes, None], object)
        self._probabilities = len(classes)
        self._measurements = list(measurements)
        self._texts = list(texts)
        fields = [
            pa.field("id", pa.string(), nullable=False),
            pa.field("geometry", pa.binary(), nullable=False),
            BOX_FIELD,
            pa.field("x", pa.float64()),
            pa.field("y", pa.float64()),
            pa.field("class", CLASS),
            pa.field("score", pa.float32()),
            SLIDE_FIELD,
            *[pa.field(PROBABILITY + name, pa.float32()) for name in classes],
            *[pa.field(name, TEXT) for name in texts],
            *[pa.field(name, pa.float32()) for name in measurements],
        ]
        facts = {"version": __version__, "unit": "full-resolution pixel, QuPath origin", **facts}
        self._schema = pa.schema(fields, metadata=geo_metadata(facts, column=COVERED))
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._held: list[pa.Table] = []

    def write(
        self,
        ids: Sequence[str],
        nuclei: Nuclei,
        measurements: Mapping[str, npt.NDArray[np.float32]],
        texts: Mapping[str, Sequence[str | None]] = MappingProxyType({}),
    ) -> None:
        """Append nuclei; row groups are filled before they are written."""
        names = self._classes[nuclei.classes].tolist()
        probabilities = nuclei.probabilities.T
        if len(probabilities) == 0:
            missing = np.full(len(nuclei), np.nan, np.float32)
            probabilities = np.broadcast_to(missing, (self._probabilities, len(nuclei)))
        columns = [
            pa.array(ids, pa.string()),
            pa.array(shapely.to_wkb(nuclei.polygons), pa.binary()),
            boxes_of(nuclei.polygons),
            *[pa.array(axis) for axis in nuclei.anchors.T],
            _encoded(names, CLASS),
            pa.array(nuclei.scores),
            pa.repeat(self._slide, len(nuclei)),
            *[pa.array(column) for column in probabilities],
            *[_encoded(texts[name], TEXT) for name in self._texts],
            *[pa.array(measurements[name]) for name in self._measurements],
        ]
        self._held.append(pa.table(columns, schema=self._schema))
        if sum(len(table) for table in self._held) >= NUCLEI_IN_ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held:
            table = pa.concat_tables(self._held).unify_dictionaries().combine_chunks()
            self._writer.write_table(table)
            self._held = []


def _encoded(texts: Sequence[str | None], kind: pa.DictionaryType) -> pa.Array:
    return pa.array(texts, pa.string()).dictionary_encode().cast(kind)


class GeoParquetReader(Closing):
    """Reads what ``GeoParquetWriter`` wrote, by row groups or by columns; a context.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    facts
        Facts as they were given to the writer.
    classes
        Class names of the model.
    schema
        Schema of the file.
    texts
        Names of the columns of text, such as ``roi``.
    measurements
        Names of the measurement columns.

    Raises
    ------
    ResultError
        When the file is absent or not of this kind; on reading, when a part of it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _readable(path):
            self._file = pq.ParquetFile(path)
            self.schema = schema = self._file.schema_arrow
            self.facts = facts_of(schema)
        for own in ("version", "unit"):
            self.facts.pop(own, None)
        names = schema.names
        self.classes = [n.removeprefix(PROBABILITY) for n in names if n.startswith(PROBABILITY)]
        self.texts = [n for n in names if schema.field(n).type == TEXT]
        self.measurements = [
            n
            for n in names
            if schema.field(n).type == pa.float32()
            and n != "score"
            and not n.startswith(PROBABILITY)
        ]

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def group_starts(self) -> npt.NDArray[np.int64]:
        """First row of each row group, and the number of rows, shape (groups + 1,)."""
        metadata = self._file.metadata
        sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
        return np.cumsum([0, *sizes])

    def group(self, k: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one row group: all columns, or some."""
        with _readable(self._path):
            return self._file.read_row_group(k, columns)

    def groups(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the row groups that hold nuclei, in their order."""
        for k, size in enumerate(np.diff(self.group_starts)):
            if size:
                yield self.group(k, columns)

    def column(self, name: str) -> pa.ChunkedArray:
        """Read one column of all nuclei."""
        with _readable(self._path):
            return self._file.read(columns=[name])[name]

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Read some columns of some nuclei, in the order of ``rows``.

        Only the row groups that hold them are read, one at a time.
        """
        wanted, place = np.unique(np.asarray(rows, np.int64), return_inverse=True)
        starts = self.group_starts
        groups = np.searchsorted(starts, wanted, "right") - 1
        parts = [self._file.schema_arrow.empty_table().select(columns)]
        for k in np.unique(groups):
            group = self.group(int(k), columns).select(columns)
            parts.append(group.take(wanted[groups == k] - starts[k]))
        return pa.concat_tables(parts).take(place)

    def nuclei(self, table: pa.Table) -> Nuclei:
        """Turn a row group into columns of nuclei.

        Classes that no model gave become that within which they are an intensity, or none.
        """
        number = {name: k for k, name in enumerate(self.classes)}
        classes = [
            number.get(name, number.get(base_of(name), -1)) for name in table["class"].to_pylist()
        ]
        probabilities = np.empty((len(table), len(self.classes)), np.float32)
        for name, k in number.items():
            probabilities[:, k] = table[PROBABILITY + name].to_numpy()
        measurements = np.empty((len(table), len(self.measurements)), np.float32)
        for k, name in enumerate(self.measurements):
            measurements[:, k] = table[name].to_numpy()
        return Nuclei(
            polygons=polygons_of(table),
            anchors=np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()]),
            scores=table["score"].to_numpy(),
            classes=np.array(classes, np.int16),
            probabilities=probabilities,
            owned=np.ones(len(table), bool),
            measurements=measurements,
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the ways in which reading fails into one sentence that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise ResultError(f"{path} is missing: run the slide again") from None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        raise ResultError(
            f"{path} cannot be read as a table of nuclei: run the slide again"
        ) from None


def polygons_of(table: pa.Table) -> Polygons:
    """Return the outlines of some rows, in QuPath pixels."""
    return np.asarray(shapely.from_wkb(table["geometry"].to_numpy()))


def defined(column: pa.Array) -> pa.Array:
    """Return a column with null in place of NaN."""
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)


def read_nuclei(path: Path) -> NucleusTable:
    """Read a file that ``GeoParquetWriter`` wrote."""
    with _readable(path):
        return NucleusTable(pq.read_table(path))
