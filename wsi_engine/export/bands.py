"""The nuclei of one band of the slide after the other, a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.results.nucleus_table import GeoParquetReader, polygons_of

MOST_HELD = 8
"""Row groups that wait for the next band: in a run's table few reach from one into the next."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some nuclei of a table.

    Attributes
    ----------
    polygons
        Polygons in QuPath pixels, shape (n,).
    numbers
        Their rows, ascending, shape (n,).
    """

    polygons: Polygons
    numbers: npt.NDArray[np.int64]

    def between(self, top: float, bottom: float) -> Rows:
        """Return those that reach into a band."""
        _, first, _, last = shapely.bounds(self.polygons).T
        within = (first < bottom) & (last > top)
        return Rows(self.polygons[within], self.numbers[within])


class Bands:
    """Hands out the nuclei that reach into a band of the slide.

    A run writes its nuclei tile by tile, so that a row group covers few bands. Were they in no
    order at all, every band would read every group: slow, but no larger.

    Parameters
    ----------
    table
        Table of a finished result.
    """

    def __init__(self, table: GeoParquetReader) -> None:
        self._table = table
        self._held: dict[int, Rows] = {}

    def at(self, top: float, bottom: float) -> Iterator[Rows]:
        """Yield those of one row group after the other, in the order of the table."""
        for k, (first, last) in self._reach.items():
            if first < bottom and last > top:
                yield self._rows(k).between(top, bottom)

    @cached_property
    def _reach(self) -> dict[int, tuple[float, float]]:
        """Top and bottom of each row group that holds nuclei, by its index."""
        filled = np.flatnonzero(np.diff(self._table.group_starts))
        reach = {}
        for k, group in zip(filled.tolist(), self._table.groups(["geometry"]), strict=True):
            _, top, _, bottom = shapely.total_bounds(polygons_of(group))
            reach[k] = (float(top), float(bottom))
        return reach

    def _rows(self, k: int) -> Rows:
        if k not in self._held:
            while len(self._held) >= MOST_HELD:
                del self._held[next(iter(self._held))]
            polygons = polygons_of(self._table.group(k, ["geometry"]))
            first = int(self._table.group_starts[k])
            self._held[k] = Rows(polygons, np.arange(first, first + len(polygons)))
        return self._held[k]
