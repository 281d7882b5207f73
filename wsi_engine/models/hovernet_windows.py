"""Tiles of any size through a HoVer-Net, window by window.

Its encoder pads with zeros, which spoil the answer along the border of what it is shown. So windows
overlap, and of each the part counts that no zero has reached: maps are the same whatever the tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wsi_engine.models.hovernet_network import CROP_PX
from wsi_engine.models.hovernet_spec import STRIDE, Geometry

BYTES_PER_PX = 2800
"""What the network takes in memory for each pixel of a window, in fp32 by OpenVINO; a quarter more
by torch."""


class Network(Protocol):
    """A HoVer-Net on some device."""

    def __call__(
        self, batch: npt.NDArray[np.uint8], crop: int, *, types: bool = True
    ) -> npt.NDArray[np.float32]:
        """Predict from pixels, (n, h, w, 3), what the geometry adds to them included.

        Parameters
        ----------
        crop
            How much less of their border to compute than could be, a multiple of 8.
        types
            Whether the type is wanted, where the network knows types.
        """
        ...


def largest_window(memory: int, geometry: Geometry) -> int:
    """Return the side of the largest window that is computed in so many bytes of memory."""
    fitting = int((memory / BYTES_PER_PX) ** 0.5) // STRIDE * STRIDE
    return max(fitting, 2 * geometry.margin + 8 * STRIDE)


def in_windows(
    network: Network,
    image: npt.NDArray[np.uint8],
    maps: npt.NDArray[np.float32],
    geometry: Geometry,
    largest: int,
) -> None:
    """Compute the maps of an image, but for its margin.

    Parameters
    ----------
    image
        Shape (height, width, 3), sides multiples of the stride and larger than two margins.
    maps
        Takes them, shape (height, width, 3 or 4).
    largest
        Longest side of a window.
    """
    added, margin = geometry.added, geometry.margin
    trim = margin - geometry.lost - CROP_PX
    around = ((added, added), (added, added), (0, 0))
    padded = np.pad(image, around, mode="reflect")
    for y, height in _windows(image.shape[0], margin, largest):
        for x, width in _windows(image.shape[1], margin, largest):
            window = padded[y : y + height + 2 * added, x : x + width + 2 * added]
            (found,) = network(window[None], CROP_PX)
            inner = found[trim : len(found) - trim, trim : found.shape[1] - trim]
            maps[y + margin : y + height - margin, x + margin : x + width - margin] = inner


def _windows(side: int, margin: int, largest: int) -> Iterator[tuple[int, int]]:
    """Yield where each window begins along a side, and how long it is: all the same."""
    wanted = side - 2 * margin
    count = -(-wanted // (largest - 2 * margin))
    step = -(-wanted // (count * STRIDE)) * STRIDE
    for k in range(count):
        yield min(k * step, wanted - step), step + 2 * margin
