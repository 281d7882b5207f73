"""The nearest geometry that QuPath takes as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import made_valid, polygon_parts
from wsi_engine.qupath.rules.geometry import DEPTHS, READABILITY, as_float
from wsi_engine.qupath.rules.gson import is_number
from wsi_engine.qupath.rules.measurements import JAVA_NUMBER
from wsi_engine.qupath.rules.shape import ELLIPSE_TOLERANCE, as_kept
from wsi_engine.qupath.rules.shape_columns import GRID_PX

Geometry = dict[str, Any]
Say = Callable[[str], None]
"""Takes one change, in a few words."""

RING = "LinearRing"
"""Type that shapely gives the outline of a polygon; GeoJSON has none of this name."""

FARTHEST_PX = 2.0**24
"""Beyond, 32-bit floats do not even hold whole pixels."""

COARSER_GRIDS_PX = (GRID_PX, 1 / 8, 1.0)
"""Grids to repair a polygon on in turn, until it survives the rounding of its coordinates."""


def mended_geometry(geometry: Any, say: Say, *, as_ellipse: bool = False) -> list[Geometry]:
    """Return the nearest geometries that QuPath takes as they are.

    Parameters
    ----------
    geometry
        Any JSON value.
    say
        Is told what was changed.
    as_ellipse
        Whether QuPath will take it for an ellipse anyway, as it does with TMA cores.

    Returns
    -------
    list of dict
        None where there is no shape; several where QuPath has no object for such a geometry.
    """
    if not isinstance(geometry, dict) or not geometry:
        return []
    if is_fine(geometry, as_ellipse=as_ellipse):
        return [geometry]
    plane = _plane(geometry, say)
    mended = []
    for shape in _shapes(geometry, say):
        is_ellipse = as_ellipse or geometry.get("isEllipse") in (True, "true")
        if as_ellipse and not _is_elliptic(shape):
            shape = _ellipse(shape)
            if not (shape.is_valid and shape.area > GRID_PX and _is_elliptic(shape)):
                say("left out a TMA core too thin for the coordinates that QuPath keeps")
                continue
            say("drew the ellipse that QuPath makes of a TMA core")
        elif is_ellipse and not _is_elliptic(shape):
            say("took isEllipse from an outline that is none")
            is_ellipse = False
        member = _written(shape)
        if plane:
            member["plane"] = plane
        if is_ellipse:
            member["isEllipse"] = True
        mended.append(member)
    if geometry.keys() - {"type", "coordinates", "geometries", "plane", "isEllipse"}:
        say("left out unknown members of a geometry")
    return mended


def is_fine(geometry: Geometry, *, as_ellipse: bool = False) -> bool:
    """Tell quickly whether a polygon needs no repair; lines and points are always redrawn."""
    if as_ellipse or geometry.keys() != {"type", "coordinates"}:
        return False
    assert READABILITY.is_ordinary is not None
    if not READABILITY.is_ordinary(geometry):
        return False
    rings = [np.array(ring, np.float64) for ring in geometry["coordinates"]]
    if not rings or not all(np.array_equal(ring, as_kept(np.round(ring, 2))) for ring in rings):
        return False
    return _stays(shapely.Polygon(rings[0], rings[1:]))


def _stays(area: shapely.Geometry) -> bool:
    """Tell whether QuPath's reducer leaves an area on the grid of 0.01 px as it is."""
    if not area.is_valid or area.area > GRID_PX:
        return bool(area.is_valid)
    reduced = shapely.set_precision(area, GRID_PX)
    same = shapely.equals_exact(reduced.normalize(), area.normalize(), GRID_PX / 2)
    return bool(same) and not reduced.is_empty


def _shapes(geometry: Geometry, say: Say) -> list[shapely.Geometry]:
    """Draw what can be drawn, in the order areas, lines, points."""
    areas, lines, points = _parts(geometry, say)
    shapes: list[shapely.Geometry] = []
    if areas:
        area = _settled(areas, say)
        if area is not None:
            shapes.append(area)
    if len(lines) > 1:
        say("made a feature of each line")
    for line in (_rounded(each, say) for each in lines):
        if (line == line[0]).all():
            say("made a point of a line without length")
            points = np.concatenate([points, line[:1]])
        else:
            shapes.append(shapely.LineString(line))
    if len(points) == 1:
        shapes.append(shapely.Point(_rounded(points, say)[0]))
    elif len(points):
        shapes.append(shapely.MultiPoint(_rounded(points, say)))
    return shapes


XY = npt.NDArray[np.float64]


def _parts(geometry: Geometry, say: Say) -> tuple[list[list[XY]], list[XY], XY]:
    """Collect polygons, as lists of rings, lines and points."""
    areas: list[list[XY]] = []
    lines: list[XY] = []
    points: list[XY] = []
    pending = [geometry]
    while pending:
        member = pending.pop()
        kind = member.get("type")
        if kind == "GeometryCollection":
            say("took a GeometryCollection apart")
            inner = _listed(member.get("geometries"))
            pending.extend(m for m in reversed(inner) if isinstance(m, dict))
            continue
        if kind == RING:
            say("made a polygon of a ring")
            areas.append(_rings([member.get("coordinates")], say))
            continue
        if not isinstance(kind, str) or kind not in DEPTHS:
            say("left out a geometry of an unknown type")
            continue
        coordinates = member.get("coordinates")
        if kind == "Polygon":
            areas.append(_rings(coordinates, say))
        elif kind == "MultiPolygon":
            areas.extend(_rings(part, say) for part in _listed(coordinates))
        elif kind in ("LineString", "MultiLineString"):
            drawn = [coordinates] if kind == "LineString" else _listed(coordinates)
            lines.extend(line for line in (_positions(each, say) for each in drawn) if len(line))
        else:
            points.append(_positions([coordinates] if kind == "Point" else coordinates, say))
    return areas, lines, np.concatenate([np.empty((0, 2)), *points])


