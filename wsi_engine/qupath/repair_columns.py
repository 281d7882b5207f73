"""What a table made of the members of objects, made members again.

GDAL, and geopandas by its way, hold properties as columns: they write an id among them, JSON
within a text, and ``classification.name`` for the name within a classification.
"""

from __future__ import annotations

from typing import Any

from wsi_engine.qupath.lenient_json import JSONError, parse_json
from wsi_engine.qupath.repair_geometry import Say
from wsi_engine.qupath.rules.feature import CANONICAL_UUID

NESTED = ("classification", "measurements", "metadata")
"""Properties that are objects."""

LISTED = ("color", "childObjects", "children")
"""Properties that may be lists."""


def without_columns(feature: dict[str, Any], say: Say) -> dict[str, Any]:
    """Return a feature, whose properties are an object, with its members as QuPath has them."""
    properties = _parsed(_gathered(feature["properties"], say), say)
    identity = properties.get("id")
    if isinstance(identity, str) and CANONICAL_UUID.fullmatch(identity.lower()):
        stated = feature.get("id")
        if not isinstance(stated, str) or not CANONICAL_UUID.fullmatch(stated.lower()):
            say("took the id from the properties")
            feature = feature | {"id": identity}
        if feature["id"] == identity:
            properties = {key: value for key, value in properties.items() if key != "id"}
    return feature | {"properties": properties}


def _gathered(properties: dict[str, Any], say: Say) -> dict[str, Any]:
    """Put ``measurements.X`` and its like into the objects that they were taken from."""
    columns = [key for key in properties if key.startswith(tuple(f"{name}." for name in NESTED))]
    if not columns:
        return properties
    say("gathered the columns of a table into the objects that they were")
    gathered = {key: value for key, value in properties.items() if key not in columns}
    for key in columns:
        name, _, member = key.partition(".")
        stated = gathered.get(name)
        # A table has a value in every row: where it knows none, it is null.
        if properties[key] is None:
            continue
        if stated is None:
            gathered[name] = {member: properties[key]}
        elif isinstance(stated, dict):
            gathered[name] = stated if member in stated else stated | {member: properties[key]}
        else:
            gathered[key] = properties[key]
    classification = gathered.get("classification")
    if isinstance(classification, dict):
        gathered["classification"] = {k: _read(v) for k, v in classification.items()}
    return gathered


def _parsed(properties: dict[str, Any], say: Say) -> dict[str, Any]:
    """Read the JSON that stands within a text."""
    parsed = {key: _read(properties.get(key)) for key in NESTED + LISTED if key in properties}
    if all(parsed[key] is properties[key] for key in parsed):
        return properties
    say("read JSON that was written as text")
    return properties | parsed


def _read(value: Any) -> Any:
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return parse_json(value.encode())
    except (JSONError, UnicodeEncodeError):
        return value
