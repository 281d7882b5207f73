"""Nuclei that are known beforehand, sorted into tiles, and measured there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.measure.measurer import Measurer
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.slide.frames import ModelBox, ModelGrid
from wsi_engine.slide.grid_reader import GridReader

LARGEST_UM = 100.0
"""Largest side of a nucleus: the pixels of what is larger are not measured, to bound a tile."""

Rows = npt.NDArray[np.int64]
"""Positions of nuclei."""


@dataclass(frozen=True)
class PlacedNuclei:
    """The nuclei of a slide, sorted into tiles by their centroids.

    Attributes
    ----------
    polygons
        Valid, in QuPath pixels, shape (n,).
    core
        Side of a tile in pixels of the reader's grid.
    """

    polygons: Polygons
    reader: GridReader
    measurer: Measurer
    core: int

    @property
    def grid(self) -> ModelGrid:
        """Grid of the pixels that are measured."""
        return self.reader.grid

    @cached_property
    def anchors(self) -> npt.NDArray[np.float64]:
        """Centroids in QuPath pixels, shape (n, 2)."""
        return np.round(shapely.get_coordinates(shapely.centroid(self.polygons)), 2)

    @cached_property
    def bounds(self) -> npt.NDArray[np.float64]:
        """Left, top, right, bottom in pixels of the grid, shape (n, 4)."""
        corners = shapely.bounds(self.polygons).reshape(-1, 2, 2)
        return self.grid.from_qupath(corners).reshape(-1, 4)

    @cached_property
    def fitting(self) -> npt.NDArray[np.bool_]:
        """Mask of the nuclei that are small enough for their pixels to be measured."""
        return np.asarray(
            ((self.bounds[:, 2:] - self.bounds[:, :2]) * self.grid.mpp <= LARGEST_UM).all(axis=1)
        )

    @cached_property
    def outside(self) -> npt.NDArray[np.bool_]:
        """Mask of the nuclei that do not touch the slide."""
        extent = self.grid.extent
        return np.asarray(
            (self.bounds[:, 2:] <= 0).any(axis=1)
            | (self.bounds[:, :2] >= [extent.width, extent.height]).any(axis=1)
        )

    @cached_property
    def tiles(self) -> list[Rows]:
        """Nuclei of each tile that has some, in scan order."""
        if len(self.polygons) == 0:
            return []
        extent = self.grid.extent
        last = np.array([extent.width - 1, extent.height - 1]) // self.core
        column, row = np.clip(self.grid.from_qupath(self.anchors) // self.core, 0, last).T
        index = row * (last[0] + 1) + column
        order = np.argsort(index, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(index[order])) + 1)

    def measured(self, workers: int) -> Iterator[tuple[Rows, npt.NDArray[np.float32]]]:
        """Measure the tiles by several threads, in scan order, with few of them under way."""
        under_way: deque[tuple[Rows, Future[npt.NDArray[np.float32]]]] = deque()
        supply = iter(self.tiles)
        _ = self._tree  # built before the threads ask for it
        with ThreadPoolExecutor(workers, "measure") as threads:
            while True:
                for rows in islice(supply, 2 * workers - len(under_way)):
                    under_way.append((rows, threads.submit(self._measure_tile, rows)))
                if not under_way:
                    return
                rows, future = under_way.popleft()
                yield rows, future.result()

    def columns(
        self,
        own: Rows,
        classes: npt.NDArray[np.int16],
        values: npt.NDArray[np.float32],
    ) -> Nuclei:
        """Put the nuclei of a tile into columns; a score they have none."""
        return Nuclei(
            polygons=self.polygons[own],
            anchors=self.anchors[own],
            scores=np.full(len(own), np.nan, np.float32),
            classes=classes[own],
            probabilities=np.empty((len(own), 0), np.float32),
            owned=np.ones(len(own), np.bool_),
            measurements=values,
        )

    @cached_property
    def _tree(self) -> shapely.STRtree:
        """Tree of the boxes in pixels of the grid; empty boxes for those that do not fit."""
        boxes = shapely.box(*self.bounds.T)
        boxes[~self.fitting] = shapely.Polygon()
        return shapely.STRtree(boxes)

    def _measure_tile(self, own: Rows) -> npt.NDArray[np.float32]:
        """Measure the nuclei of a tile; those that do not fit by their shape alone."""
        values = np.empty((len(own), len(self.measurer.columns)), np.float32)
        fits = self.fitting[own]
        values[~fits] = self._measure(own[~fits], own[~fits], ModelBox(0, 0, 0, 0))
        if fits.any():
            window = self.measurer.window(self.polygons[own[fits]], self.grid)
            box = shapely.box(window.x, window.y, window.x_stop, window.y_stop)
            seen = np.union1d(own[fits], self._tree.query(box))
            values[fits] = self._measure(own[fits], seen, window)
        return values

    def _measure(self, own: Rows, seen: Rows, window: ModelBox) -> npt.NDArray[np.float32]:
        empty = window.width == 0 or window.height == 0
        rgb = np.empty((0, 0, 3), np.uint8) if empty else self.reader.read(window)
        wanted = np.isin(seen, own)
        return self.measurer.measure(self.polygons[seen], wanted, rgb, window, self.grid)
