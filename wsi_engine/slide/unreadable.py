"""The area of a slide that could not be read, and is neither tissue nor searched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import shapely


class Corners(Protocol):
    """A rectangle in QuPath pixels, given by its corners."""

    @property
    def x_min(self) -> float: ...
    @property
    def y_min(self) -> float: ...
    @property
    def x_max(self) -> float: ...
    @property
    def y_max(self) -> float: ...


def area_of(boxes: Iterable[Corners]) -> shapely.Geometry:
    """Return the area that boxes cover together, in QuPath pixels; empty without any."""
    return shapely.union_all(
        [shapely.box(box.x_min, box.y_min, box.x_max, box.y_max) for box in boxes]
    )


def without(area: shapely.Geometry, boxes: Iterable[Corners]) -> shapely.Geometry:
    """Return an area, in QuPath pixels, less what could not be read of it."""
    lost = area_of(boxes)
    return area if lost.is_empty else shapely.difference(area, lost)
