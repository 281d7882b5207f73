"""Parts: the nuclei of some consecutive tiles in one Arrow file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
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


_METADATA = ("tiles", "classes", "measurements")


def write_part(path: Path, tiles: Sequence[TileNuclei]) -> tuple[int, int]:
    """Write the nuclei of some tiles atomically; return size and CRC-32 of the file."""
    content = pack_tiles(tiles)
    with atomic_path(path) as partial:
        partial.write_bytes(content)
    return len(content), zlib.crc32(content)


def pack_tiles(tiles: Sequence[TileNuclei]) -> bytes:
    """Return the nuclei of some tiles (at least one) as an Arrow file."""
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
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_part(path: Path, size: int, crc32: int) -> list[TileNuclei]:
    """Return the tiles of a part in the order in which they were written.

    Parameters
    ----------
    size, crc32
        As `write_part` returned them.

    Raises
    ------
    ValueError
        When the file is not what was written, or holds something else than nuclei.
    """
    try:
        if path.stat().st_size != size:
            raise ValueError("its size is another")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror) from None
    if zlib.crc32(content) != crc32:
        raise ValueError("its checksum is another")
    return unpack_tiles(content)


def unpack_tiles(content: bytes) -> list[TileNuclei]:
    """Return the tiles of an Arrow file in the order in which they were packed.

    Raises
    ------
    ValueError
        When it holds something else.
    """
    try:
        table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
        # What an enemy wrote has a good checksum, too: offsets must not lead astray.
        table.validate(full=True)
        facts = [json.loads((table.schema.metadata or {})[key.encode()]) for key in _METADATA]
    except (pa.ArrowException, KeyError, RecursionError) as error:
        raise ValueError(f"not nuclei of tiles: {error}") from None
    indices, classes, measurements = facts
    widths = {"probabilities": classes, "measurements": measurements}
    _require(table.schema.remove_metadata().equals(_SCHEMA))
    _require(all(type(n) is int and 0 <= n < 1 << 20 for n in widths.values()))
    _require(isinstance(indices, list) and all(type(n) is int for n in indices))
    _require(all(column.null_count == 0 for column in table.columns))
    for name, width in widths.items():
        _require(len(table[name].combine_chunks().flatten()) == len(table) * width)
    nuclei = _from_arrow(table, classes, measurements)
    _require(bool(np.isfinite(nuclei.anchors).all()))
    owners = table["tile"].to_numpy()
    _require(bool(np.isin(owners, indices).all()))
    return [(index, nuclei.take(owners == index)) for index in indices]


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("not nuclei of tiles")


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


_SCHEMA = pa.schema(
    {
        "tile": pa.int64(),
        "geometry": POLYGON_TYPE,
        "anchor": pa.list_(pa.float64(), 2),
        "score": pa.float32(),
        "class": pa.int16(),
        "probabilities": pa.list_(pa.float32()),
        "owned": pa.bool_(),
        "measurements": pa.list_(pa.float32()),
    }
)


def _to_arrow(owners: np.ndarray, nuclei: Nuclei) -> pa.Table:
    columns = [
        pa.array(owners),
        polygons_to_arrow(nuclei.polygons),
        pa.FixedSizeListArray.from_arrays(pa.array(nuclei.anchors.ravel()), 2),
        pa.array(nuclei.scores),
        pa.array(nuclei.classes),
        _rows_to_arrow(nuclei.probabilities),
        pa.array(nuclei.owned),
        _rows_to_arrow(nuclei.measurements),
    ]
    return pa.table(columns, _SCHEMA)


def _rows_to_arrow(rows: np.ndarray) -> pa.ListArray:
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(rows.ravel()))


def _from_arrow(table: pa.Table, classes: int, measurements: int) -> Nuclei:
    size = len(table)
    probabilities = table["probabilities"].combine_chunks().flatten().to_numpy()
    measured = table["measurements"].combine_chunks().flatten().to_numpy()
    anchors = table["anchor"].combine_chunks().flatten().to_numpy()
    return Nuclei(
        polygons=polygons_from_arrow(table["geometry"]),
        anchors=anchors.reshape(size, 2),
        scores=table["score"].to_numpy(),
        classes=table["class"].to_numpy(),
        probabilities=probabilities.reshape(size, classes),
        owned=table["owned"].to_numpy(),
        measurements=measured.reshape(size, measurements),
    )
