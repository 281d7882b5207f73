"""The nearest properties that QuPath takes as they are."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from wsi_engine.qupath.colours import class_colour
from wsi_engine.qupath.repair_geometry import Say
from wsi_engine.qupath.rules.feature import OBJECT_TYPES
from wsi_engine.qupath.rules.geometry import as_float
from wsi_engine.qupath.rules.gson import alone, is_number, is_whole, number
from wsi_engine.qupath.rules.measurements import (
    FLOAT32_MAX,
    FLOAT32_TINIEST,
    FLOAT32_WHOLE,
    JAVA_NUMBER,
    stated_values,
)
from wsi_engine.qupath.rules.properties import unknown_properties

Properties = dict[str, Any]

HEX_DIGITS = 6
HEX_COLOUR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_TYPES_BY_LOWER_CASE = {name.lower(): kind for name, kind in OBJECT_TYPES.items()}


def mended_type(stated: Any, say: Say) -> str:
    """Return one of QuPath's object types, in the spelling that QuPath writes."""
    kind = OBJECT_TYPES.get(stated) if isinstance(stated, str) else None
    if kind is None:
        kind = _TYPES_BY_LOWER_CASE.get(str(stated).lower(), "annotation")
    if kind != stated:
        say(f"stated the object type: {kind}")
    return kind


def mended_properties(properties: Properties, kind: str, say: Say, *, with_nan: bool) -> Properties:
    """Return properties that QuPath takes as they are, without children.

    Parameters
    ----------
    properties
        The properties of a feature, as they are written.
    kind
        Object type, one that QuPath writes.
    say
        Is told what was changed.
    with_nan
        Whether QuPath is to get measurements that are NaN or infinite, which 0.4 cannot read.
    """
    mended: Properties = {"objectType": kind}
    if "name" in properties:
        name = alone(properties["name"])
        if isinstance(name, str):
            mended["name"] = name
        elif is_number(name) or isinstance(name, bool):
            say("made text of a name")
            mended["name"] = json.dumps(name)
        else:
            say("left out a name that is none")
    # Under the second name QuPath kept the colour of a class, and other tools that of an object.
    for key in ("color", "colorRGB"):
        if properties.get(key) is not None and "color" not in mended:
            colour = mended_colour(properties[key], say)
            if colour is not None:
                mended["color"] = colour[:3]
    if properties.get("classification") is not None:
        classification = mended_classification(properties["classification"], say)
        if classification is not None:
            mended["classification"] = classification
    for key in ("isLocked", "isMissing"):
        flag = properties.get(key)
        if flag is not None:
            mended[key] = flag is True or flag in ("true", 1)
            if mended[key] is not flag:
                say(f"made true or false of {key}")
    measurements = mended_measurements(properties.get("measurements"), say, with_nan=with_nan)
    metadata = mended_metadata(properties.get("metadata"), say)
    for key in sorted(unknown_properties(properties) - {"colorRGB"}):
        keep_unknown(key, properties[key], measurements, metadata, say)
    if measurements:
        mended["measurements"] = measurements
    if metadata:
        mended["metadata"] = metadata
    return mended


def keep_unknown(
    name: str, value: Any, measurements: Properties, metadata: Properties, say: Say
) -> None:
    """Keep what QuPath has no place for: numbers as measurements, all else as metadata."""
    kept = mended_number(value, lambda _: None) if is_number(value) else None
    if kept is not None and name not in measurements:
        say("made measurements of numbers that QuPath would pass over")
        measurements[name] = kept
        return
    text = _as_text(value)
    if text is not None and name not in metadata:
        say("made metadata of members that QuPath would pass over")
        metadata[name] = text
    else:
        say("left out members that QuPath would pass over")


def mended_colour(colour: Any, say: Say) -> list[int] | None:
    """Return red, green, blue and, where it matters, alpha; none where no colour is meant."""
    packed = colour[0] if isinstance(colour, list) and len(colour) == 1 else colour
    if is_number(packed) and math.isfinite(packed):
        say("unpacked a colour")
        return [int(packed) >> shift & 255 for shift in (16, 8, 0)]
    if isinstance(colour, str) and is_whole(colour) and len(colour) != HEX_DIGITS:
        return mended_colour(number(colour), say)
    matched = HEX_COLOUR.fullmatch(colour) if isinstance(colour, str) else None
    if matched:
        say("made numbers of a colour that was text")
        return [int(part, 16) for part in matched.groups()]
    if isinstance(colour, list) and not all(map(is_number, colour)):
        parts = list(map(alone, colour))
        if all(is_whole(part) for part in parts):
            say("made numbers of a colour that was text")
            colour = list(map(number, parts))
    if not isinstance(colour, list) or len(colour) not in (3, 4) or not all(map(is_number, colour)):
        say("left out a colour that is none")
        return None
    parts = [part if math.isfinite(part) else 0 for part in colour]
    # Fractions of 1 are what matplotlib has for a colour.
    scale = 255 if all(0 <= p <= 1 for p in parts) and any(p != int(p) for p in parts) else 1
    mended = [int(min(max(round(part * scale), 0), 255)) for part in parts]
    if mended != colour:
        say("brought a colour into the range from 0 to 255")
    return mended


