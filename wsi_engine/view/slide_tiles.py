"""The slide as JPEG tiles of ever halved resolution, by the engine's own readers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np
from PIL import Image

from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.protocol import RGB, Slide

TILE_PX = 512
JPEG_QUALITY = 85

MOST_PIXELS_READ = 16_000_000
"""Pixels of the slide that are held at a time; a tile of more is read in smaller pieces."""


class SlideTiles:
    """Tiles of what QuPath shows of a slide.

    Halving ``h`` has pixels of ``2 ** h`` full-resolution pixels. Tiles at the right and lower
    border end where the slide ends.

    Parameters
    ----------
    slide
        The slide, which stays open as long as tiles are asked for.

    Attributes
    ----------
    halvings
        Number of resolutions; of the coarsest, the slide is one tile.
    """

    def __init__(self, slide: Slide) -> None:
        self._slide = slide
        self._bounds = slide.info.bounds
        longer = max(self._bounds.width, self._bounds.height)
        self.halvings = 1 + max(0, math.ceil(math.log2(longer / TILE_PX)))
        self._reader = lru_cache(maxsize=None)(self._make_reader)

    def size(self, halving: int) -> tuple[int, int]:
        """Return the width and height of the slide in pixels of a resolution."""
        step = 2**halving
        return -(-self._bounds.width // step), -(-self._bounds.height // step)

    def grid(self, halving: int) -> tuple[int, int]:
        """Return how many tiles there are across and down."""
        width, height = self.size(halving)
        return -(-width // TILE_PX), -(-height // TILE_PX)

    def exists(self, halving: int, column: int, row: int) -> bool:
        """Tell whether there is such a tile."""
        if halving >= self.halvings:
            return False
        across, down = self.grid(halving)
        return column < across and row < down

    def tiles(self, finest: int) -> Iterator[tuple[int, int, int]]:
        """Yield halving, column and row of all tiles, those of the finest resolution last."""
        for halving in range(self.halvings - 1, finest - 1, -1):
            across, down = self.grid(halving)
            for row, column in product(range(down), range(across)):
                yield halving, column, row

    def finest_within(self, most_tiles: int) -> int:
        """Return the finest resolution that has no more tiles, together with all coarser ones."""
        total, finest = 0, self.halvings - 1
        for halving in range(self.halvings - 1, -1, -1):
            total += math.prod(self.grid(halving))
            if total > most_tiles:
                break
            finest = halving
        return finest

    def jpeg(self, halving: int, column: int, row: int) -> bytes:
        """Return one tile; what cannot be read is white."""
        width, height = self.size(halving)
        left, top = column * TILE_PX, row * TILE_PX
        box = ModelBox(left, top, min(TILE_PX, width - left), min(TILE_PX, height - top))
        stream = io.BytesIO()
        Image.fromarray(self._pixels(halving, box)).save(stream, "jpeg", quality=JPEG_QUALITY)
        return stream.getvalue()

    def _pixels(self, halving: int, box: ModelBox) -> RGB:
        reader = self._reader(halving)
        coarser = 2**halving / reader.level.downsample
        side = max(1, int(math.sqrt(MOST_PIXELS_READ) / coarser))
        if side >= TILE_PX:
            return reader.read(box)
        pixels = np.empty((box.height, box.width, 3), np.uint8)
        for y in range(0, box.height, side):
            for x in range(0, box.width, side):
                piece = ModelBox(box.x + x, box.y + y, side, side).within(box)
                pixels[y : y + piece.height, x : x + piece.width] = reader.read(piece)
        return pixels

    def _make_reader(self, halving: int) -> GridReader:
        bounds = self._bounds
        # In pixels, not µm: where they are not square, QuPath shows them so, too.
        grid = ModelGrid(
            2.0**halving, Mpp(1.0, 1.0), bounds.x, bounds.y, bounds.width, bounds.height
        )
        return GridReader(self._slide, grid)
