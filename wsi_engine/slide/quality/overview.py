"""The slide as a whole, at low resolution, with its tissue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image, ImageDraw

from wsi_engine.nuclei.polygons import mended, polygon_parts
from wsi_engine.slide.frames import ModelGrid
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.protocol import RGB, Slide, SlideInfo
from wsi_engine.slide.tissue import Mask, optical_density, outline, read_overview

FINEST_MPP = 1.0
LARGEST_SIDE_PX = 1200
"""Bounds memory and time: a slide of 30 mm is seen at 25 µm per pixel, where a fold of 60 µm still
has two."""


@dataclass(frozen=True)
class Overview:
    """A slide at low resolution.

    Attributes
    ----------
    rgb
        The slide as QuPath shows it, uint8, shape (height, width, 3).
    grid
        The frame of its pixels.
    """

    rgb: RGB
    grid: ModelGrid

    @cached_property
    def density(self) -> npt.NDArray[np.float32]:
        """Optical density of the pixels, shape (height, width, 3)."""
        return optical_density(self.rgb)

    def mask_of(self, area: shapely.Geometry) -> Mask:
        """Return which pixels an area in QuPath pixels covers, shape (height, width)."""
        return raster(shapely.transform(area, self.grid.from_qupath), self.rgb.shape[:2])

    def polygons_of(self, mask: Mask) -> tuple[shapely.Polygon, ...]:
        """Return the outlines of a mask, in QuPath pixels, from top to bottom."""
        area = shapely.transform(outline(mask), self.grid.to_qupath)
        parts, _ = mended(np.array(polygon_parts(area), object))
        return tuple(sorted(parts, key=lambda part: (part.bounds[1], part.bounds[0])))

    def area_mm2(self, mask: Mask) -> float:
        """Return the area of a mask."""
        return float(mask.sum()) * self.grid.mpp**2 / 1e6


def read_slide_overview(slide: Slide, info: SlideInfo) -> Overview:
    """Read the whole slide so that its longer side has at most 1200 pixels.

    Label and macro images are not touched: they may show names.

    Parameters
    ----------
    slide
        To read from.
    info
        Its facts, with a pixel size.
    """
    assert info.mpp is not None
    longest_um = max(info.bounds.width * info.mpp.x, info.bounds.height * info.mpp.y)
    grid = make_grid(info, max(longest_um / LARGEST_SIDE_PX, FINEST_MPP, info.mpp.mean))
    return Overview(read_overview(GridReader(slide, grid)), grid)


def raster(area: shapely.Geometry, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Draw an area into a mask.

    Parameters
    ----------
    area
        In pixel corners of the mask.
    shape
        Height and width.
    """
    canvas = Image.new("1", (shape[1], shape[0]))
    pen = ImageDraw.Draw(canvas)
    # A piece may lie in another's hole: the outer ones are drawn first.
    for part in sorted(polygon_parts(area), key=lambda part: -shapely.box(*part.bounds).area):
        for ring, fill in ((part.exterior, 1), *((hole, 0) for hole in part.interiors)):
            # Pillow takes a vertex for the centre of a pixel.
            pen.polygon((np.asarray(ring.coords) - 0.5).ravel().tolist(), fill=fill)
    return np.asarray(canvas)
