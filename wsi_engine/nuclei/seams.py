"""One nucleus, one polygon, also where tiles meet.

Most is settled by ownership: the tile whose core holds a nucleus's anchor reports it. What is
left are nuclei near core borders that two tiles saw differently. They are settled within the
window of a tile and its eight neighbours (more of them where cores are not much larger than
nuclei), by rank and never by chains of merging, so the outcome does not depend on the order
in which tiles were computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.nuclei import CLAIM_MARGIN_PX, Nuclei
from wsi_engine.schedule.tiles import Tile, TileGrid
from wsi_engine.slide.frames import ModelGrid

Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def resolve_seams(
    tiles: Iterable[tuple[Tile, Nuclei]],
    tile_grid: TileGrid,
    model_grid: ModelGrid,
    largest_object_px: int,
    max_overlap: float,
) -> Iterator[Nuclei]:
    """Settle the nuclei that neighbouring tiles both report.

    Parameters
    ----------
    tiles
        Tiles and what they report, in scan order; tiles may be missing.
    tile_grid, model_grid
        The grid of the tiles, and that of the model's pixels.
    largest_object_px
        Longest side of a nucleus, in model pixels. Nuclei further than this from the border
        of the core meet no other tile's.
    max_overlap
        Two nuclei of different tiles conflict when more than this share of the smaller lies
        in the other; containment counts.

    Yields
    ------
    Nuclei
        For each tile first those that no other tile can meet, as soon as it arrives; those
        near its seams once all neighbours are there. The order depends on the grid alone. After
        nuclei of one row of tiles none come of rows more than ``reach_in_tiles`` above it.

    Notes
    -----
    The nucleus that its own tile owns stays, of two in conflict; then that of higher score; then
    the upper, the left one. Memory holds the seams of three rows of tiles, more where
    cores are not much larger than nuclei.
    """
    inset = -(largest_object_px + 2 * CLAIM_MARGIN_PX)
    reach = reach_in_tiles(tile_grid, largest_object_px)
    waiting: dict[int, _Seam] = {}
    unsettled: list[int] = []
    for tile, nuclei in tiles:
        # Where tiles are missing, some wait for neighbours that never come.
        while unsettled and _complete(waiting[unsettled[0]].tile, tile.index - 1, reach, tile_grid):
            yield _settle(waiting[unsettled.pop(0)], reach, tile_grid, waiting)
        quiet = _inside(nuclei, model_grid, tile, inset)
        yield nuclei.take(quiet)
        seam = _Seam(tile, nuclei.take(~quiet))
        for other in _neighbours(tile, reach, tile_grid, waiting):
            seam.meet(other, max_overlap)
        waiting[tile.index] = seam
        unsettled.append(tile.index)
        while unsettled and _complete(waiting[unsettled[0]].tile, tile.index, reach, tile_grid):
            yield _settle(waiting[unsettled.pop(0)], reach, tile_grid, waiting)
        _forget(waiting, tile, reach)
    for index in unsettled:
        yield _settle(waiting[index], reach, tile_grid, waiting)


def reach_in_tiles(tile_grid: TileGrid, largest_object_px: int) -> int:
    """Return how many tiles away from a seam something can decide on it."""
    # As far as three nuclei in a row: whether the third drops the second decides on the first.
    return -(-(3 * largest_object_px + 2 * CLAIM_MARGIN_PX) // tile_grid.core)


class _Seam:
    """The nuclei near the border of one tile, and their conflicts with earlier tiles."""

    def __init__(self, tile: Tile, nuclei: Nuclei) -> None:
        self.tile = tile
        self.nuclei = nuclei
        self.conflicts: dict[int, Pairs] = {}
        self._areas = shapely.area(nuclei.polygons)
        self._tree = shapely.STRtree(nuclei.polygons)

    def meet(self, other: _Seam, max_overlap: float) -> None:
        """Find the conflicts with an earlier neighbour."""
        mine, theirs = other._tree.query(self.nuclei.polygons, predicate="intersects")
        if len(mine) == 0:
            return
        shared = shapely.area(
            shapely.intersection(self.nuclei.polygons[mine], other.nuclei.polygons[theirs])
        )
        clash = shared > max_overlap * np.minimum(self._areas[mine], other._areas[theirs])
        if clash.any():
            self.conflicts[other.tile.index] = (mine[clash], theirs[clash])

    def rank(self, k: int) -> tuple[bool, float, float, float, int]:
        """Sort key of nucleus k; the lowest wins."""
        n = self.nuclei
        return (
            not n.owned[k],
            -float(n.scores[k]),
            float(n.anchors[k, 1]),
            float(n.anchors[k, 0]),
            self.tile.index,
        )


def _inside(nuclei: Nuclei, grid: ModelGrid, tile: Tile, inset: int) -> npt.NDArray[np.bool_]:
    inner = grid.box_to_qupath(tile.core.padded(inset))
    left, top, right, bottom = shapely.bounds(nuclei.polygons).T
    return np.asarray(
        (left > inner.x_min) & (top > inner.y_min) & (right < inner.x_max) & (bottom < inner.y_max)
    )


def _neighbours(
    tile: Tile, reach: int, grid: TileGrid, waiting: dict[int, _Seam]
) -> Iterator[_Seam]:
    first, stop = max(tile.column - reach, 0), min(tile.column + reach + 1, grid.columns)
    for row in range(tile.row - reach, tile.row + reach + 1):
        for column in range(first, stop):
            seam = waiting.get(row * grid.columns + column)
            if seam is not None and seam.tile.index != tile.index:
                yield seam


def _complete(tile: Tile, latest: int, reach: int, grid: TileGrid) -> bool:
    """Whether no neighbour of a tile can still arrive after the tile of the latest index."""
    last_column = min(tile.column + reach, grid.columns - 1)
    return latest >= (tile.row + reach) * grid.columns + last_column


def _forget(waiting: dict[int, _Seam], latest: Tile, reach: int) -> None:
    # A settled tile is still a neighbour until the rows below it are settled, too.
    for index in [i for i, seam in waiting.items() if seam.tile.row < latest.row - 2 * reach]:
        del waiting[index]


def _settle(seam: _Seam, reach: int, grid: TileGrid, waiting: dict[int, _Seam]) -> Nuclei:
    """Give each nucleus in conflict its place by rank, within the window of its neighbours."""
    window = {seam.tile.index: seam}
    window |= {other.tile.index: other for other in _neighbours(seam.tile, reach, grid, waiting)}
    rivals: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for index, member in window.items():
        for other_index, (mine, theirs) in member.conflicts.items():
            if other_index in window:
                for i, j in zip(mine.tolist(), theirs.tolist(), strict=True):
                    rivals.setdefault((index, i), []).append((other_index, j))
                    rivals.setdefault((other_index, j), []).append((index, i))
    kept: set[tuple[int, int]] = set()
    dropped = np.zeros(len(seam.nuclei), bool)
    for nucleus in sorted(rivals, key=lambda n: window[n[0]].rank(n[1])):
        if kept.isdisjoint(rivals[nucleus]):
            kept.add(nucleus)
        elif nucleus[0] == seam.tile.index:
            dropped[nucleus[1]] = True
    return seam.nuclei.take(~dropped)
