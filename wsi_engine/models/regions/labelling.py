"""A model of regions over a whole slide, block by block, and the regions that come of it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage

from wsi_engine.models.regions.outlines import NO_CLASS, Outlines
from wsi_engine.models.regions.protocol import RegionsModel
from wsi_engine.nuclei.raster import draw_polygons
from wsi_engine.slide.frames import ModelBox

CORE_PX = 512
"""Side of a block; a multiple of every stride."""

MOST_BLOCKS_AT_A_TIME = 4
"""Each takes some 200 MB, and several threads of its own."""

SMOOTHING_REACH = 3.0
"""Standard deviations at which the smoothing of probabilities is cut off."""


@dataclass(frozen=True)
class Tidying:
    """What is done to probabilities and regions.

    Attributes
    ----------
    smoothing_um
        Standard deviation of the Gaussian that probabilities are smoothed with.
    min_area_um2, min_hole_um2
        Smaller regions are dropped, smaller holes filled.
    """

    smoothing_um: float
    min_area_um2: float
    min_hole_um2: float


@dataclass(frozen=True)
class Labelling:
    """Gives pixels of a slide their most probable class.

    Attributes
    ----------
    model
        The model of regions.
    read
        Reads a box of the slide at the model's mpp, mirrored beyond its border.
    area
        Where regions are looked for, in pixels of the model.
    extent
        The slide.
    tidying
        What is done to probabilities and regions.
    core_px
        Side of a block. Regions do not depend on it.
    """

    model: RegionsModel
    read: Callable[[ModelBox], npt.NDArray[np.uint8]]
    area: shapely.Geometry
    extent: ModelBox
    tidying: Tidying
    core_px: int = CORE_PX

    def regions(self, threads: int) -> Iterator[tuple[str, shapely.Polygon]]:
        """Yield the regions, class by class, each from top to bottom.

        Parameters
        ----------
        threads
            How many blocks are computed at a time, at most.

        Yields
        ------
        class_name, polygon
            The polygon in pixels of the model, corners.
        """
        spec, tidying = self.model.spec, self.tidying
        wanted = [spec.classes.index(name) for name in spec.regions]
        outlines = Outlines(wanted)
        for block, labels in self._labelled(threads):
            outlines.add(labels, block.x - 1, block.y - 1)
        for k in wanted:
            for polygon in outlines.polygons(
                k, spec.mpp, tidying.min_area_um2, tidying.min_hole_um2
            ):
                yield spec.classes[k], polygon

    def _labelled(self, threads: int) -> Iterator[tuple[ModelBox, npt.NDArray[np.int16]]]:
        """Yield blocks with their labels in order; few are in memory at a time."""
        under_way: deque[tuple[ModelBox, Future[npt.NDArray[np.int16]]]] = deque()
        supply, threads = self._blocks(), min(threads, MOST_BLOCKS_AT_A_TIME)
        with ThreadPoolExecutor(threads, "regions") as pool:
            while True:
                for block in islice(supply, 2 * threads - len(under_way)):
                    under_way.append((block, pool.submit(self._labels, block)))
                if not under_way:
                    return
                block, labels = under_way.popleft()
                yield block, labels.result()

    def _blocks(self) -> Iterator[ModelBox]:
        """Yield those blocks that may have a border: the area touches them or the pixel before.

        They reach one pixel beyond the slide, where the last borders are.
        """
        shapely.prepare(self.area)
        side = self.core_px
        for y in range(0, self.extent.height + 1, side):
            for x in range(0, self.extent.width + 1, side):
                box = shapely.box(x - 1, y - 1, x + side, y + side)
                if shapely.intersects(self.area, box):
                    yield ModelBox(x, y, side, side)

    def _labels(self, block: ModelBox) -> npt.NDArray[np.int16]:
        """Return the classes in a block and of the pixels one before it.

        Returns
        -------
        ndarray
            int16, shape (1 + height, 1 + width).
        """
        spec = self.model.spec
        sigma = self.tidying.smoothing_um / spec.mpp
        reach = math.ceil(SMOOTHING_REACH * sigma) + 1
        around = -(-reach // spec.stride) * spec.stride
        window = self.read(block.padded(around + spec.margin_px))
        likely = self.model.probabilities(window)
        if sigma > 0:
            likely = ndimage.gaussian_filter(likely, sigma, axes=(0, 1), truncate=SMOOTHING_REACH)
        first = around - 1
        rows = slice(first, first + block.height + 1)
        columns = slice(first, first + block.width + 1)
        labels = likely[rows, columns].argmax(axis=2).astype(np.int16)
        inside = np.zeros(labels.shape, np.uint8)
        moved = shapely.transform(self.area, lambda xy: xy - (block.x - 1, block.y - 1))
        draw_polygons([moved], [1], inside)
        labels[inside == 0] = NO_CLASS
        return labels
