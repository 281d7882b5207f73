"""Shape in µm, from the polygon alone.

Area, centroid and second moments are integrals over the polygon, exact by Green's theorem.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.contour import DESCRIPTORS, describe_contour, ring_length
from wsi_engine.nuclei.measure.hull import bounding_circle_radius, least_width
from wsi_engine.nuclei.measure.outlines import Outlines
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.slide.frames import Mpp

_QUPATH = "QuPath, ObjectMeasurements.addShapeMeasurements"
_MOMENTS = "second central moments of the polygon; as in scikit-image's regionprops"

COLUMNS = (
    Column("Area µm^2", "µm^2", "area, holes taken out", _QUPATH, True),
    Column("Length µm", "µm", "perimeter, holes included", _QUPATH, True),
    Column(
        "Circularity", "", "4π area / length² of the exterior; not of several parts", _QUPATH, True
    ),
    Column("Solidity", "", "area / area of the convex hull", _QUPATH, True),
    Column("Max diameter µm", "µm", "diameter of the minimum bounding circle", _QUPATH, True),
    Column("Min diameter µm", "µm", "least width of the convex hull", _QUPATH, True),
    Column("Major axis µm", "µm", "4 √λ₁: long axis of the ellipse of equal moments", _MOMENTS),
    Column("Minor axis µm", "µm", "4 √λ₂: short axis of the ellipse of equal moments", _MOMENTS),
    Column("Eccentricity", "", "√(1 - λ₂/λ₁) of the ellipse of equal moments", _MOMENTS),
    Column(
        "Orientation °",
        "°",
        "of the major axis from the horizontal, anticlockwise on screen, 0 to 180",
        _MOMENTS,
    ),
    Column("Equivalent diameter µm", "µm", "√(4 area / π)", "ISO 9276-6:2008"),
    Column(
        "Convexity", "", "perimeter of the convex hull / that of the exterior", "ISO 9276-6:2008"
    ),
    Column(
        "Elongation", "", "1 - Min diameter / Max diameter", "ISO 9276-6:2008, 1 - aspect ratio"
    ),
    *DESCRIPTORS,
)

QUPATH_NAMES = tuple(column.name for column in COLUMNS if column.source == _QUPATH)
"""Of the measurements that QuPath's own commands add."""


def measure_shape(polygons: Polygons, mpp: Mpp) -> npt.NDArray[np.float32]:
    """Measure shapes.

    Parameters
    ----------
    polygons
        Valid polygons or multipolygons in QuPath pixels, shape (n,).
    mpp
        Pixel size.

    Returns
    -------
    ndarray
        float32, shape (n, len(COLUMNS)); NaN where a value is not defined.
    """
    outlines = Outlines.of(polygons).scaled(mpp.x, mpp.y)
    hulls = Outlines.of(_convex_hulls(polygons)).scaled(mpp.x, mpp.y)
    out = np.full((len(polygons), len(COLUMNS)), np.nan)
    _measure(
        outlines.xy, outlines.rings, outlines.holes, outlines.members,
        hulls.xy, hulls.rings, hulls.members, out,
    )  # fmt: skip
    return out.astype(np.float32)


def _convex_hulls(polygons: Polygons) -> Polygons:
    hulls = shapely.convex_hull(polygons)
    # That of nothing, or of a polygon without area, is no polygon.
    hulls[shapely.get_type_id(hulls) != shapely.GeometryType.POLYGON] = shapely.Polygon()
    return np.asarray(hulls, object)


@numba.njit(nogil=True, cache=True)
def _measure(xy, rings, holes, members, hull_xy, hull_rings, hull_members, out):  # type: ignore[no-untyped-def]
    for i in range(len(members) - 1):
        if members[i] == members[i + 1] or hull_members[i] == hull_members[i + 1]:
            continue
        origin = xy[rings[members[i]]]
        sums = np.zeros(6)
        length = exterior_length = exterior_area = 0.0
        exteriors = 0
        for r in range(members[i], members[i + 1]):
            ring = xy[rings[r] : rings[r + 1]]
            own = _integrals(ring, origin)
            perimeter = ring_length(ring)
            length += perimeter
            sums += -own if holes[r] else own
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
        out[i, 0] = area
        out[i, 1] = length
        out[i, 3] = area / _integrals(hull, origin)[0]
        out[i, 4] = widest
        out[i, 5] = least
        _ellipse(sums, out[i, 6:10])
        out[i, 10] = math.sqrt(4 * area / math.pi)
        out[i, 11] = ring_length(hull) / exterior_length
        out[i, 12] = 1 - least / widest
        if exteriors == 1:
            out[i, 2] = 4 * math.pi * exterior_area / exterior_length**2
            r = members[i]
            describe_contour(xy[rings[r] : rings[r + 1]], out[i, 13:])


@numba.njit(nogil=True, cache=True)
def _integrals(ring, origin):  # type: ignore[no-untyped-def]
    """Integrals of 1, x, y, x², y², xy over the inside of a ring, from an origin near by."""
    sums = np.zeros(6)
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
    return sums if sums[0] >= 0 else -sums


@numba.njit(nogil=True, cache=True)
def _ellipse(sums, out):  # type: ignore[no-untyped-def]
    """Write major and minor axis, eccentricity and orientation of the ellipse of equal moments."""
    area = sums[0]
    x, y = sums[1] / area, sums[2] / area
    xx, yy, xy = sums[3] / area - x * x, sums[4] / area - y * y, sums[5] / area - x * y
    half, spread = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    larger, smaller = half + spread, max(half - spread, 0.0)
    out[0], out[1] = 4 * math.sqrt(larger), 4 * math.sqrt(smaller)
    out[2] = math.sqrt(max(1 - smaller / larger, 0.0))
    # What is round has no direction; below this it is that of rounding errors.
    if spread > 1e-9 * half:
        # y points down on screen.
        out[3] = math.degrees(0.5 * math.atan2(-2 * xy, xx - yy)) % 180.0
