"""Outlines of nuclei in square tiles of the slide, as bytes that a page reads without parsing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import shapely

from wsi_engine.errors import ResultError
from wsi_engine.results.nucleus_table import polygons_of
from wsi_engine.view.kept import Kept
from wsi_engine.view.shared_table import SharedTable

STEPS_IN_PX = 16
"""Vertices are kept in so many parts of a pixel."""

TILE_UM = 256.0
SMALLEST_TILE_PX, LARGEST_TILE_PX = 256, 1024

MOST_BYTES_KEPT = 64 << 20
"""Geometry of row groups is kept as it was read, until there is so much of it."""


class Rings(NamedTuple):
    """Outer rings of polygons: those of the k-th are ``xy[starts[k]:starts[k + 1]]``."""

    xy: npt.NDArray[np.float32]
    starts: npt.NDArray[np.int64]


def tile_side_px(mpp: float) -> int:
    """Choose the side of a tile, a power of two near to 256 µm.

    Parameters
    ----------
    mpp
        Side of a pixel in µm.
    """
    side = 2 ** round(np.log2(TILE_UM / mpp))
    return int(np.clip(side, SMALLEST_TILE_PX, LARGEST_TILE_PX))


class OutlineTiles:
    """The nuclei of a table by square tiles of the slide in which their anchors lie.

    Parameters
    ----------
    table
        The table.
    points
        Anchors, QuPath pixels, shape (n, 2).
    places
        The place of each row in the drawing order, shape (n,).
    width_px, height_px
        Size of the slide.
    side_px
        Side of a tile.

    Attributes
    ----------
    columns, rows
        Numbers of tiles across and down.
    counts
        uint32, shape (rows * columns,): nuclei in each tile, line by line.
    """

    def __init__(
        self,
        table: SharedTable,
        points: npt.NDArray[np.float64],
        places: npt.NDArray[np.uint32],
        width_px: int,
        height_px: int,
        side_px: int,
    ) -> None:
        self._table = table
        self._places = places
        self.side_px = side_px
        self.columns = -(-width_px // side_px)
        self.rows = -(-height_px // side_px)
        last = [self.columns - 1, self.rows - 1]
        column, row = np.clip(np.nan_to_num(points) // side_px, 0, last).astype(np.int64).T
        tile = row * self.columns + column
        self.counts = np.bincount(tile, minlength=self.rows * self.columns).astype(np.uint32)
        self._sorted = np.argsort(tile, kind="stable").astype(np.uint32)
        self._starts = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        self._groups = table.group_starts
        self._read = Kept(self._read_group, MOST_BYTES_KEPT, lambda group: int(group.nbytes))

    def exists(self, column: int, row: int) -> bool:
        """Tell whether there is a tile there with nuclei in it."""
        if column >= self.columns or row >= self.rows:
            return False
        return bool(self.counts[row * self.columns + column])

    def tiles(self) -> Iterator[tuple[int, int]]:
        """Yield column and row of all tiles with nuclei in them, line by line."""
        for tile in np.flatnonzero(self.counts):
            row, column = divmod(int(tile), self.columns)
            yield column, row

    def encoded(self, column: int, row: int) -> bytes:
        """Return one tile.

        Little-endian, in this order: uint32 ``n``; uint32 ``place[n]`` in the drawing order;
        uint32 ``start[n + 1]``, where the vertices of each nucleus begin; int16 ``xy[v][2]`` in
        sixteenths of a pixel from the tile's upper left corner, rings not closed.

        Raises
        ------
        ResultError
            When the outlines cannot be read.
        """
        tile = row * self.columns + column
        rows = self._sorted[self._starts[tile] : self._starts[tile + 1]].astype(np.int64)
        xy, starts = rings_of(self._geometry(rows))
        corner = np.array([column, row]) * self.side_px
        steps = np.rint((xy - corner) * STEPS_IN_PX)
        limits = np.iinfo(np.int16)
        return b"".join(
            [
                np.array([len(rows)], "<u4").tobytes(),
                self._places[rows].astype("<u4").tobytes(),
                starts.astype("<u4").tobytes(),
                np.clip(np.nan_to_num(steps), limits.min, limits.max).astype("<i2").tobytes(),
            ]
        )

    def _geometry(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """Read the geometry of some rows, which ascend."""
        groups = np.searchsorted(self._groups, rows, "right") - 1
        parts = [
            self._read[int(k)].take(rows[groups == k] - self._groups[k]) for k in np.unique(groups)
        ]
        return pa.concat_tables(parts)

    def _read_group(self, k: int) -> pa.Table:
        return self._table.group(k, ["geometry"])


def rings_of(table: pa.Table) -> Rings:
    """Return the outer rings of some rows, in QuPath pixels, without the vertex that closes them.

    Raises
    ------
    ResultError
        When they are no geometries.
    """
    try:
        polygons = polygons_of(table)
    except (shapely.errors.ShapelyError, TypeError, ValueError):
        raise ResultError("the outlines of nuclei cannot be read: run the slide again") from None
    rings = shapely.get_exterior_ring(polygons)
    xy, owners = shapely.get_coordinates(rings, return_index=True)
    counts = np.bincount(owners, minlength=len(rings))
    is_last = np.zeros(len(xy), bool)
    is_last[np.cumsum(counts)[counts > 0] - 1] = True
    sizes = np.maximum(counts - 1, 0)
    return Rings(xy[~is_last].astype(np.float32), np.concatenate([[0], np.cumsum(sizes)]))
