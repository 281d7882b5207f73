"""A shape on a plane of an image, QuPath's ROI."""

from __future__ import annotations

from dataclasses import dataclass

import shapely


@dataclass(frozen=True, slots=True)
class ImagePlane:
    """A plane of a stack, on which a shape lies: channel (-1 for all), focal plane, time."""

    c: int = -1
    z: int = 0
    t: int = 0


FIRST_PLANE = ImagePlane()


@dataclass(frozen=True, slots=True)
class ROI:
    """A shape on a plane.

    Attributes
    ----------
    geometry
        Point, MultiPoint, LineString, Polygon or MultiPolygon; empty where QuPath wrote a shape
        that holds nothing.
    is_ellipse
        QuPath then shows the ellipse in the geometry's bounding box.
    """

    geometry: shapely.Geometry
    plane: ImagePlane = FIRST_PLANE
    is_ellipse: bool = False
