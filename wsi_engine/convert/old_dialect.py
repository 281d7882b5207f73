"""The dialect of GeoJSON that QuPath 0.2 and 0.3 read and wrote.

They know no ``objectType``: 0.2 takes the type from ``id``, 0.3 from ``object_type``. Colours
of classes are packed numbers, a derived class holds its parent, measurements are a list, there
are no object ids and no ellipses. A file that says both is read by both, and by every later
version but for the ids.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import shapely

from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.qupath.roi import ROI

Feature = dict[str, Any]

_TYPES = {
    "annotation": ("PathAnnotationObject", "annotation"),
    "detection": ("PathDetectionObject", "detection"),
    "cell": ("PathCellObject", "cell"),
    "tile": ("PathTileObject", "tile"),
    "tmaCore": ("TMACoreObject", "tma_core"),
    "root": ("PathRootObject", "root"),
}


def old_feature(item: PathObject) -> Feature:
    """Describe an object for QuPath 0.2 and 0.3; its children are features of their own."""
    class_name, object_type = _TYPES[item.object_type]
    properties: Feature = {"object_type": object_type, "isLocked": item.is_locked}
    if item.name:
        properties["name"] = item.name
    if item.colour is not None:
        properties["color"] = list(item.colour[:3])
    if item.object_type == "tmaCore":
        properties["isMissing"] = item.is_missing
    if item.classification is not None:
        properties["classification"] = _classification(item.classification)
    properties["measurements"] = [
        {"name": name, "value": value}
        for name, value in item.measurements.items()
        if math.isfinite(value)
    ]
    feature: Feature = {
        "type": "Feature",
        "id": class_name,
        "geometry": _geometry(item.roi or item.nucleus),
        "properties": properties,
    }
    if item.roi is not None and item.nucleus is not None:
        feature["nucleusGeometry"] = _geometry(item.nucleus)
    return feature


def _classification(path_class: PathClass) -> Feature:
    *parents, last = path_class.names
    described: Feature = {}
    for k, name in enumerate(parents):
        colour = PathClass.of(": ".join(parents[: k + 1])).colour
        described = {**described, "name": name, "colorRGB": packed_colour(colour)}
        described = {"parentClass": described}
    return {**described, "name": last, "colorRGB": packed_colour(path_class.colour)}


def packed_colour(colour: tuple[int, ...]) -> int:
    """Pack a colour as Java does: alpha, red, green, blue in a signed number of 32 bits."""
    red, green, blue, *alpha = colour
    packed = (alpha[0] if alpha else 255) << 24 | red << 16 | green << 8 | blue
    return packed - (1 << 32) if packed >= 1 << 31 else packed


def _geometry(roi: ROI | None) -> Feature:
    if roi is None or roi.geometry.is_empty:
        return {}
    shape = roi.geometry
    if shape.geom_type == "MultiPolygon" and len(shape.geoms) == 1:
        shape = shape.geoms[0]  # 0.3 fails on a MultiPolygon of one part
    shape = shapely.transform(shape, lambda points: np.round(points, 2))
    member: Feature = orjson.loads(shapely.to_geojson(shape))
    if roi.plane.z or roi.plane.t or roi.plane.c != -1:
        member["plane"] = {"c": roi.plane.c, "z": roi.plane.z, "t": roi.plane.t}
    return member
