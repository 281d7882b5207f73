"""ROIs made into geometries that QuPath 0.4 to 0.7 all read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.errors import GeoJSONError
from wsi_engine.nuclei.polygons import DECIMALS, Polygons, polygon_parts
from wsi_engine.qupath.problems import Note
from wsi_engine.qupath.roi import FIRST_PLANE, ROI
from wsi_engine.qupath.shapes import ellipse_on_grid

Member = dict[str, Any]

# What QuPath itself writes for a shape that holds nothing.
_NOTHING: Member = {"type": "Polygon", "coordinates": [[[0, 0]] * 5]}


def roi_members(rois: list[ROI], note: Note) -> list[Member]:
    """Describe ROIs as geometries with their planes.

    Shapes are rounded to 0.01 px, as QuPath keeps them, and then made valid.

    Parameters
    ----------
    rois
        ROIs in QuPath pixels.
    note
        Takes what could not be kept.

    Returns
    -------
    list of dict
        Ready for orjson with ``OPT_SERIALIZE_NUMPY``; most rings are float64 arrays.

    Raises
    ------
    GeoJSONError
        If a coordinate is not finite, or QuPath has no such geometry.
    """
    if not rois:
        return []
    geometries = np.array([roi.geometry for roi in rois], object)
    points = shapely.get_coordinates(geometries)
    if not np.isfinite(points).all():
        raise GeoJSONError("a shape has a coordinate that is not finite: QuPath refuses it")
    geometries = shapely.transform(geometries, _rounded)
    for k in [k for k, roi in enumerate(rois) if roi.is_ellipse]:
        geometries[k] = ellipse_on_grid(geometries[k])
    simple = shapely.get_type_id(geometries) == shapely.GeometryType.POLYGON
    simple &= shapely.is_valid(geometries) & ~shapely.is_empty(geometries)
    polygons = iter(rings_of(geometries[simple]))
    members = []
    for roi, geometry, plain in zip(rois, geometries, simple.tolist(), strict=True):
        if plain:
            member: Member = {"type": "Polygon", "coordinates": next(polygons)}
        else:
            member = _shape(geometry, note)
        if roi.is_ellipse:
            member["isEllipse"] = True
        if roi.plane != FIRST_PLANE:
            member["plane"] = {"c": roi.plane.c, "z": roi.plane.z, "t": roi.plane.t}
        members.append(member)
    return members


def rings_of(polygons: Polygons) -> list[list[npt.NDArray[np.float64]]]:
    """Split polygons into their closed rings, exterior first."""
    if len(polygons) == 0:
        return []
    _, coordinates, (ring_offsets, offsets) = shapely.to_ragged_array(polygons, include_z=False)
    rings = np.split(coordinates, ring_offsets[1:-1])
    return [rings[start:stop] for start, stop in pairwise(offsets)]


def _shape(geometry: shapely.Geometry, note: Note) -> Member:
    """Describe any geometry but a plain polygon; its coordinates are rounded."""
    kind = geometry.geom_type
    if kind == "MultiLineString":
        geometry = shapely.line_merge(geometry)
        kind = geometry.geom_type
    if kind == "LinearRing":
        kind = "LineString"
    if kind in ("Point", "MultiPoint", "LineString"):
        points = np.ascontiguousarray(shapely.get_coordinates(geometry))
        if kind == "Point" and len(points):
            return {"type": "Point", "coordinates": points[0]}
        return {
            "type": "LineString" if kind == "LineString" else "MultiPoint",
            "coordinates": points,
        }
    if geometry.is_empty and kind in ("Polygon", "MultiPolygon"):
        return dict(_NOTHING)
    if kind not in ("Polygon", "MultiPolygon"):
        raise GeoJSONError(f"QuPath has no {kind}: give each of its parts an object of its own")
    parts = _valid_parts(geometry)
    if not parts:
        note("a shape is thinner than 0.01 px: it is written empty")
        return dict(_NOTHING)
    coordinates = rings_of(np.array(parts, object))
    # QuPath before 0.6 fails on a MultiPolygon of one part.
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _valid_parts(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    """Repair on the 0.01 px grid, so that the repair needs no rounding of its own."""
    if not geometry.is_valid:
        geometry = shapely.set_precision(shapely.make_valid(geometry), 10.0**-DECIMALS)
        geometry = shapely.MultiPolygon(polygon_parts(geometry))
    geometry = shapely.transform(geometry, _rounded)
    parts = polygon_parts(geometry)
    return [part for part in parts if part.area > 0]


def _rounded(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.round(points, DECIMALS)
