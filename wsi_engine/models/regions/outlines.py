"""From classes of pixels, block by block, to the outlines of regions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import shapely
from skimage import measure

NO_CLASS = -1
"""Class of a pixel that belongs to none: outside of the tissue, or of the slide."""

SIMPLIFY_UM, SIMPLIFY_PX = 1.0, 0.5
"""How far fewer vertices may move a border: whichever is more."""


class Outlines:
    """Gathers the borders of each class, whichever block they are found in.

    A border runs between the centres of pixels, through the middle of their sides. Each of its
    steps lies among four pixels and is found once, in the block that has the last of them; where
    borders cross from block to block their ends agree to the last bit. So outlines depend on the
    pixels and not on the blocks, and memory on the length of borders and not on the area.

    Parameters
    ----------
    classes
        Numbers of the classes that have outlines.
    """

    def __init__(self, classes: Iterable[int]) -> None:
        self._lines: dict[int, list[npt.NDArray[np.float64]]] = {k: [] for k in classes}

    def add(self, labels: npt.NDArray[np.int16], x: int, y: int) -> None:
        """Find the borders in a block.

        Parameters
        ----------
        labels
            Classes of its pixels and of those one before it to the left and above, shape
            (1 + height, 1 + width).
        x, y
            Column and row of the first of them, in pixels of the whole.
        """
        for k, lines in self._lines.items():
            mask = labels == k
            if mask.any() and not mask.all():
                # Rows and columns of centres -> x, y of corners.
                found = measure.find_contours(mask.astype(np.float32), 0.5)
                lines += [line[:, ::-1] + (x + 0.5, y + 0.5) for line in found]

    def polygons(
        self, k: int, mpp: float, min_area_um2: float, min_hole_um2: float
    ) -> list[shapely.Polygon]:
        """Return the regions of a class in pixel corners of the whole, from top to bottom.

        Parameters
        ----------
        mpp
            Side of a pixel in µm.
        min_area_um2, min_hole_um2
            Smaller pieces are dropped, smaller holes filled.
        """
        lines = shapely.line_merge(shapely.MultiLineString(self._lines[k]))
        area = shapely.build_area(shapely.GeometryCollection(list(shapely.get_parts(lines))))
        # A ring must not begin where the blocks had it begin, as simplification keeps that vertex.
        parts = shapely.get_parts(shapely.normalize(area))
        kept = [_without_small_holes(part, min_hole_um2 / mpp**2) for part in parts]
        kept = [part for part in kept if part.area * mpp**2 >= min_area_um2]
        simple = shapely.simplify(kept, max(SIMPLIFY_PX, SIMPLIFY_UM / mpp))
        return sorted(simple, key=lambda part: (part.bounds[1], part.bounds[0], part.area))


def _without_small_holes(polygon: shapely.Polygon, smallest_px: float) -> shapely.Polygon:
    holes = [ring for ring in polygon.interiors if shapely.Polygon(ring).area >= smallest_px]
    return shapely.Polygon(polygon.exterior, holes)
