"""The nuclei of one band of the slide after the other, without holding all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.export.geoparquet import GeoParquetReader, polygons_of
from wsi_engine.nuclei.polygons import Polygons


@dataclass(frozen=True, eq=False)
class Rows:
    """Some nuclei of a table.

    Attributes
    ----------
    polygons
        In QuPath pixels, shape (n,).
    boxes
        Left, top, right, bottom, shape (n, 4).
    numbers
        Their rows, ascending, shape (n,).
    """

    polygons: Polygons
    boxes: npt.NDArray[np.float64]
    numbers: npt.NDArray[np.int64]

    def between(self, axis: int, start: float, stop: float) -> Rows:
        """Return those that reach into an interval of x (axis 0) or y (axis 1)."""
        within = (self.boxes[:, axis] < stop) & (self.boxes[:, axis + 2] > start)
        return Rows(self.polygons[within], self.boxes[within], self.numbers[within])

    @staticmethod
    def joined(parts: list[Rows]) -> Rows:
        """Join parts (or none) in their order."""
        nothing = Rows(np.empty(0, object), np.empty((0, 4)), np.empty(0, np.int64))
        parts = [nothing, *parts]
        return Rows(
            np.concatenate([part.polygons for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.numbers for part in parts]),
        )


class Bands:
    """Goes down a slide and holds those row groups that reach into the band it is at.

    A run writes its nuclei tile by tile, so that a row group covers few of the bands. Were they
    in no order at all, every group would be held: right, too, but not small.

    Parameters
    ----------
    table
        Read once from top to bottom for each descent, and once before the first.
    """

    def __init__(self, table: GeoParquetReader) -> None:
        self._table = table
        self._held: dict[int, Rows] = {}

    @cached_property
    def _reach(self) -> dict[int, tuple[float, float]]:
        """Top and bottom of each row group that holds nuclei, by its index."""
        filled = np.flatnonzero(np.diff(self._table.group_starts))
        reach = {}
        for k, group in zip(filled.tolist(), self._table.groups(["geometry"]), strict=True):
            _, top, _, bottom = shapely.total_bounds(polygons_of(group))
            reach[k] = (float(top), float(bottom))
        return reach

    def at(self, top: float, bottom: float) -> Rows:
        """Return the nuclei that reach into a band, by row."""
        wanted = [k for k, (first, last) in self._reach.items() if first < bottom and last > top]
        self._held = {k: self._held[k] if k in self._held else self._read(k) for k in wanted}
        return Rows.joined([rows.between(1, top, bottom) for rows in self._held.values()])

    def _read(self, k: int) -> Rows:
        polygons = polygons_of(self._table.group(k, ["geometry"]))
        first = int(self._table.group_starts[k])
        numbers = np.arange(first, first + len(polygons))
        return Rows(polygons, shapely.bounds(polygons), numbers)
