"""The tile grid: cores that partition the slide, halos that overlap, one owner per point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely

from wsi_engine.slide.frames import ModelBox


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile.

    Attributes
    ----------
    index
        Position in the scan of the full grid; does not depend on which tiles are skipped.
    core
        What the tile owns. Cores partition the grid.
    window
        What is read for it: the core and the halo, always of the same size; may reach
        beyond the slide.
    """

    index: int
    row: int
    column: int
    core: ModelBox
    window: ModelBox


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles over an extent of model-grid pixels.

    Parameters
    ----------
    extent
        The slide; starts at (0, 0).
    core
        Side of a tile's core, a multiple of ``stride``.
    halo
        Context around it, a multiple of ``stride``. It must reach as far as anything that
        changes the prediction of a nucleus anchored in the core: the receptive radius plus
        the largest object.
    stride
        Total stride of the network. Windows start at multiples of it, so that the pooling
        grids of neighbouring tiles agree.
    context
        How far beyond the slide its mirror image is of use, a multiple of ``stride``: the only
        tile of a slide is read no further. If not given, it is read like all others.

    Raises
    ------
    ValueError
        When core or halo is not a multiple of the stride.
    """

    extent: ModelBox
    core: int
    halo: int
    stride: int = 1
    context: int | None = None

    def __post_init__(self) -> None:
        if self.core <= 0 or self.core % self.stride or self.halo < 0 or self.halo % self.stride:
            raise ValueError(
                f"core {self.core} and halo {self.halo} must be multiples of {self.stride}"
            )

    @property
    def columns(self) -> int:
        """Number of tiles in a row."""
        return -(-self.extent.width // self.core)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return -(-self.extent.height // self.core)

    @property
    def window_side(self) -> int:
        """Side of what is read for a tile, in pixels."""
        if (beyond := self._beyond) is None:
            return self.core + 2 * self.halo
        longest = max(self.extent.width, self.extent.height)
        return -(-longest // self.stride) * self.stride + 2 * beyond

    @property
    def _beyond(self) -> int | None:
        """How far the window of a slide's only tile reaches beyond it, where that is known."""
        if self.context is None or len(self) > 1:
            return None
        return min(self.halo, self.context)

    def __len__(self) -> int:
        return self.rows * self.columns

    def tile(self, row: int, column: int) -> Tile:
        """Return the tile at a row and column."""
        core = ModelBox(column * self.core, row * self.core, self.core, self.core)
        window = core.padded(self.halo)
        if (beyond := self._beyond) is not None:
            window = ModelBox(-beyond, -beyond, self.window_side, self.window_side)
        return Tile(row * self.columns + column, row, column, core, window)

    def tiles(self, area: shapely.Geometry | None = None) -> Iterator[Tile]:
        """Iterate over the tiles in scan order, row by row as the file stores them.

        Parameters
        ----------
        area
            Area in model pixels. Tiles whose core does not touch it are left out.
        """
        if area is not None:
            shapely.prepare(area)
        lefts = np.arange(self.columns) * self.core
        for row in range(self.rows):
            top = row * self.core
            if area is None:
                wanted = np.ones(self.columns, bool)
            else:
                cores = shapely.box(lefts, top, lefts + self.core, top + self.core)
                wanted = shapely.intersects(area, cores)
            for column in np.flatnonzero(wanted):
                yield self.tile(row, int(column))
