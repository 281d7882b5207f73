"""Nuclei as GeoParquet, written as a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from wsi_engine.closing import Closing
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.nuclei.table import NucleusTable
from wsi_engine.version import __version__

NUCLEI_IN_ROW_GROUP = 10_000


class GeoParquetWriter(Closing):
    """Writes nuclei as GeoParquet 1.1, which geopandas, DuckDB and QGIS open.

    Geometry is WKB in QuPath pixels. It has no coordinate reference system of the earth:
    ``crs`` is null, and the metadata key ``wsi_engine`` holds the pixel size.

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
    """

    def __init__(
        self,
        path: Path,
        classes: Sequence[str],
        measurements: Sequence[str],
        facts: Mapping[str, object],
    ) -> None:
        self._classes = np.array([*classes, None], object)
        self._measurements = list(measurements)
        fields = [
            pa.field("id", pa.string(), nullable=False),
            pa.field("geometry", pa.binary(), nullable=False),
            pa.field("x", pa.float64()),
            pa.field("y", pa.float64()),
            pa.field("class", pa.dictionary(pa.int16(), pa.string())),
            pa.field("score", pa.float32()),
            *[pa.field(f"probability: {name}", pa.float32()) for name in classes],
            *[pa.field(name, pa.float32()) for name in measurements],
        ]
        geo = {
            "version": "1.1.0",
            "primary_column": "geometry",
            "columns": {
                "geometry": {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": None}
            },
        }
        facts = {"version": __version__, "unit": "full-resolution pixel, QuPath origin", **facts}
        metadata = {"geo": json.dumps(geo), "wsi_engine": json.dumps(facts)}
        self._schema = pa.schema(fields, metadata=metadata)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._held: list[pa.Table] = []

    def write(
        self,
        ids: Sequence[str],
        nuclei: Nuclei,
        measurements: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        """Append nuclei; row groups are filled before they are written."""
        names = self._classes[nuclei.classes]
        probabilities = nuclei.probabilities.T
        if len(probabilities) == 0:
            missing = np.full(len(nuclei), np.nan, np.float32)
            probabilities = np.broadcast_to(missing, (len(self._classes) - 1, len(nuclei)))
        columns = [
            pa.array(ids, pa.string()),
            pa.array(shapely.to_wkb(nuclei.polygons), pa.binary()),
            *[pa.array(axis) for axis in nuclei.anchors.T],
            pa.array(names, pa.string()).dictionary_encode().cast(self._schema.field("class").type),
            pa.array(nuclei.scores),
            *[pa.array(column) for column in probabilities],
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


def read_nuclei(path: Path) -> NucleusTable:
    """Read a file that ``GeoParquetWriter`` wrote."""
    return NucleusTable(pq.read_table(path))
