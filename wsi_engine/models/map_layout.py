"""How a model lays out its maps, found out by asking it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ModelError
from wsi_engine.models.protocol import Model


@dataclass(frozen=True, slots=True)
class MapLayout:
    """What the maps of a model are like, whatever the batch.

    Attributes
    ----------
    step
        Model pixels per point.
    shape
        What a point holds.
    dtype
        What one value is.
    """

    step: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def bytes(self) -> int:
        """Bytes per point."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=int))

    def pack(self, maps: npt.NDArray[np.generic], step: int) -> npt.NDArray[np.uint8]:
        """Return maps as bytes, shape (n, h, w, bytes), on a grid whose step is a multiple.

        Raises
        ------
        ModelError
            When they hold NaN or infinity, which nobody would see in bytes.
        """
        if maps.dtype.kind == "f" and not np.isfinite(maps.sum(dtype=np.float32)):
            raise ModelError(
                "a network computed NaN or infinity: its weights are damaged, or do not suit this "
                "device; try --device cpu"
            )
        count, height, width = maps.shape[:3]
        times = step // self.step
        raw = np.ascontiguousarray(maps).reshape(-1).view(np.uint8)
        cells = raw.reshape(count, height // times, times, width // times, times, self.bytes)
        cells = np.ascontiguousarray(cells.swapaxes(2, 3))
        return cells.reshape(*cells.shape[:3], times * times * self.bytes)

    def unpack(self, packed: npt.NDArray[np.uint8], step: int) -> npt.NDArray[np.generic]:
        """Return the maps of one tile, shape (height, width, ...), from their bytes."""
        times = step // self.step
        height, width = packed.shape[:2]
        cells = packed.reshape(height, width, times, times, self.bytes).swapaxes(1, 2)
        raw = np.ascontiguousarray(cells).reshape(height * times, width * times, self.bytes)
        maps = raw.view(self.dtype)
        return maps.reshape(height * times, width * times, *self.shape)


def layout_of(model: Model) -> MapLayout:
    """Run a model on one small blank tile, and see what it returns."""
    spec = model.spec
    side = -(-(2 * spec.receptive_radius_px + 2 * spec.stride) // spec.stride) * spec.stride
    maps = model.maps(np.full((1, side, side, 3), 255, np.uint8))
    return MapLayout(side // maps.shape[1], maps.shape[3:], maps.dtype)
