"""Rules on the properties of a feature, save its classification and measurements."""

from __future__ import annotations

from typing import Any

from wsi_engine.qupath.rules.feature import OBJECT_TYPES, PROPERTIES, TYPE_KEYS
from wsi_engine.qupath.rules.gson import alone, is_text, is_whole, number
from wsi_engine.qupath.rules.rule import (
    JSONCheck,
    RuleTable,
    Severity,
    always,
    shown,
    since,
    until,
)

PLAIN_PROPERTIES = frozenset({"objectType", "classification", "measurements"})


def _is_ordinary(properties: dict[str, Any]) -> bool:
    # Classification and measurements have rules of their own.
    kind = properties.get("objectType")
    return properties.keys() <= PLAIN_PROPERTIES and isinstance(kind, str) and kind in OBJECT_TYPES


PROPERTY: RuleTable[JSONCheck] = RuleTable(_is_ordinary)
"""Each check is given the properties of a feature: any JSON object."""

GEOMETRY_MEMBERS = ("plane", "isEllipse", "nucleusGeometry")


def _stated_type(properties: dict[str, Any]) -> tuple[str, Any] | None:
    return next(((key, properties[key]) for key in TYPE_KEYS if key in properties), None)


@PROPERTY.rule(
    "object-type-unreadable",
    always(Severity.ABORTS),
    "An object type that is null, a list or an object ends the import.",
    "Write one of annotation, detection, cell, tile, tmaCore.",
)
def _(properties: dict[str, Any]) -> str | None:
    stated = _stated_type(properties)
    if stated is None or is_text(alone(stated[1])):
        return None
    return f"{stated[0]} is {shown(stated[1])}"


@PROPERTY.rule(
    "object-type-unknown",
    always(Severity.CHANGED),
    "An object of a type that QuPath does not know becomes an annotation.",
    "Write one of annotation, detection, cell, tile, tmaCore, in this spelling.",
)
def _(properties: dict[str, Any]) -> str | None:
    stated = _stated_type(properties)
    if stated is None or not is_text(name := alone(stated[1])):
        return None
    known = isinstance(name, str) and name in OBJECT_TYPES
    return None if known else f"{stated[0]} is {shown(stated[1])}"


@PROPERTY.rule(
    "object-type-alias",
    since("0.4", Severity.ADVICE),
    "QuPath takes this property for the type of the object.",
    "Name it objectType.",
)
def _(properties: dict[str, Any]) -> str | None:
    stated = _stated_type(properties)
    return stated[0] if stated is not None and stated[0] != "objectType" else None


@PROPERTY.rule(
    "name-unreadable",
    always(Severity.ABORTS),
    "A name that is null, a list or an object ends the import.",
    "Leave the name out where there is none.",
)
def _(properties: dict[str, Any]) -> str | None:
    name = properties.get("name", "")
    return None if is_text(alone(name)) else f"name is {shown(name)}"


@PROPERTY.rule(
    "name-not-text",
    always(Severity.CHANGED),
    "A name that is a number, or a list of one, becomes text.",
    "Write it in quotes.",
)
def _(properties: dict[str, Any]) -> str | None:
    name = properties.get("name", "")
    odd = is_text(alone(name)) and not isinstance(name, str)
    return f"name is {shown(name)}" if odd else None


@PROPERTY.rule(
    "colour-unreadable",
    always(Severity.ABORTS),
    "A colour that is text, or has parts that are no numbers, ends the import.",
    "Write [red, green, blue], each from 0 to 255.",
)
def _(properties: dict[str, Any]) -> str | None:
    colour = properties.get("color")
    if isinstance(colour, str | bool | float) and not is_whole(colour):
        return f"color is {shown(colour)}"
    if isinstance(colour, list) and len(colour) == 3 and _three(colour) is None:
        return f"color is {shown(colour)}"
    return None


@PROPERTY.rule(
    "colour-ignored",
    always(Severity.LOST),
    "A colour of an object that has not three parts is passed over.",
    "Write [red, green, blue], each from 0 to 255.",
)
def _(properties: dict[str, Any]) -> str | None:
    colour = properties.get("color")
    odd = isinstance(colour, dict) or (isinstance(colour, list) and len(colour) != 3)
    return f"color is {shown(colour)}" if odd else None


@PROPERTY.rule(
    "colour-out-of-range",
    always(Severity.CHANGED),
    "A part of a colour that is no whole number from 0 to 255 is cut or wraps around.",
    "Write [red, green, blue], each from 0 to 255.",
)
def _(properties: dict[str, Any]) -> str | None:
    colour = properties.get("color")
    parts = _three(colour)
    return None if parts is None or all(map(is_byte, parts)) else f"color is {shown(colour)}"


@PROPERTY.rule(
    "colour-transparent",
    always(Severity.CHANGED),
    "A packed colour without alpha makes the object invisible.",
    "Write [red, green, blue]; or include alpha: opaque red is -65536.",
)
def _(properties: dict[str, Any]) -> str | None:
    colour = properties.get("color")
    if not is_whole(colour):
        return None
    packed = number(colour)
    opaque = -(2**31) <= packed < 2**31 and int(packed) >> 24 & 255 > 0
    return None if opaque else f"color is {shown(colour)}"


