"""The three coordinate frames of a slide, as types.

============  =====================================================================
frame         what its numbers mean
============  =====================================================================
``Level0``    full-resolution pixels as OpenSlide counts them (``read_region``)
``QuPath``    full-resolution pixels as QuPath shows them: the origin is the corner
              of ``openslide.bounds-x/-y`` where the slide has bounds. All geometry
              that leaves the engine is in this frame.
``Model``     pixels of one global grid at the model's mpp, anchored at QuPath's
              origin. Tile borders are integers here.
============  =====================================================================

In every frame coordinates are pixel *corners*: pixel (3, 2) is the square from (3, 2)
to (4, 3). A type of one frame offers only the conversions that make sense, so that two
frames cannot be mixed by accident.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mpp:
    """Pixel size in µm per full-resolution pixel, horizontally and vertically."""

    x: float
    y: float

    @property
    def mean(self) -> float:
        """Geometric mean in µm, the side of a square pixel of the same area."""
        return math.sqrt(self.x * self.y)

    @property
    def pixel_area_um2(self) -> float:
        """Area of one full-resolution pixel in µm²."""
        return self.x * self.y


@dataclass(frozen=True, slots=True)
class Level0Box:
    """A rectangle in level-0 OpenSlide pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class LevelBox:
    """A rectangle in the pixels of one pyramid level, counted from OpenSlide's origin."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class QuPathBox:
    """A rectangle in QuPath pixels, given by its corners."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True, slots=True)
class ModelBox:
    """A rectangle of whole model-grid pixels, half open: ``[x, x + width)``."""

    x: int
    y: int
    width: int
    height: int

    @property
    def x_stop(self) -> int:
        """First column to the right of the box."""
        return self.x + self.width

    @property
    def y_stop(self) -> int:
        """First row below the box."""
        return self.y + self.height

    def padded(self, margin: int) -> ModelBox:
        """Return the box grown by ``margin`` pixels on each side (shrunk if negative)."""
        return ModelBox(
            self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin
        )

    def within(self, other: ModelBox) -> ModelBox:
        """Return what lies in another box, too; without area where that is nothing."""
        left, top = max(self.x, other.x), max(self.y, other.y)
        right, bottom = min(self.x_stop, other.x_stop), min(self.y_stop, other.y_stop)
        return ModelBox(left, top, max(right - left, 0), max(bottom - top, 0))

    def holds(self, points: FloatArray) -> npt.NDArray[np.bool_]:
        """Tell which points, shape (n, 2) in model pixels, lie in the half-open box."""
        x, y = points[:, 0], points[:, 1]
        return (x >= self.x) & (x < self.x_stop) & (y >= self.y) & (y < self.y_stop)


@dataclass(frozen=True, slots=True)
class ModelGrid:
    """The global pixel grid at one resolution over the whole slide.

    Parameters
    ----------
    mpp
        Side of a grid pixel in µm; of one that is not quite square, that of a square as large.
    slide_mpp
        Pixel size of the slide at full resolution.
    origin_x, origin_y
        QuPath's origin in level-0 pixels (``openslide.bounds-x/-y``, else 0).
    slide_width, slide_height
        Size of the slide as QuPath sees it, in full-resolution pixels.
    slide_pixels
        Number of full-resolution pixels, across and down, that make a grid pixel; ``None`` where
        grid pixels are squares of ``mpp`` whose borders may lie anywhere.

    Notes
    -----
    Without ``slide_pixels`` the scale is a real number and is never rounded to an integer factor:
    at 0.2527 µm one grid pixel of 0.5 µm spans 1.9786... full-resolution pixels. `whole_pixels`
    decides which slides have them.
    """

    mpp: float
    slide_mpp: Mpp
    origin_x: int
    origin_y: int
    slide_width: int
    slide_height: int
    slide_pixels: tuple[int, int] | None = None

    @property
    def scale_x(self) -> float:
        """Full-resolution pixels per grid pixel, horizontally."""
        return self.mpp / self.slide_mpp.x if self.slide_pixels is None else self.slide_pixels[0]

    @property
    def scale_y(self) -> float:
        """Full-resolution pixels per grid pixel, vertically."""
        return self.mpp / self.slide_mpp.y if self.slide_pixels is None else self.slide_pixels[1]

    @property
    def pixel(self) -> Mpp:
        """Size of a grid pixel."""
        if self.slide_pixels is None:
            return Mpp(self.mpp, self.mpp)
        across, down = self.slide_pixels
        return Mpp(across * self.slide_mpp.x, down * self.slide_mpp.y)

    @property
    def extent(self) -> ModelBox:
        """The smallest box of grid pixels that covers the slide."""
        return ModelBox(
            0,
            0,
            math.ceil(self.slide_width / self.scale_x),
            math.ceil(self.slide_height / self.scale_y),
        )

    @property
    def whole(self) -> ModelBox:
        """The box of those grid pixels that lie on the slide as a whole, at least one."""
        # A pixel that a rounding error misses counts as whole.
        return ModelBox(
            0,
            0,
            max(1, math.floor(self.slide_width / self.scale_x + 1e-6)),
            max(1, math.floor(self.slide_height / self.scale_y + 1e-6)),
        )

    def to_qupath(self, points: FloatArray) -> FloatArray:
        """Convert points, shape (..., 2), from model to QuPath pixels."""
        return points * np.array([self.scale_x, self.scale_y])

    def from_qupath(self, points: FloatArray) -> FloatArray:
        """Convert points, shape (..., 2), from QuPath to model pixels."""
        return points / np.array([self.scale_x, self.scale_y])

    def box_to_qupath(self, box: ModelBox) -> QuPathBox:
        """Convert a box of grid pixels to QuPath pixels."""
        return QuPathBox(
            box.x * self.scale_x,
            box.y * self.scale_y,
            box.x_stop * self.scale_x,
            box.y_stop * self.scale_y,
        )
