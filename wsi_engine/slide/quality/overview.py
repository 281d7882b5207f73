"""The slide as a whole, at low resolution, with its tissue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.slide.frames import ModelGrid
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.optical_density import floored_od
from wsi_engine.slide.protocol import RGB, Slide, SlideInfo
from wsi_engine.slide.tissue import Mask, outline, read_overview

FINEST_OVERVIEW_MPP = 1.0
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
        return floored_od(self.rgb)

    def mask_of(self, area: shapely.Geometry) -> Mask:
        """Return which pixels an area in QuPath pixels covers, shape (height, width)."""
        return raster(shapely.transform(area, self.grid.from_qupath), self.rgb.shape[:2])

    def polygons_of(self, mask: Mask) -> tuple[shapely.Polygon, ...]:
        """Return the outlines of a mask, in QuPath pixels, from top to bottom."""
        parts = _polygons(shapely.transform(outline(mask), self.grid.to_qupath))
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
        Slide to read from.
    info
        Its facts, with a pixel size.
    """
    assert info.mpp is not None
    longest_um = max(info.bounds.width * info.mpp.x, info.bounds.height * info.mpp.y)
    grid = make_grid(info, max(longest_um / LARGEST_SIDE_PX, FINEST_OVERVIEW_MPP, info.mpp.mean))
    return Overview(read_overview(GridReader(slide, grid)), grid)


def raster(area: shapely.Geometry, shape: tuple[int, int]) -> Mask:
    """Draw an area into a mask: the pixels whose centres it holds (even-odd rule).

    Parameters
    ----------
    area
        Area in pixel corners of the mask.
    shape
        Height and width.
    """
    height, width = shape
    rings = [ring for part in _polygons(area) for ring in (part.exterior, *part.interiors)]
    lines = [np.asarray(ring.coords).reshape(-1, 2) for ring in rings]
    start = np.concatenate([np.empty((0, 2)), *(line[:-1] for line in lines)])
    end = np.concatenate([np.empty((0, 2)), *(line[1:] for line in lines)])
    first, stop = np.sort(np.ceil([start[:, 1] - 0.5, end[:, 1] - 0.5]), axis=0)
    first, stop = (np.clip(rows, 0, height).astype(np.int64) for rows in (first, stop))
    edge = np.repeat(np.arange(len(start)), stop - first)
    before = np.cumsum(stop - first) - (stop - first)
    row = first[edge] + np.arange(len(edge)) - before[edge]
    (x, y), (dx, dy) = start[edge].T, (end - start)[edge].T
    column = np.ceil(x + (row + 0.5 - y) * dx / dy - 0.5)
    # Where a row crosses a ring, outside and inside change places for all that is to the right.
    changes = np.zeros((height, width + 1), np.int32)
    np.add.at(changes, (row, np.clip(column, 0, width).astype(np.int64)), 1)
    return np.asarray(changes[:, :width].cumsum(axis=1) % 2 == 1)


def _polygons(area: shapely.Geometry) -> list[shapely.Polygon]:
    return [part for part in shapely.get_parts(area) if part.geom_type == "Polygon"]