def _rings(coordinates: Any, say: Say) -> list[XY]:
    rings = []
    if isinstance(coordinates, list) and coordinates and all(map(_is_position, coordinates)):
        say("made a polygon of a ring that was not nested")
        coordinates = [coordinates]
    for number, ring in enumerate(_positions(each, say) for each in _listed(coordinates)):
        if len(ring) and not np.array_equal(ring[0], ring[-1]):
            say("closed a ring")
            ring = np.concatenate([ring, ring[:1]])
        if len(ring) >= 4:
            rings.append(ring)
        elif number == 0:
            say("left out a polygon without area")
            return []
        else:
            say("left out a hole without area")
    return rings


def _positions(listed: Any, say: Say) -> XY:
    found = []
    for position in _listed(listed):
        numbers = [_number(value) for value in _listed(position)[:2]]
        if len(numbers) == 2 and max(map(abs, numbers)) > FARTHEST_PX:
            say("left out a position farther away than any slide reaches")
        elif len(numbers) == 2 and np.isfinite(numbers).all():
            found.append(numbers)
            if len(position) > 2:
                say("left out a third coordinate")
            if not all(map(is_number, position[:2])):
                say("made numbers of coordinates that were text")
        else:
            say("left out a position that is no pair of numbers")
    return np.array(found, np.float64).reshape(-1, 2)


def _is_position(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and not isinstance(value[0], list)


def _number(value: Any) -> float:
    if isinstance(value, str) and JAVA_NUMBER.fullmatch(value):
        return as_float(value)
    try:
        return float(value) if is_number(value) else np.nan
    except OverflowError:
        return np.nan


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _rounded(xy: XY, say: Say) -> XY:
    kept = as_kept(xy.round(2))
    if not np.array_equal(kept, xy):
        say("rounded coordinates")
    return kept


def _settled(parts: list[list[XY]], say: Say) -> shapely.Geometry | None:
    """Round polygons and make them valid, in this order; none where no area is left."""
    polygons = [
        shapely.Polygon(rings[0], rings[1:])
        for rings in ([_rounded(ring, say) for ring in part] for part in parts)
        if rings
    ]
    if not polygons:
        return None
    area = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    if _stays(area):
        return area
    for grid in COARSER_GRIDS_PX:
        repaired = _repaired(area, grid, say)
        if repaired is None:
            break
        if _stays(repaired):
            say("made a polygon valid")
            return repaired
    say("left out a polygon without area")
    return None


def _repaired(area: shapely.Geometry, grid: float, say: Say) -> shapely.Geometry | None:
    # Overlapping parts are joined, and a hole outside of its shell has no effect.
    valid = shapely.union_all([_filled(part) for part in shapely.get_parts(area)])
    snapped = shapely.set_precision(valid, grid)
    parts = [
        shapely.transform(part, lambda xy: as_kept(xy.round(2))) for part in polygon_parts(snapped)
    ]
    kept = [part for part in parts if part.area > GRID_PX or _stays(part)]
    if len(kept) < len(parts):
        say("left out parts of a polygon too small for the coordinates that QuPath keeps")
    if not kept:
        return None
    return kept[0] if len(kept) == 1 else shapely.MultiPolygon(kept)


def _filled(polygon: shapely.Polygon) -> shapely.Geometry:
    """Return all that lies within the shell and in no hole."""
    rings = [shapely.Polygon(ring) for ring in (polygon.exterior, *polygon.interiors)]
    shell, *holes = made_valid(np.array(rings, object))
    return shapely.difference(shell, shapely.union_all(holes))


def _plane(geometry: Geometry, say: Say) -> dict[str, int]:
    if "plane" not in geometry:
        return {}
    plane = geometry["plane"]
    kept = {}
    for key, value in plane.items() if isinstance(plane, dict) else ():
        lowest = -1 if key == "c" else 0
        if key in ("c", "z", "t") and is_number(value) and lowest <= value < 2**31:
            kept[key] = int(value)
    if kept != plane:
        say("left out parts of a plane that QuPath does not take")
    return kept


def _is_elliptic(shape: shapely.Geometry) -> bool:
    left, top, right, bottom = shape.bounds
    ellipse = np.pi / 4 * (right - left) * (bottom - top)
    return shape.area > 0 and bool(abs(shape.area - ellipse) <= ELLIPSE_TOLERANCE * ellipse)


def _ellipse(shape: shapely.Geometry) -> shapely.Polygon:
    """Outline the ellipse in the bounding box of a shape, as QuPath writes it: 100 vertices."""
    left, top, right, bottom = shape.bounds
    angles = np.linspace(0, 2 * np.pi, 101)
    angles[-1] = 0
    x = (left + right) / 2 + (right - left) / 2 * np.cos(angles)
    y = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(angles)
    return shapely.Polygon(as_kept(np.stack([x, y], axis=1, dtype=np.float64).round(2)))


def _written(shape: shapely.Geometry) -> Geometry:
    written: Geometry = shapely.geometry.mapping(shape)
    return {"type": written["type"], "coordinates": _as_lists(written["coordinates"])}


def _as_lists(coordinates: Any) -> Any:
    if isinstance(coordinates, tuple | list):
        return [_as_lists(inner) for inner in coordinates]
    return float(coordinates)
