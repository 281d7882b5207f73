"""Polygons on the grid that QuPath keeps: hundredths of a pixel, valid as they are written."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

Polygons = npt.NDArray[np.object_]
"""Shapely polygons, shape (n,)."""

DECIMALS = 2


def polygons_from_rings(xy: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64]) -> Polygons:
    """Build polygons from ragged open rings.

    Parameters
    ----------
    xy
        Vertices of all rings, shape (v, 2).
    offsets
        Ring k is ``xy[offsets[k]:offsets[k + 1]]``, shape (n + 1,).
    """
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return np.asarray(shapely.polygons(shapely.linearrings(xy, indices=owners)))


def simplified_on_grid(
    polygons: Polygons, tolerance: float
) -> tuple[Polygons, npt.NDArray[np.bool_]]:
    """Simplify, round to 0.01 px and make valid, in this order.

    QuPath 0.6 and later refuses a whole file for one invalid polygon, and a ring that is
    valid may cross itself once its vertices are rounded. So validity is checked on the very
    numbers that are stored and written.

    Parameters
    ----------
    polygons
        Any polygons, in QuPath pixels.
    tolerance
        Largest distance in pixels by which simplification may move the border; around the
        first vertex of a ring, which GEOS drops last, it can be twice that.

    Returns
    -------
    polygons
        Valid single polygons without empty ones.
    kept
        bool, shape of the input: which polygons have an area left.
    """
    simple = shapely.simplify(polygons, tolerance, preserve_topology=False)
    # Where a neck is thinner than the tolerance, simplification breaks the polygon in parts.
    whole = shapely.get_type_id(simple) == shapely.GeometryType.POLYGON
    spoilt = ~whole | shapely.is_empty(simple) | ~shapely.is_valid(simple)
    simple[spoilt] = polygons[spoilt]
    simple = shapely.transform(simple, _rounded)
    for k in np.flatnonzero(~shapely.is_valid(simple)):
        simple[k] = _largest_valid_part(simple[k])
    kept = (shapely.area(simple) > 0) & shapely.is_valid(simple)
    return simple[kept], np.asarray(kept)


def repaired_on_grid(geometries: Polygons) -> tuple[Polygons, npt.NDArray[np.bool_]]:
    """Bring shapes from elsewhere onto the 0.01 px grid and make each a valid polygon.

    Parameters
    ----------
    geometries
        Geometries of any type and validity, in QuPath pixels.

    Returns
    -------
    polygons
        The largest part of each; those without an area are left out.
    kept
        bool, shape of the input: which have an area.
    """
    single = shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON
    polygons = np.full(len(geometries), shapely.Polygon(), object)
    finite = np.isfinite(shapely.length(geometries))
    polygons[finite] = shapely.transform(geometries[finite], _rounded)
    for k in np.flatnonzero(finite & ~(single & shapely.is_valid(polygons))):
        polygons[k] = _largest_valid_part(polygons[k])
    kept = (shapely.area(polygons) > 0) & shapely.is_valid(polygons)
    return polygons[kept], np.asarray(kept)


def clipped(polygons: Polygons, width: float, height: float) -> Polygons:
    """Cut off what reaches beyond [0, width] x [0, height]; the largest part is left, or none."""
    left, top, right, bottom = shapely.bounds(polygons).T
    beyond = (left < 0) | (top < 0) | (right > width) | (bottom > height)
    if not beyond.any():
        return polygons
    inside = polygons.copy()
    whole = shapely.make_valid(polygons[beyond])
    cut = shapely.intersection(whole, shapely.box(0, 0, width, height))
    inside[beyond] = [largest_part(geometry) for geometry in cut]
    return inside


def made_valid(outlines: Polygons) -> npt.NDArray[np.object_]:
    """Mend outlines that cross themselves: whatever they surround is within.

    Parameters
    ----------
    outlines
        Polygons without holes, shape (n,).

    Returns
    -------
    ndarray
        Valid geometries, shape (n,): polygons, several of them, or empty ones.
    """
    made = shapely.make_valid(outlines, method="structure", keep_collapsed=False)
    # GEOS 3.13 leaves a few that cross themselves within the last bit of a coordinate.
    still = ~shapely.is_valid(made)
    made[still] = shapely.buffer(made[still], 0)
    return np.asarray(made, object)


def polygon_parts(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    """Return the polygons of which a geometry consists, without its points and lines."""
    # Repair can put a MultiPolygon inside a GeometryCollection.
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return [part for part in parts if part.geom_type == "Polygon"]


def largest_part(geometry: shapely.Geometry) -> shapely.Polygon:
    """Return the largest polygon of which a geometry consists, an empty one if there is none."""
    return max(polygon_parts(geometry), key=lambda part: part.area, default=shapely.Polygon())


def _rounded(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.round(points, DECIMALS)


def _largest_valid_part(polygon: shapely.Polygon) -> shapely.Polygon:
    """Repair on the 0.01 px grid, so that the repair needs no rounding of its own."""
    repaired = shapely.set_precision(shapely.make_valid(polygon), 10.0**-DECIMALS)
    return shapely.transform(largest_part(repaired), _rounded)
