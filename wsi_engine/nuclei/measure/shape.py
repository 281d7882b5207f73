"""Shape in µm, from the polygon alone.

Area, centroid and second moments are integrals over the polygon, exact by Green's theorem.
"""

from __future__ import annotations

import math
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.kernels import kernel
from wsi_engine.nuclei.measure.columns import Column, Measurements, by_name
from wsi_engine.nuclei.measure.contour import (
    CONTOUR_FIELDS,
    DESCRIPTORS,
    describe_contour,
    ring_length,
)
from wsi_engine.nuclei.measure.hull import bounding_circle_radius, least_width
from wsi_engine.nuclei.measure.outlines import Outlines
from wsi_engine.nuclei.measure.view import OutlineView
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.slide.stain_vectors import Stains

_QUPATH = "QuPath, ObjectMeasurements.addShapeMeasurements"
_MOMENTS = "second central moments of the polygon; as in scikit-image's regionprops"

T = TypeVar("T")
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Shape(NamedTuple, Generic[T]):
    """What is told of a shape: numbers, or the columns that describe them."""

    area: T
    length: T
    circularity: T
    solidity: T
    max_diameter: T
    min_diameter: T
    major_axis: T
    minor_axis: T
    eccentricity: T
    orientation: T
    equivalent_diameter: T
    convexity: T
    elongation: T


SHAPE_FIELDS = len(Shape._fields)

SHAPE = Shape(
    area=Column("Area µm^2", "µm^2", "area, holes taken out", _QUPATH, True),
    length=Column("Length µm", "µm", "perimeter, holes included", _QUPATH, True),
    circularity=Column(
        "Circularity", "", "4π area / length² of the exterior; not of several parts", _QUPATH, True
    ),
    solidity=Column("Solidity", "", "area / area of the convex hull", _QUPATH, True),
    max_diameter=Column(
        "Max diameter µm", "µm", "diameter of the minimum bounding circle", _QUPATH, True
    ),
    min_diameter=Column("Min diameter µm", "µm", "least width of the convex hull", _QUPATH, True),
    major_axis=Column(
        "Major axis µm", "µm", "4 √λ₁: long axis of the ellipse of equal moments", _MOMENTS
    ),
    minor_axis=Column(
        "Minor axis µm", "µm", "4 √λ₂: short axis of the ellipse of equal moments", _MOMENTS
    ),
    eccentricity=Column(
        "Eccentricity", "", "√(1 - λ₂/λ₁) of the ellipse of equal moments", _MOMENTS
    ),
    orientation=Column(
        "Orientation °",
        "°",
        "of the major axis from the horizontal, anticlockwise on screen, 0 to 180",
        _MOMENTS,
    ),
    equivalent_diameter=Column("Equivalent diameter µm", "µm", "√(4 area / π)", "ISO 9276-6:2008"),
    convexity=Column(
        "Convexity", "", "perimeter of the convex hull / that of the exterior", "ISO 9276-6:2008"
    ),
    elongation=Column(
        "Elongation", "", "1 - Min diameter / Max diameter", "ISO 9276-6:2008, 1 - aspect ratio"
    ),
)

COLUMNS: tuple[Column, ...] = (*SHAPE, *DESCRIPTORS)

QUPATH_NAMES = tuple(column.name for column in COLUMNS if column.source == _QUPATH)
"""Names of the measurements that QuPath's own commands add."""


def shape_columns(stains: Stains) -> tuple[Column, ...]:
    """Describe the columns of shape, which are the same for all stains."""
    return COLUMNS


def measure_shape(view: OutlineView) -> Measurements:
    """Measure shapes; NaN where a value is not defined."""
    outlines = Outlines.of(view.polygons).scaled(view.mpp.x, view.mpp.y)
    hulls = Outlines.of(_convex_hulls(view.polygons)).scaled(view.mpp.x, view.mpp.y)
    shape = np.full((len(view.polygons), SHAPE_FIELDS), np.nan, np.float32)
    contour = np.full((len(view.polygons), CONTOUR_FIELDS), np.nan, np.float32)
    _measure(
        outlines.xy, outlines.rings, outlines.holes, outlines.members,
        hulls.xy, hulls.rings, hulls.members, shape, contour,
    )  # fmt: skip
    return by_name(SHAPE, shape) | by_name(DESCRIPTORS, contour)


def _convex_hulls(polygons: Polygons) -> Polygons:
    hulls = shapely.convex_hull(polygons)
    # The hull of nothing, or of a polygon without area, is no polygon.
    hulls[shapely.get_type_id(hulls) != shapely.GeometryType.POLYGON] = shapely.Polygon()
    return np.asarray(hulls, object)


