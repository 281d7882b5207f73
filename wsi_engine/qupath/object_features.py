"""Objects made into features that QuPath 0.4 to 0.7 all read."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
import shapely

from wsi_engine.errors import GeoJSONError
from wsi_engine.nuclei.polygons import DECIMALS, Polygons, polygon_parts
from wsi_engine.qupath.objects import FIRST_PLANE, ROI, PathClass, PathObject
from wsi_engine.qupath.problems import Note
from wsi_engine.qupath.shapes import ellipse_on_grid

Feature = dict[str, Any]

NonFinite = Literal["omit", "string"]
"""What becomes of a measurement that is NaN or infinite.

``omit``: it is left out. QuPath shows a missing measurement as NaN, and QuPath 0.4 refuses a file
that holds one in any form. ``string``: it is written as QuPath 0.5 and later do, ``"NaN"``.
"""

# What QuPath itself writes for a shape that holds nothing.
_NOTHING: Feature = {"type": "Polygon", "coordinates": [[[0, 0]] * 5]}
_OWN_PROPERTIES = frozenset(
    {
        *("objectType", "object_type", "name", "color", "classification", "isLocked"),
        *("isMissing", "measurements", "metadata", "childObjects", "children"),
    }
)


def object_feature(item: PathObject, *, non_finite: NonFinite = "omit") -> Feature:
    """Describe one object, with its children, as a feature.

    See `object_features`.
    """
    return object_features([item], non_finite=non_finite)[0]


def object_features(
    objects: Sequence[PathObject], *, non_finite: NonFinite = "omit", note: Note | None = None
) -> list[Feature]:
    """Describe objects as features; those nested in them stand in ``childObjects``.

    Shapes are rounded to 0.01 px, as QuPath keeps them, and then made valid: QuPath 0.6 and later
    refuses a whole file for one polygon that is not. An object without id gets a new one.

    Parameters
    ----------
    objects
        Each with a shape, except roots and cells of which the nucleus is known.
    non_finite
        What becomes of measurements that are no finite float32.
    note
        Takes what could not be kept.

    Returns
    -------
    list of dict
        Ready for orjson with ``OPT_SERIALIZE_NUMPY``; most rings are float64 arrays.

    Raises
    ------
    GeoJSONError
        If an object is nothing that QuPath could hold.
    """
    note = note or (lambda _: None)
    every = [item for top in objects for item in top.flattened()]
    rois = [roi for item in every for roi in _rois(item)]
    shapes = iter(_shapes(rois, note))
    features: dict[int, Feature] = {}
    for item in every:
        features[id(item)] = _feature(item, shapes, non_finite)
    for item in every:
        if item.children:
            properties = features[id(item)]["properties"]
            properties["childObjects"] = [features[id(child)] for child in item.children]
    return [features[id(item)] for item in objects]


def plain_feature(item: PathObject) -> Feature:
    """Describe one object in Python's own types; a geometry that is not known is ``None``."""
    feature = orjson.loads(orjson.dumps(object_feature(item), option=orjson.OPT_SERIALIZE_NUMPY))
    feature["geometry"] = feature["geometry"] or None
    return dict(feature)


def class_member(classification: PathClass) -> Feature:
    """Describe a class. QuPath 0.4 and later refuses a whole file for a class without colour."""
    names = classification.names
    named: Feature = {"name": names[0]} if len(names) == 1 else {"names": list(names)}
    return named | {"color": list(classification.colour)}


def finite_measurements(
    measurements: Mapping[str, float], non_finite: NonFinite = "omit"
) -> dict[str, Any]:
    """Return measurements as they are written, as float32.

    Values stay numpy's float32, as QuPath holds them: orjson then prints 0.1 and not
    0.10000000149.
    """
    with np.errstate(over="ignore"):
        values = np.array(list(measurements.values()), np.float32)
    if np.isfinite(values).all():
        return dict(zip(measurements, values, strict=True))
    if non_finite == "omit":
        pairs = zip(measurements, values, strict=True)
        return {name: value for name, value in pairs if np.isfinite(value)}
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return {
        name: value if np.isfinite(value) else words[str(float(value))]
        for name, value in zip(measurements, values, strict=True)
    }


def rings_of(polygons: Polygons) -> list[list[npt.NDArray[np.float64]]]:
    """Split polygons into their closed rings, exterior first."""
    if len(polygons) == 0:
        return []
    _, coordinates, (ring_offsets, offsets) = shapely.to_ragged_array(polygons, include_z=False)
    rings = np.split(coordinates, ring_offsets[1:-1])
    return [rings[start:stop] for start, stop in pairwise(offsets)]


def each_line(item: PathObject) -> list[PathObject]:
    """Split an object of several lines into one for each.

    QuPath reads a MultiLineString, and can then export nothing any more. The first keeps the
    id and the children.
    """
    if item.roi is None or item.roi.geometry.geom_type != "MultiLineString":
        return [item]
    lines = shapely.get_parts(shapely.line_merge(item.roi.geometry))
    if not len(lines):
        return [item]
    first, *others = (ROI(line, item.roi.plane) for line in lines)
    return [
        replace(item, roi=first),
        *(replace(item, roi=other, id=None, children=[]) for other in others),
    ]


def _rois(item: PathObject) -> list[ROI]:
    if item.roi is None and item.object_type != "root":
        if item.object_type != "cell" or item.nucleus is None:
            raise GeoJSONError(f"{_called(item)} has no shape: QuPath would refuse the whole file")
        return [item.nucleus]
    nucleus = item.nucleus if item.object_type == "cell" else None
    return [roi for roi in (item.roi, nucleus) if roi is not None]


def _called(item: PathObject) -> str:
    return f"the {item.object_type} {item.id or item.name or 'without id'}"


def _feature(item: PathObject, shapes: Iterator[Feature], non_finite: NonFinite) -> Feature:
    feature: Feature = {
        "type": "Feature",
        "id": item.id or str(uuid.uuid4()),
        "geometry": {} if item.roi is None else next(shapes),
    }
    if item.object_type == "cell" and item.nucleus is not None:
        feature["nucleusGeometry"] = next(shapes)
    properties: Feature = {"objectType": item.object_type}
    if item.name is not None:
        properties["name"] = item.name
    if item.colour is not None:
        properties["color"] = list(item.colour)
    if item.classification is not None:
        properties["classification"] = class_member(item.classification)
    if item.is_locked:
        properties["isLocked"] = True
    if item.object_type == "tmaCore":
        properties["isMissing"] = item.is_missing
    if item.measurements:
        values = finite_measurements(item.measurements, non_finite)
        if values:
            properties["measurements"] = values
    if item.metadata:
        properties["metadata"] = item.metadata
    for name, value in item.unknown_properties.items():
        if name not in _OWN_PROPERTIES:
            properties[name] = value
    feature["properties"] = properties
    for name, value in item.unknown.items():
        if value is not None:
            feature.setdefault(name, value)
    return feature


def _shapes(rois: list[ROI], note: Note) -> list[Feature]:
    """Describe shapes as QuPath reads them, each with its plane."""
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
            member: Feature = {"type": "Polygon", "coordinates": next(polygons)}
        else:
            member = _shape(geometry, note)
        if roi.is_ellipse:
            member["isEllipse"] = True
        if roi.plane != FIRST_PLANE:
            member["plane"] = {"c": roi.plane.c, "z": roi.plane.z, "t": roi.plane.t}
        members.append(member)
    return members


def _shape(geometry: shapely.Geometry, note: Note) -> Feature:
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
