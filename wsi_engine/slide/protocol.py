"""What the engine asks of a slide, whatever library reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from wsi_engine.slide.frames import Level0Box, LevelBox, Mpp

RGB = npt.NDArray[np.uint8]
"""An image of shape (height, width, 3), dtype uint8, sRGB."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the pyramid.

    Attributes
    ----------
    downsample
        Full-resolution pixels per pixel of this level, a real number.
    tile_width, tile_height
        The blocks, aligned to the level's origin, that can only be read, or be lost to damage,
        as a whole; ``None`` where there are none.
    is_exact
        Whether its pixels are read as they are in the file, none laid between two others.
    """

    index: int
    width: int
    height: int
    downsample: float
    tile_width: int | None = None
    tile_height: int | None = None
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """Everything known of a slide without reading its pixels.

    Attributes
    ----------
    path
        File, or folder of a format that is one.
    vendor
        Who made the scanner or the format, as the reader calls it.
    levels
        Levels of the pyramid, finest first.
    bounds
        The part of level 0 that QuPath shows; the whole of it where the file has no bounds.
    mpp, mpp_source
        Pixel size and where it was found, or ``None`` and why not.
    objective_power
        Nominal magnification of the objective, ``None`` if unknown.
    focal_planes
        Number of focal planes (z).
    associated_images
        Names only: these images may show patient data.
    """

    path: Path
    vendor: str
    levels: tuple[Level, ...]
    bounds: Level0Box
    mpp: Mpp | None
    mpp_source: str
    objective_power: float | None
    focal_planes: int
    associated_images: tuple[str, ...]

    @property
    def width(self) -> int:
        """Width of level 0 in pixels."""
        return self.levels[0].width

    @property
    def height(self) -> int:
        """Height of level 0 in pixels."""
        return self.levels[0].height


class UnreadableRegionError(Exception):
    """A region could not be decoded, even with a fresh handle."""


class Slide(Protocol):
    """A pyramidal image that many threads may read at once."""

    @property
    def info(self) -> SlideInfo:
        """What is known of the slide."""
        ...

    def read(self, level: int, box: LevelBox) -> RGB:
        """Read a box of one level, composited on white; outside the slide is white.

        Raises
        ------
        UnreadableRegionError
            When the file is damaged there; later reads elsewhere still work.
        """
        ...

    def close(self) -> None:
        """Release every handle."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