@kernel
def _measure(
    xy: Floats,
    rings: Integers,
    holes: npt.NDArray[np.bool_],
    members: Integers,
    hull_xy: Floats,
    hull_rings: Integers,
    hull_members: Integers,
    shape: npt.NDArray[np.float32],
    contour: npt.NDArray[np.float32],
) -> None:
    """Measure n nuclei.

    Parameters
    ----------
    xy, rings, holes, members
        Those of their `Outlines`, in µm.
    hull_xy, hull_rings, hull_members
        Those of the outlines of their convex hulls.
    shape, contour
        Get the fields of `Shape` and `Contour` in place of NaN, shape (n, 13) and (n, 6).
    """
    sums, own = np.empty(6), np.empty(6)
    for i in range(len(members) - 1):
        if members[i] == members[i + 1] or hull_members[i] == hull_members[i + 1]:
            continue
        origin = xy[rings[members[i]]]
        sums[:] = 0.0
        length = exterior_length = exterior_area = 0.0
        exteriors = 0
        for r in range(members[i], members[i + 1]):
            ring = xy[rings[r] : rings[r + 1]]
            _integrals(ring, origin, own)
            perimeter = ring_length(ring)
            length += perimeter
            for f in range(6):
                sums[f] += -own[f] if holes[r] else own[f]
            if not holes[r]:
                exteriors += 1
                exterior_length += perimeter
                exterior_area += own[0]
        h = hull_rings[hull_members[i]]
        hull = hull_xy[h : hull_rings[hull_members[i] + 1]]
        area = sums[0]
        if not area > 0:
            continue
        widest, least = 2 * bounding_circle_radius(hull), least_width(hull)
        ellipse = _ellipse(sums)
        circularity = math.nan
        if exteriors == 1:
            circularity = 4 * math.pi * exterior_area / exterior_length**2
            r = members[i]
            describe_contour(xy[rings[r] : rings[r + 1]], contour[i])
        _integrals(hull, origin, own)
        told = Shape(
            area=area,
            length=length,
            circularity=circularity,
            solidity=area / own[0],
            max_diameter=widest,
            min_diameter=least,
            major_axis=ellipse.major_axis,
            minor_axis=ellipse.minor_axis,
            eccentricity=ellipse.eccentricity,
            orientation=ellipse.orientation,
            equivalent_diameter=math.sqrt(4 * area / math.pi),
            convexity=ring_length(hull) / exterior_length,
            elongation=1 - least / widest,
        )
        for f in range(SHAPE_FIELDS):
            shape[i, f] = told[f]


@kernel
def _integrals(ring: Floats, origin: Floats, sums: Floats) -> None:
    """Write the integrals of 1, x, y, x², y², xy over the inside of a ring, from an origin near by.

    The ring is closed, shape (v, 2); the origin has shape (2,), the integrals (6,).
    """
    sums[:] = 0.0
    for k in range(len(ring) - 1):
        x0, y0 = ring[k, 0] - origin[0], ring[k, 1] - origin[1]
        x1, y1 = ring[k + 1, 0] - origin[0], ring[k + 1, 1] - origin[1]
        cross = x0 * y1 - x1 * y0
        sums[0] += cross / 2
        sums[1] += cross * (x0 + x1) / 6
        sums[2] += cross * (y0 + y1) / 6
        sums[3] += cross * (x0 * x0 + x0 * x1 + x1 * x1) / 12
        sums[4] += cross * (y0 * y0 + y0 * y1 + y1 * y1) / 12
        sums[5] += cross * (2 * x0 * y0 + x0 * y1 + x1 * y0 + 2 * x1 * y1) / 24
    if not sums[0] >= 0:
        for f in range(6):
            sums[f] = -sums[f]


class _Ellipse(NamedTuple):
    major_axis: float
    minor_axis: float
    eccentricity: float
    orientation: float


@kernel
def _ellipse(sums: Floats) -> _Ellipse:
    """Return the ellipse that has the integrals (6,) of a shape as its moments."""
    area = sums[0]
    x, y = sums[1] / area, sums[2] / area
    xx, yy, xy = sums[3] / area - x * x, sums[4] / area - y * y, sums[5] / area - x * y
    half, spread = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    larger, smaller = half + spread, max(half - spread, 0.0)
    orientation = math.nan
    # What is round has no direction; below this it is that of rounding errors.
    if spread > 1e-9 * half:
        # y points down on screen.
        orientation = math.degrees(0.5 * math.atan2(-2 * xy, xx - yy)) % 180.0
    return _Ellipse(
        major_axis=4 * math.sqrt(larger),
        minor_axis=4 * math.sqrt(smaller),
        eccentricity=math.sqrt(max(1 - smaller / larger, 0.0)),
        orientation=orientation,
    )
