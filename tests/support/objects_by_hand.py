"""Objects of QuPath made by hand, and files of them as QuPath writes them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from wsi_engine.qupath.objects import ObjectType, PathClass, PathObject
from wsi_engine.qupath.roi import ROI


def identity(k: int) -> str:
    """A UUID that depends on a number alone."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(k)))


def disc(x: float, y: float, radius: float = 6) -> shapely.Polygon:
    """A round shape on the 0.01 px grid."""
    circle = shapely.Point(x, y).buffer(radius, quad_segs=6)
    return shapely.transform(circle, lambda points: np.round(points, 2))


def item(
    shape: shapely.Geometry,
    k: int | None = None,
    class_name: str | None = None,
    *,
    object_type: ObjectType = "detection",
    name: str | None = None,
    nucleus: shapely.Geometry | None = None,
) -> PathObject:
    """An object of which the kth id is the id."""
    return PathObject(
        object_type=object_type,
        roi=ROI(shape),
        id=None if k is None else identity(k),
        name=name,
        classification=None if class_name is None else PathClass.of(class_name),
        nucleus=None if nucleus is None else ROI(nucleus),
    )


def feature(made: PathObject) -> dict[str, Any]:
    """The feature of an object."""
    properties: dict[str, Any] = {"objectType": made.object_type}
    if made.name is not None:
        properties["name"] = made.name
    if made.classification is not None:
        colour = list(made.classification.colour)
        properties["classification"] = {"name": made.class_name, "color": colour}
    if made.metadata:
        properties["metadata"] = made.metadata
    members = {"type": "Feature", "geometry": shapely.geometry.mapping(made.geometry)}
    if made.id is not None:
        members["id"] = made.id
    if made.roi is not None and made.roi.is_ellipse:
        members["geometry"] = {**members["geometry"], "isEllipse": True}
    if made.nucleus is not None:
        members["nucleusGeometry"] = shapely.geometry.mapping(made.nucleus.geometry)
    return members | {"properties": properties}


def write_file(path: Path, objects: Iterable[PathObject | dict[str, Any]]) -> Path:
    """Write objects, or features, to a GeoJSON file."""
    features = [feature(o) if isinstance(o, PathObject) else o for o in objects]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    return path


def as_qupath_gives_back(shape: shapely.Geometry, turn: int = 1) -> shapely.Geometry:
    """Round as QuPath does, begin the ring at another vertex and turn it the other way."""
    if isinstance(shape, shapely.MultiPolygon):
        return shapely.MultiPolygon(
            [as_qupath_gives_back(p, turn) for p in list(shape.geoms)[::-1]]
        )
    rings = [np.asarray(ring.coords)[:-1] for ring in (shape.exterior, *shape.interiors)]
    kept = [np.round(np.float64(np.float32(ring)), 2) for ring in rings]
    turned = [np.roll(ring, turn, axis=0)[::-1] for ring in kept]
    return shapely.Polygon(turned[0], turned[1:])
