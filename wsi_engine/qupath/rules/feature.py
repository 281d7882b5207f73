"""Rules on a feature: its id, its geometries, its members."""

from __future__ import annotations

import re
from typing import Any

from wsi_engine.qupath.rules.gson import alone, is_text
from wsi_engine.qupath.rules.rule import (
    JSONCheck,
    RuleTable,
    Severity,
    always,
    shown,
    since,
    until,
)

OBJECT_TYPES = {
    "annotation": "annotation",
    "PathAnnotationObject": "annotation",
    "detection": "detection",
    "PathDetectionObject": "detection",
    "cell": "cell",
    "PathCellObject": "cell",
    "tile": "tile",
    "PathTileObject": "tile",
    "tmaCore": "tmaCore",
    "tma_core": "tmaCore",
    "TMACoreObject": "tmaCore",
    "root": "root",
    "PathRootObject": "root",
}
"""Every spelling that QuPath knows, and the one it writes."""

TYPE_KEYS = ("objectType", "object_type", "type")
"""Properties that may hold the type of the object; the first that is there counts."""

LEGACY_IDS = frozenset(key for key in OBJECT_TYPES if key.endswith("Object"))
"""QuPath 0.2 wrote the type of the object in place of an id."""

MEMBERS = frozenset({"type", "id", "geometry", "nucleusGeometry", "properties"})
PROPERTIES = frozenset(
    {
        *("objectType", "object_type", "name", "color", "classification", "isLocked"),
        *("isMissing", "measurements", "metadata", "childObjects", "children"),
    }
)

CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
# As java.util.UUID reads it: five hexadecimal numbers, of which it keeps the low digits.
JAVA_UUID = re.compile(r"[0-9a-fA-F]{1,16}(?:-[0-9a-fA-F]{1,16}){4}")


def java_uuid(identity: object) -> str | None:
    """Return the UUID that QuPath makes of an id, as it writes it; none where it makes none."""
    if not isinstance(identity, str) or not JAVA_UUID.fullmatch(identity):
        return None
    parts = zip(identity.split("-"), (8, 4, 4, 4, 12), strict=True)
    return "-".join(f"{int(digits, 16) % 16**width:0{width}x}" for digits, width in parts)


def type_name(feature: dict[str, Any]) -> object:
    """Return the type that a feature states, as QuPath reads it; none if it states none."""
    properties = feature.get("properties")
    if isinstance(properties, dict):
        for key in TYPE_KEYS:
            if key in properties:
                return alone(properties[key])
    identity = alone(feature.get("id"))
    return identity if isinstance(identity, str) and identity in LEGACY_IDS else None


def has_legacy_id(feature: dict[str, Any]) -> bool:
    """Tell whether the id of a feature is its type, as QuPath 0.2 wrote it, and needs it."""
    identity = alone(feature.get("id"))
    return isinstance(identity, str) and identity in LEGACY_IDS


def object_type(feature: dict[str, Any]) -> str:
    """Return what QuPath makes of a feature: an annotation, where it knows nothing better."""
    name = type_name(feature)
    return OBJECT_TYPES.get(name, "annotation") if isinstance(name, str) else "annotation"


def is_shapeless(geometry: object) -> bool:
    """Tell an object without a type, in which QuPath sees no shape, from all that it would read."""
    return isinstance(geometry, dict) and "type" not in geometry


PLAIN_MEMBERS = frozenset({"type", "id", "geometry", "properties"})
PLAIN_TYPES = frozenset({"annotation", "detection", "tile"})


def _is_ordinary(feature: dict[str, Any]) -> bool:
    if feature.keys() != PLAIN_MEMBERS:
        return False
    identity, properties = feature["id"], feature["properties"]
    return (
        feature["type"] == "Feature"
        and type(identity) is str
        and CANONICAL_UUID.fullmatch(identity) is not None
        and type(feature["geometry"]) is dict
        and "type" in feature["geometry"]
        and type(properties) is dict
        and type(kind := properties.get("objectType")) is str
        and kind in PLAIN_TYPES
    )


FEATURE: RuleTable[JSONCheck] = RuleTable(_is_ordinary)
"""Each check is given a feature: any JSON object."""


@FEATURE.rule(
    "feature-without-type",
    always(Severity.LOST),
    'QuPath passes over what is not of the type "Feature".',
    'Write "type": "Feature".',
)
def _(feature: dict[str, Any]) -> str | None:
    kind = feature.get("type")
    return None if kind == "Feature" else f"type is {shown(kind)}"


@FEATURE.rule(
    "id-null",
    always(Severity.ABORTS),
    "An id that is null, an object, or a list of any but one, ends the import.",
    "Leave the id out, or write a UUID.",
)
def _(feature: dict[str, Any]) -> str | None:
    identity = feature.get("id", "")
    return None if is_text(alone(identity)) else f"id is {shown(identity)}"


@FEATURE.rule(
    "id-not-a-uuid",
    since("0.4", Severity.CHANGED),
    "An id that is no UUID is replaced by a random one.",
    "Write a UUID with its dashes.",
)
def _(feature: dict[str, Any]) -> str | None:
    identity = alone(feature.get("id"))
    if not is_text(identity):
        return None
    if isinstance(identity, str) and (JAVA_UUID.fullmatch(identity) or identity in LEGACY_IDS):
        return None
    return f"id is {shown(feature['id'])}"