@PROPERTY.rule(
    "flag-not-boolean",
    always(Severity.CHANGED),
    "A flag is true only as true; anything else is false.",
    "Write true or false.",
)
def _(properties: dict[str, Any]) -> str | None:
    for key in ("isLocked", "isMissing"):
        value = properties.get(key)
        is_read = isinstance(value, bool) or (
            isinstance(value, str) and value.lower() in ("true", "false")
        )
        if value is not None and not is_read:
            return f"{key} is {shown(value)}"
    return None


@PROPERTY.rule(
    "metadata-ignored",
    always(Severity.LOST),
    "Metadata that is no text or number is passed over.",
    "Write metadata as an object of texts.",
)
def _(properties: dict[str, Any]) -> str | None:
    metadata = properties.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        return f"metadata is {shown(metadata)}"
    for key, value in metadata.items():
        if isinstance(value, list | dict | None):
            return f"{shown(key)} is {shown(value)}"
    return None


@PROPERTY.rule(
    "metadata-not-text",
    always(Severity.CHANGED),
    "Numbers in metadata become text.",
    "Write them in quotes, or among the measurements.",
)
def _(properties: dict[str, Any]) -> str | None:
    metadata = properties.get("metadata")
    if isinstance(metadata, dict):
        for key, value in metadata.items():
            if isinstance(value, int | float):
                return f"{shown(key)} is {shown(value)}"
    return None


@PROPERTY.rule(
    "metadata-before-0.6",
    until("0.5", Severity.LOST),
    "Before QuPath 0.6 only annotations and TMA cores keep metadata: a detection, cell or tile "
    "loses all of it.",
    "Use QuPath 0.6 or later.",
)
def _(properties: dict[str, Any]) -> str | None:
    metadata = properties.get("metadata")
    name = alone((_stated_type(properties) or ("", ""))[1])
    kind = OBJECT_TYPES.get(name) if isinstance(name, str) else None
    if kind not in ("detection", "cell", "tile") or not isinstance(metadata, dict):
        return None
    return ", ".join(shown(key) for key in list(metadata)[:3]) or None


@PROPERTY.rule(
    "children-ignored",
    since("0.4", Severity.LOST),
    "Children that are no list are passed over.",
    "Write childObjects as a list of features.",
)
def _(properties: dict[str, Any]) -> str | None:
    children = children_member(properties)
    return None if isinstance(children, list | None) else f"they are {shown(children)}"


@PROPERTY.rule(
    "children-unreadable",
    since("0.4", Severity.ABORTS),
    "A child that is no feature ends the import.",
    "Write childObjects as a list of features.",
)
def _(properties: dict[str, Any]) -> str | None:
    children = children_member(properties)
    if isinstance(children, list):
        for child in children:
            if not isinstance(child, dict):
                return f"one is {shown(child)}"
    return None


@PROPERTY.rule(
    "children-before-0.4",
    until("0.3", Severity.LOST),
    "QuPath 0.2 and 0.3 do not read the children of an object.",
    "Write all objects as features of the collection.",
)
def _(properties: dict[str, Any]) -> str | None:
    return "children" if children_member(properties) else None


@PROPERTY.rule(
    "misplaced-geometry",
    always(Severity.LOST),
    "QuPath looks for this member elsewhere, and passes it over.",
    "plane and isEllipse belong into the geometry, nucleusGeometry beside it.",
)
def _(properties: dict[str, Any]) -> str | None:
    inner = [key for key in GEOMETRY_MEMBERS if key in properties]
    return f"{', '.join(inner)} in properties" if inner else None


@PROPERTY.rule(
    "unknown-property",
    always(Severity.LOST),
    "QuPath passes over properties that it does not know.",
    "Numbers belong into measurements, text into metadata.",
)
def _(properties: dict[str, Any]) -> str | None:
    if properties.keys() <= PROPERTIES:
        return None
    unknown = sorted(unknown_properties(properties))
    return ", ".join(shown(name) for name in unknown[:3]) if unknown else None


def unknown_properties(properties: dict[str, Any]) -> set[str]:
    """Return the names of the properties that QuPath passes over, wherever they belong."""
    unknown = properties.keys() - PROPERTIES - set(GEOMETRY_MEMBERS)
    if "objectType" not in properties and "object_type" not in properties:
        unknown.discard("type")
    return unknown


def children_member(properties: dict[str, Any]) -> Any:
    """Return what a feature states of its children, under either name."""
    return properties.get("childObjects" if "childObjects" in properties else "children")


def _three(colour: Any) -> list[Any] | None:
    """Return the three parts of an object's colour as QuPath reads them; none where it cannot."""
    if not isinstance(colour, list) or len(colour) != 3:
        return None
    parts = list(map(alone, colour))
    return parts if all(map(is_whole, parts)) else None


def is_byte(value: Any) -> bool:
    """Tell whether a number, or the text of one, is whole and from 0 to 255."""
    return 0 <= number(value) <= 255 and number(value) == int(value)