def mended_classification(classification: Any, say: Say) -> Properties | None:
    """Return a class of clean names with a colour; none for an unclassified object."""
    names, stated = _names(classification), None
    cleaned = [name for name in (" ".join(name.split()) for name in names) if name]
    if isinstance(classification, dict):
        stated = classification.get("color", classification.get("colorRGB"))
    if not cleaned:
        if classification not in ({}, None):
            say("left out a classification without a name")
        return None
    if cleaned != names:
        say("cleaned the name of a class")
    colour = None
    if stated is not None and stated != []:
        colour = mended_colour(stated, say)
    if colour is None:
        say("gave a class its colour")
        colour = list(class_colour(": ".join(cleaned)))
    if len(cleaned) == 1:
        return {"name": cleaned[0], "color": colour}
    return {"names": cleaned, "color": colour}


def _names(classification: Any) -> list[str]:
    """Collect the names of a class, from the base to the last derived one, however written."""
    found: list[str] = []
    while isinstance(classification, dict):
        name = classification.get("name")
        found = _texts(classification.get("names") if name is None else name) + found
        classification = classification.get("parentClass")
    return _texts(classification) + found


def _texts(names: Any) -> list[str]:
    if isinstance(names, str):
        return names.split(":")
    if isinstance(names, list):
        return [part for name in names if not isinstance(name, list) for part in _texts(name)]
    return [json.dumps(names)] if is_number(names) and math.isfinite(names) else []


def mended_measurements(measurements: Any, say: Say, *, with_nan: bool) -> Properties:
    """Return numbers that a 32-bit float holds, by name; what is none of them in words."""
    mended: Properties = {}
    if isinstance(measurements, list) and measurements:
        say("wrote a list of measurements as an object")
    elif not isinstance(measurements, dict | list | None):
        say("left out measurements that are none")
    for name, value in stated_values(measurements):
        word = _word(value)
        kept = word if word is not None and with_nan else mended_number(value, say)
        if kept is not None:
            mended[name] = kept
        if with_nan and word is not None and word != value:
            say("wrote measurements that are NaN or infinite as text")
    return mended


def _word(value: Any) -> str | None:
    """Return how QuPath writes a value that is NaN or infinite; none of any other."""
    if isinstance(value, str) and JAVA_NUMBER.fullmatch(value):
        value = as_float(value)
    if not isinstance(value, float) or math.isfinite(value):
        return None
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def mended_number(value: Any, say: Say) -> float | int | None:
    """Return a number as QuPath will hold it; none where it has no such number."""
    if isinstance(value, str) and JAVA_NUMBER.fullmatch(value):
        value = as_float(value)
        if math.isfinite(value):
            say("made numbers of measurements that were text")
    if not is_number(value):
        say("left out measurements that are no numbers")
    elif not abs(value) < math.inf:
        say("left out measurements that are NaN or infinite")
    elif abs(value) > FLOAT32_MAX:
        say("left out measurements beyond the range of 32-bit floats")
    elif 0 < abs(value) < FLOAT32_TINIEST:
        say("made 0 of measurements below the range of 32-bit floats")
        return 0
    elif type(value) is int and abs(value) > FLOAT32_WHOLE:
        kept = int(np.float32(value))
        if kept != value:
            say("rounded whole numbers to 32-bit floats")
        return float(kept)
    else:
        return value
    return None


def mended_metadata(metadata: Any, say: Say) -> Properties:
    """Return texts by name."""
    mended: Properties = {}
    if metadata is None:
        return mended
    if not isinstance(metadata, dict):
        say("left out metadata that are none")
        return mended
    for key, value in metadata.items():
        text = _as_text(value)
        if text is None:
            say("left out metadata that are null")
        else:
            mended[key] = text
            if text is not value:
                say("made text of metadata")
    return mended


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except (RecursionError, ValueError):
        return None
