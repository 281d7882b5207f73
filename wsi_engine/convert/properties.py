"""Objects as a geometry with free properties, as annotation stores and tables hold them.

What QuPath knows has its own name; every other number is a measurement and every other text
metadata. So what other tools wrote arrives in QuPath where its users look for it, and what
comes from QuPath goes back the way it came.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any, get_args

import shapely

from wsi_engine.convert.types import Types, class_named, class_of_type
from wsi_engine.errors import ConversionError
from wsi_engine.qupath.objects import ObjectType, PathClass, PathObject
from wsi_engine.qupath.roi import FIRST_PLANE, ROI, ImagePlane

CLASS_NAMES = ("type", "class", "classification", "cell_type", "class_name")
"""Properties that may hold the class; the first that is there gives it."""
# As TIAToolbox and HoVer-Net call it, and as it is called here.
TYPE_PROBABILITIES = {"prob": "Type probability", "type_prob": "Type probability"}


def properties_of_object(item: PathObject) -> dict[str, Any]:
    """Return what there is to say of an object besides its shape; the empty is left out.

    Measurements are among the properties by their names, and in ``measurements`` those whose
    names are taken, or which are no finite number: JSON has none.
    """
    roi = item.roi or item.nucleus
    said: dict[str, Any] = {
        "objectType": item.object_type,
        "type": item.class_name,
        "class_colour": None if item.classification is None else list(item.classification.colour),
        "name": item.name,
        "color": None if item.colour is None else list(item.colour),
        "isLocked": item.is_locked or None,
        "isMissing": item.is_missing or None,
        "isEllipse": (roi is not None and roi.is_ellipse) or None,
        "plane": None
        if roi is None or roi.plane == FIRST_PLANE
        else [roi.plane.c, roi.plane.z, roi.plane.t],
        "isNucleus": item.roi is None or None,
        "nucleus": None
        if item.roi is None or item.nucleus is None
        else shapely.to_wkt(item.nucleus.geometry),
        "metadata": item.metadata or None,
        "unknown": item.unknown or None,
        "unknownProperties": item.unknown_properties or None,
    }
    taken = {
        name: value if math.isfinite(value) else str(value)
        for name, value in item.measurements.items()
        if name in _TAKEN or not math.isfinite(value)
    }
    said["measurements"] = taken or None
    said = {name: value for name, value in said.items() if value is not None}
    return said | {name: v for name, v in item.measurements.items() if name not in taken}


def object_of_properties(
    geometry: shapely.Geometry,
    identity: Any,
    properties: Mapping[str, Any],
    types: Types,
    where: str,
) -> PathObject:
    """Make an object of a shape and its properties, see `properties_of_object`.

    Raises
    ------
    ConversionError
        When a property that QuPath knows has a value that it cannot have.
    """
    try:
        return _object(geometry, identity, properties, types, where)
    except (TypeError, ValueError, shapely.GEOSException) as error:
        raise ConversionError(f"{where}: a property is not understood: {error}") from None


def uuid_or_none(value: Any) -> str | None:
    """Return a UUID as QuPath writes it, and ``None`` for what QuPath would replace."""
    if not isinstance(value, str) or len(value) != 36:
        return None
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return None


def _object(
    geometry: shapely.Geometry,
    identity: Any,
    properties: Mapping[str, Any],
    types: Types,
    where: str,
) -> PathObject:
    said = dict(properties)
    object_type = said.pop("objectType", "detection")
    if object_type not in get_args(ObjectType):
        raise ValueError(f"objectType {object_type!r}")
    plane = ImagePlane(*said.pop("plane")) if said.get("plane") else FIRST_PLANE
    item = PathObject(
        object_type=object_type,
        roi=ROI(geometry, plane, bool(said.pop("isEllipse", False))),
        id=uuid_or_none(identity),
        classification=_classification(said, types, where),
        name=said.pop("name", None) or None,
        colour=_colour(said.pop("color", None)),
        is_locked=bool(said.pop("isLocked", False)),
        is_missing=bool(said.pop("isMissing", False)),
    )
    if said.pop("isNucleus", False):
        item.roi, item.nucleus = None, item.roi
    elif nucleus := said.pop("nucleus", None):
        item.nucleus = ROI(shapely.from_wkt(nucleus), plane)
    for name, members in (
        ("unknown", item.unknown),
        ("unknownProperties", item.unknown_properties),
    ):
        if isinstance(said.get(name), dict):
            members.update(said.pop(name))
    if isinstance(said.get("metadata"), dict):
        item.metadata = {str(k): str(v) for k, v in said.pop("metadata").items()}
    nested = said.pop("measurements", None)
    _sort_in(item, {TYPE_PROBABILITIES.get(name, name): value for name, value in said.items()})
    if isinstance(nested, list):  # as QuPath 0.3 wrote them
        nested = {entry["name"]: entry["value"] for entry in nested}
    item.measurements |= {str(name): float(value) for name, value in (nested or {}).items()}
    return item


def _sort_in(item: PathObject, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float):
            item.measurements[name] = float(value)
        elif isinstance(value, str):
            item.metadata[name] = value


def _classification(said: dict[str, Any], types: Types, where: str) -> PathClass | None:
    colour = _colour(said.pop("class_colour", None))
    for name in CLASS_NAMES:
        if name not in said:
            continue
        value = said.pop(name)
        if isinstance(value, dict):  # as in QuPath's GeoJSON
            colour = colour or _colour(value.get("color"))
            names = value.get("names")
            value = value.get("name") or (": ".join(names) if names else None)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if not isinstance(value, str):
            return class_of_type(value, types, where)
        if value.isdecimal() and int(value) in types:
            return types[int(value)]
        found = class_named(value)
        return found if colour is None else PathClass(found.names, colour)
    return None


def _colour(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list) and len(value) in (3, 4):
        return tuple(int(part) for part in value)
    raise ValueError(f"colour {value!r}")


_TAKEN = frozenset(
    {"objectType", "class_colour", "name", "color", "isLocked", "isMissing", "isEllipse", "plane"}
    | {"nucleus", "isNucleus", "metadata", "measurements", "unknown", "unknownProperties"}
    | {*CLASS_NAMES, *TYPE_PROBABILITIES}
)
