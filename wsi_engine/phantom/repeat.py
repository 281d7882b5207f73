"""A phantom of any size in bounded memory: one block, repeated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsi_engine.phantom.outlines import FloatArray, PhantomNuclei
from wsi_engine.slide.protocol import RGB


@dataclass(frozen=True, slots=True)
class RepeatedBlock:
    """A block of tissue laid side by side, drawn row by row (a source for `write_pyramid`).

    Attributes
    ----------
    block
        Shape (height, width, 3), uint8, as drawn by `render_tissue`.
    nuclei
        The truth of the block; none should reach over its edges.
    down, across
        Number of repetitions in each direction.

    Examples
    --------
    >>> from wsi_engine.phantom import make_nuclei, render_tissue
    >>> rng = np.random.default_rng(0)
    >>> nuclei = make_nuclei([(64, 64)], mpp=0.25, rng=rng)
    >>> block = render_tissue((128, 128), nuclei, mpp=0.25, rng=rng)
    >>> phantom = RepeatedBlock(block, nuclei, down=300, across=300)
    >>> phantom.width, phantom.rows(38_000, 38_010).shape
    (38400, (10, 38400, 3))
    """

    block: RGB
    nuclei: PhantomNuclei
    down: int
    across: int

    @property
    def height(self) -> int:
        """Number of rows of the whole image."""
        return self.down * int(self.block.shape[0])

    @property
    def width(self) -> int:
        """Number of columns of the whole image."""
        return self.across * int(self.block.shape[1])

    def rows(self, start: int, stop: int) -> RGB:
        """Return rows ``start`` to ``stop - 1``, shape (stop - start, width, 3), uint8."""
        band = self.block[np.arange(start, stop) % self.block.shape[0]]
        return np.tile(band, (1, self.across, 1))

    def outlines(self, row: int, column: int) -> FloatArray:
        """Return the outlines, shape (n, 48, 2), of one repetition in pixels of the image."""
        height, width = self.block.shape[:2]
        moved: FloatArray = self.nuclei.outlines() + np.array([column * width, row * height])
        return moved
