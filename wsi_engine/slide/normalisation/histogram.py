"""Histogram matching: each channel gets the distribution of the target's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from wsi_engine.slide.protocol import RGB


@dataclass(frozen=True)
class HistogramLook:
    """How often each value occurs.

    Attributes
    ----------
    counts
        By channel and value, shape (3, 256), rising sums of pixels.
    """

    counts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, pixels: RGB) -> Self:
        """Look at pixels, uint8, shape (n, 3)."""
        counts = [np.bincount(pixels[:, c], minlength=256) for c in range(3)]
        return cls(tuple(tuple(np.cumsum(count).tolist()) for count in counts))

    def towards(self, target: Self) -> ChannelTables:
        """Return what gives each value the target's value of the same quantile.

        The table is that of `skimage.exposure.match_histograms`, rounded.

        References
        ----------
        Gonzalez RC, Woods RE. Digital image processing, section 3.3.2.
        """
        tables = np.empty((3, 256), np.uint8)
        for c in range(3):
            own, other = np.array(self.counts[c]), np.array(target.counts[c])
            seen = np.flatnonzero(np.diff(other, prepend=0))
            tables[c] = np.rint(np.interp(own / own[-1], other[seen] / other[-1], seen))
        return ChannelTables(tables)


@dataclass(frozen=True)
class ChannelTables:
    """A map of colours that treats each channel by itself.

    Attributes
    ----------
    tables
        uint8, shape (3, 256).
    """

    tables: npt.NDArray[np.uint8]

    def __call__(self, image: RGB) -> RGB:
        """Map an image or a batch, uint8, shape (..., 3)."""
        return np.stack([self.tables[c][image[..., c]] for c in range(3)], axis=-1)
