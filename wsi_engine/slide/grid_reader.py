"""Reading any box of the model grid from the pyramid level that fits."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ResolutionError
from wsi_engine.slide.blocks import assemble
from wsi_engine.slide.frames import LevelBox, ModelBox, ModelGrid, QuPathBox
from wsi_engine.slide.protocol import RGB, Level, Slide, SlideInfo, UnreadableRegionError
from wsi_engine.slide.resampling import AxisWeights, area_weights, mean_of_boxes, resample

LARGEST_ENLARGEMENT = 1.02
"""A level may be this much coarser than the model grid before the next finer one is read."""

SALVAGE_BLOCK_PX = 256
"""Around damage a region is read in blocks, and only the damaged ones are lost: the file's own
tiles, or squares of this side where it has none."""

LARGEST_FINER_SIDE_PX = 1024
"""So much of a finer level is read at a time where it stands in for a damaged coarser one."""

MIRROR_BAND_PX = 512
"""How deep the mirror image beyond the slide's border goes, in pixels of the model grid; more
than any halo."""


def make_grid(info: SlideInfo, mpp: float) -> ModelGrid:
    """Lay the grid of pixels of ``mpp`` µm over what QuPath shows of a slide.

    Raises
    ------
    ResolutionError
        When the slide's pixel size is unknown.
    """
    if info.mpp is None:
        raise ResolutionError(f"{info.path.name}: the pixel size is unknown ({info.mpp_source})")
    bounds = info.bounds
    return ModelGrid(mpp, info.mpp, bounds.x, bounds.y, bounds.width, bounds.height)


def best_level(levels: tuple[Level, ...], scale: float) -> Level:
    """Choose the coarsest level that still has the grid's detail.

    Parameters
    ----------
    levels
        Levels of the slide, finest first.
    scale
        Full-resolution pixels per grid pixel.
    """
    fitting = [level for level in levels if level.downsample <= scale * LARGEST_ENLARGEMENT]
    return max(fitting, key=lambda level: level.downsample, default=levels[0])


def best_exact_level(levels: tuple[Level, ...], grid: ModelGrid) -> Level:
    """Choose the coarsest level whose own pixels make those of a grid of whole pixels."""

    def divides(level: Level) -> bool:
        counts = (*(grid.slide_pixels or ()), grid.origin_x, grid.origin_y)
        return level.is_exact and all(count % level.downsample == 0 for count in counts)

    return max(filter(divides, levels), key=lambda level: level.downsample, default=levels[0])


def mirrored(start: int, count: int, size: int) -> npt.NDArray[np.int64]:
    """Say which pixel of a slide stands at each of ``count`` places from ``start`` on.

    A network that meets white, or any edge, takes it for tissue of some kind; a mirror image
    has no edge. It goes `MIRROR_BAND_PX` deep and back again, so that a window that reaches
    far beyond the slide reads little more than the part that is on it.

    Parameters
    ----------
    size
        Pixels of the slide along this axis.

    Examples
    --------
    >>> mirrored(-2, 8, 4)
    array([1, 0, 0, 1, 2, 3, 3, 2])
    """
    place = np.arange(start, start + count)
    band = min(MIRROR_BAND_PX, size)
    turn = np.maximum(-1 - place, place - size) % (2 * band)
    depth = np.minimum(turn, 2 * band - 1 - turn)
    return np.where(place < 0, depth, np.where(place < size, place, size - 1 - depth))


class GridReader:
    """Reads boxes of one model grid; safe to use from many threads.

    A grid pixel has the same value whichever box it is read with.

    Attributes
    ----------
    grid, level
        The grid, and the level of the pyramid that it is read from.
    """

    def __init__(self, slide: Slide, grid: ModelGrid) -> None:
        self._slide = slide
        self.grid = grid
        levels = slide.info.levels
        if grid.slide_pixels is None:
            self.level = best_level(levels, min(grid.scale_x, grid.scale_y))
        else:
            self.level = best_exact_level(levels, grid)
        self._unreadable: set[LevelBox] = set()
        self._lock = threading.Lock()

    def read(self, box: ModelBox) -> RGB:
        """Read a box, shape (box.height, box.width, 3); beyond the slide it is mirrored.

        Damage never raises: what cannot be read, on this level or a finer one, is white and is
        listed in ``unreadable``.
        """
        columns = mirrored(box.x, box.width, self.grid.whole.width)
        rows = mirrored(box.y, box.height, self.grid.whole.height)
        left, top = int(columns.min()), int(rows.min())
        inside = ModelBox(left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top)
        pixels = self._read_inside(inside)
        if inside == box:
            return pixels
        return np.ascontiguousarray(pixels[np.ix_(rows - top, columns - left)])

    def _read_inside(self, box: ModelBox) -> RGB:
        if self.grid.slide_pixels is not None:
            return self._read_whole_pixels(box, *self.grid.slide_pixels)
        x = self._weights(box.x, box.width, self.grid.scale_x, self.grid.origin_x)
        y = self._weights(box.y, box.height, self.grid.scale_y, self.grid.origin_y)
        needed = LevelBox(x.start, y.start, x.stop - x.start, y.stop - y.start)
        return resample(self._read_level(needed), x, y)

    def _read_whole_pixels(self, box: ModelBox, across: int, down: int) -> RGB:
        downsample = int(self.level.downsample)
        across, down = across // downsample, down // downsample
        left, top = self.grid.origin_x // downsample, self.grid.origin_y // downsample
        needed = LevelBox(
            left + box.x * across, top + box.y * down, box.width * across, box.height * down
        )
        return mean_of_boxes(self._read_level(needed), across, down)

    def _read_level(self, needed: LevelBox) -> RGB:
        try:
            return self._slide.read(self.level.index, needed)
        except UnreadableRegionError:
            return self._salvage(needed)

    @property
    def lost(self) -> frozenset[LevelBox]:
        """What could not be read so far, in pixels of the level."""
        with self._lock:
            return frozenset(self._unreadable)

    def add_unreadable(self, boxes: Iterable[QuPathBox]) -> None:
        """Count as unreadable what a reader of another grid of the same slide could not read."""
        grid, scale = self.grid, self.level.downsample
        self.add_lost(
            LevelBox(left, top, right - left, bottom - top)
            for left, top, right, bottom in (
                (
                    math.floor((box.x_min + grid.origin_x) / scale),
                    math.floor((box.y_min + grid.origin_y) / scale),
                    math.ceil((box.x_max + grid.origin_x) / scale),
                    math.ceil((box.y_max + grid.origin_y) / scale),
                )
                for box in boxes
            )
        )

    def add_lost_of(self, other: GridReader) -> None:
        """Count as unreadable what another reader of the same slide could not read."""
        if other.level == self.level:
            self.add_lost(other.lost)
        elif other.lost:
            self.add_unreadable(other.unreadable)

    def add_lost(self, boxes: Iterable[LevelBox]) -> None:
        """Count boxes as unreadable, in pixels of the level."""
        with self._lock:
            self._unreadable.update(boxes)

    @property
    def unreadable(self) -> list[QuPathBox]:
        """What could not be read so far, in QuPath pixels, top left first."""
        grid, scale = self.grid, self.level.downsample
        boxes = sorted(self.lost, key=lambda box: (box.y, box.x))
        return [
            QuPathBox(
                box.x * scale - grid.origin_x,
                box.y * scale - grid.origin_y,
                (box.x + box.width) * scale - grid.origin_x,
                (box.y + box.height) * scale - grid.origin_y,
            )
            for box in boxes
        ]

    def _weights(self, start: int, count: int, scale: float, origin: int) -> AxisWeights:
        downsample = self.level.downsample
        return area_weights(start, count, scale / downsample, origin / downsample)

    def _salvage(self, needed: LevelBox) -> RGB:
        """Read a box by blocks, finer levels standing in for what is damaged.

        Blocks are tiles of the file: a read fails exactly if it touches a damaged one, so that what
        is white does not depend on the boxes that were asked for.
        """
        level = self.level
        width, height = _block_size(level)

        def read_block(block: LevelBox) -> RGB:
            pixels, lost = self._read_with_finer_levels(level, block)
            with self._lock:
                self._unreadable.update(lost)
            return pixels

        return assemble(needed, width, height, read_block)

    def _read_with_finer_levels(self, level: Level, block: LevelBox) -> tuple[RGB, list[LevelBox]]:
        """Read a block of a level; return its pixels, and the boxes in them that stay white."""
        try:
            return self._slide.read(level.index, block), []
        except UnreadableRegionError:
            finer = [one for one in self._slide.info.levels if one.downsample < level.downsample]
        if not finer:
            return np.full((block.height, block.width, 3), 255, np.uint8), [block]
        source = max(finer, key=lambda one: one.downsample)
        ratio = level.downsample / source.downsample
        image, lost = np.empty((block.height, block.width, 3), np.uint8), []
        # In squares that hold little of the finer level at a time.
        side = max(1, int(LARGEST_FINER_SIDE_PX / ratio))
        for y in range(0, block.height, side):
            for x in range(0, block.width, side):
                part = LevelBox(
                    block.x + x,
                    block.y + y,
                    min(side, block.width - x),
                    min(side, block.height - y),
                )
                pixels, unread = self._from_finer_level(source, ratio, part)
                image[y : y + part.height, x : x + part.width] = pixels
                lost += unread
        return image, lost

    def _from_finer_level(
        self, source: Level, ratio: float, part: LevelBox
    ) -> tuple[RGB, list[LevelBox]]:
        x = area_weights(part.x, part.width, ratio)
        y = area_weights(part.y, part.height, ratio)
        needed = LevelBox(x.start, y.start, x.stop - x.start, y.stop - y.start)
        lost: list[LevelBox] = []

        def read_block(block: LevelBox) -> RGB:
            pixels, unread = self._read_with_finer_levels(source, block)
            lost.extend(unread)
            return pixels

        pixels = resample(assemble(needed, *_block_size(source), read_block), x, y)
        return pixels, [box for box in (_coarser(one, ratio, part) for one in lost) if box]


def _block_size(level: Level) -> tuple[int, int]:
    return level.tile_width or SALVAGE_BLOCK_PX, level.tile_height or SALVAGE_BLOCK_PX


def _coarser(box: LevelBox, ratio: float, within: LevelBox) -> LevelBox | None:
    """Return the pixels of a coarser level that a box touches, as far as they lie in another."""
    left, top = max(math.floor(box.x / ratio), within.x), max(math.floor(box.y / ratio), within.y)
    right = min(math.ceil((box.x + box.width) / ratio), within.x + within.width)
    bottom = min(math.ceil((box.y + box.height) / ratio), within.y + within.height)
    if right <= left or bottom <= top:
        return None
    return LevelBox(left, top, right - left, bottom - top)