@FEATURE.rule(
    "id-rewritten",
    since("0.4", Severity.CHANGED),
    "The UUID is kept, but QuPath writes it in another way.",
    "Write it in lower case, with 8-4-4-4-12 digits.",
)
def _(feature: dict[str, Any]) -> str | None:
    stated = feature.get("id")
    identity = alone(stated)
    if not isinstance(identity, str) or not JAVA_UUID.fullmatch(identity):
        return None
    if isinstance(stated, str) and CANONICAL_UUID.fullmatch(stated):
        return None
    return f"id is {shown(stated)}"


@FEATURE.rule(
    "id-missing",
    since("0.4", Severity.ADVICE),
    "The object gets a random id, another one at every import.",
    "Give every object a UUID.",
)
def _(feature: dict[str, Any]) -> str | None:
    if "id" not in feature:
        return "no id"
    identity = feature["id"]
    return "no id" if isinstance(identity, str) and identity in LEGACY_IDS else None


@FEATURE.rule(
    "geometry-missing",
    always(Severity.ABORTS),
    "A feature without geometry ends the import.",
    "Leave such a feature out.",
)
def _(feature: dict[str, Any]) -> str | None:
    geometry = feature.get("geometry")
    if isinstance(geometry, dict):
        return None
    return f"geometry is {shown(geometry)}" if "geometry" in feature else "no geometry"


@FEATURE.rule(
    "geometry-empty",
    always(Severity.ABORTS),
    "A geometry without a type ends the import, save of a cell with a nucleus and of a root.",
    "Leave such a feature out.",
)
def _(feature: dict[str, Any]) -> str | None:
    if not is_shapeless(feature.get("geometry")):
        return None
    kind = object_type(feature)
    nucleus = feature.get("nucleusGeometry")
    has_nucleus = isinstance(nucleus, dict) and not is_shapeless(nucleus)
    if kind == "root" or (kind == "cell" and has_nucleus):
        return None
    return f"no type, in a feature of type {kind}"


@FEATURE.rule(
    "geometry-empty-before-0.4",
    until("0.3", Severity.ABORTS),
    "In QuPath 0.2 and 0.3, a geometry without a type ends the import of any object.",
    "Use QuPath 0.4 or later.",
)
def _(feature: dict[str, Any]) -> str | None:
    return "no type" if is_shapeless(feature.get("geometry")) else None


@FEATURE.rule(
    "nucleus-unreadable",
    always(Severity.ABORTS),
    "A nucleusGeometry that is null or no geometry ends the import.",
    "Leave it out where there is no nucleus.",
)
def _(feature: dict[str, Any]) -> str | None:
    nucleus = feature.get("nucleusGeometry", {})
    return None if isinstance(nucleus, dict) else f"it is {shown(nucleus)}"


@FEATURE.rule(
    "nucleus-of-no-cell",
    always(Severity.LOST),
    "Only cells keep a nucleusGeometry.",
    'Write "objectType": "cell".',
)
def _(feature: dict[str, Any]) -> str | None:
    kind = object_type(feature)
    return f"type is {kind}" if "nucleusGeometry" in feature and kind != "cell" else None


@FEATURE.rule(
    "tma-core-plane",
    always(Severity.LOST),
    "A TMA core loses its plane.",
    "Leave the plane of TMA cores out.",
)
def _(feature: dict[str, Any]) -> str | None:
    geometry = feature.get("geometry")
    on_plane = isinstance(geometry, dict) and "plane" in geometry
    return "a plane" if on_plane and object_type(feature) == "tmaCore" else None


@FEATURE.rule(
    "tma-core-by-dialog",
    always(Severity.ADVICE),
    "QuPath's import dialog leaves TMA cores out; a script takes them.",
    "Import them with importObjectsFromFile.",
)
def _(feature: dict[str, Any]) -> str | None:
    return "type is tmaCore" if object_type(feature) == "tmaCore" else None


@FEATURE.rule(
    "root-object",
    since("0.6", Severity.LOST, before=Severity.ABORTS),
    "A root object is read, and cannot be added to an image.",
    "Write its children as features of a FeatureCollection.",
)
def _(feature: dict[str, Any]) -> str | None:
    return "type is root" if object_type(feature) == "root" else None


@FEATURE.rule(
    "properties-unreadable",
    always(Severity.ABORTS),
    "Properties that are null or no object end the import.",
    "Leave them out, or write an object.",
)
def _(feature: dict[str, Any]) -> str | None:
    properties = feature.get("properties", {})
    return None if isinstance(properties, dict) else f"properties is {shown(properties)}"


@FEATURE.rule(
    "misplaced-member",
    always(Severity.LOST),
    "QuPath looks for this member elsewhere, and passes it over.",
    "The properties of an object belong into properties, its geometries beside them.",
)
def _(feature: dict[str, Any]) -> str | None:
    if feature.keys() <= MEMBERS:
        return None
    inner = sorted(feature.keys() & (PROPERTIES | {"plane", "isEllipse"}))
    return f"{', '.join(inner)} beside properties" if inner else None


@FEATURE.rule(
    "unknown-member",
    always(Severity.LOST),
    "QuPath passes over members of a feature that it does not know.",
    "Numbers belong into measurements, text into metadata.",
)
def _(feature: dict[str, Any]) -> str | None:
    if feature.keys() <= MEMBERS:
        return None
    unknown = sorted(feature.keys() - MEMBERS - PROPERTIES - {"plane", "isEllipse"})
    return ", ".join(shown(name) for name in unknown[:3]) if unknown else None
