"""Parts: the nuclei of some consecutive tiles in one Arrow file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely

from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.writing import atomic_path

TileNuclei = tuple[int, Nuclei]
"""Index of a tile, and what it reports."""

POLYGON_TYPE = pa.list_(pa.list_(pa.list_(pa.float64(), 2)))
"""GeoArrow's polygon: rings of interleaved x, y."""


def write_part(path: Path, tiles: Sequence[TileNuclei]) -> int:
    """Write the nuclei of some tiles atomically and return the file's CRC-32."""
    owners = np.repeat(
        np.array([index for index, _ in tiles], np.int64), [len(nuclei) for _, nuclei in tiles]
    )
    table = _to_arrow(owners, Nuclei.concatenate([nuclei for _, nuclei in tiles]))
    contents = {
        "tiles": [index for index, _ in tiles],
        "classes": tiles[0][1].probabilities.shape[1],
        "measurements": tiles[0][1].measurements.shape[1],
    }
    table = table.replace_schema_metadata({k: json.dumps(v) for k, v in contents.items()})
    with (
        atomic_path(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    return checksum(path)


def read_part(path: Path) -> Iterator[TileNuclei]:
    """Yield the tiles of a part in the order in which they were written."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    owners = table["tile"].to_numpy()
    nuclei = _from_arrow(table)
    for index in json.loads(table.schema.metadata[b"tiles"]):
        yield index, nuclei.take(owners == index)


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            value = zlib.crc32(chunk, value)
    return value


def polygons_to_arrow(polygons: np.ndarray) -> pa.Array:
    """Convert shapely polygons, holes included, to GeoArrow's polygon layout."""
    if len(polygons) == 0:
        return pa.array([], POLYGON_TYPE)
    _, coordinates, (rings, parts) = shapely.to_ragged_array(polygons, include_z=False)
    vertices = pa.FixedSizeListArray.from_arrays(pa.array(coordinates.ravel()), 2)
    return pa.ListArray.from_arrays(
        pa.array(parts, pa.int32()), pa.ListArray.from_arrays(pa.array(rings, pa.int32()), vertices)
    )


def polygons_from_arrow(column: pa.ChunkedArray) -> np.ndarray:
    """Convert GeoArrow's polygon layout to shapely polygons."""
    outer = column.combine_chunks()
    if isinstance(outer, pa.ChunkedArray):
        outer = outer.chunk(0) if outer.num_chunks else pa.array([], POLYGON_TYPE)
    if len(outer) == 0:
        return np.empty(0, object)
    inner = outer.flatten()
    vertices = inner.flatten().flatten().to_numpy().reshape(-1, 2)
    rings = inner.offsets.to_numpy() - inner.offsets[0].as_py()
    parts = outer.offsets.to_numpy() - outer.offsets[0].as_py()
    polygon = shapely.GeometryType.POLYGON
    return np.asarray(shapely.from_ragged_array(polygon, vertices, (rings, parts)))


def _to_arrow(owners: np.ndarray, nuclei: Nuclei) -> pa.Table:
    count = nuclei.probabilities.shape[1]
    return pa.table(
        {
            "tile": pa.array(owners),
            "geometry": polygons_to_arrow(nuclei.polygons),
            "anchor": pa.FixedSizeListArray.from_arrays(pa.array(nuclei.anchors.ravel()), 2),
            "score": pa.array(nuclei.scores),
            "class": pa.array(nuclei.classes),
            "probabilities": pa.array(
                list(nuclei.probabilities) if count else [None] * len(nuclei),
                pa.list_(pa.float32()),
            ),
            "owned": pa.array(nuclei.owned),
            "measurements": _rows_to_arrow(nuclei.measurements),
        }
    )


def _rows_to_arrow(rows: np.ndarray) -> pa.ListArray:
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.ravel()))


def _from_arrow(table: pa.Table) -> Nuclei:
    size = len(table)
    probabilities = table["probabilities"].combine_chunks().flatten().to_numpy()
    measurements = table["measurements"].combine_chunks().flatten().to_numpy()
    anchors = table["anchor"].combine_chunks().flatten().to_numpy()
    return Nuclei(
        polygons=polygons_from_arrow(table["geometry"]),
        anchors=anchors.reshape(size, 2),
        scores=table["score"].to_numpy(),
        classes=table["class"].to_numpy(),
        probabilities=probabilities.reshape(size, json.loads(table.schema.metadata[b"classes"])),
        owned=table["owned"].to_numpy(),
        measurements=measurements.reshape(size, json.loads(table.schema.metadata[b"measurements"])),
    )
