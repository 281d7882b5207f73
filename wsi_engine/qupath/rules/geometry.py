"""Rules on a geometry as it is written: its type, its numbers, its plane."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

from wsi_engine.qupath.rules.gson import alone, is_number, is_text, is_whole, number
from wsi_engine.qupath.rules.measurements import JAVA_NUMBER
from wsi_engine.qupath.rules.rule import (
    JSONCheck,
    RuleTable,
    Severity,
    always,
    shown,
    since,
    until,
)

GEOMETRY_MEMBERS = frozenset({"type", "coordinates", "plane", "isEllipse"})

DEPTHS = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
"""Number of lists around the positions of a geometry."""


def _is_plainly_readable(geometry: dict[str, Any]) -> bool:
    """Tell polygons of closed rings, of pairs of finite numbers."""
    if geometry.get("type") != "Polygon" or type(geometry.get("coordinates")) is not list:
        return False
    try:
        for ring in geometry["coordinates"]:
            numbers = list(chain.from_iterable(ring))
            if not (
                type(ring) is list
                and len(ring) >= 4
                and set(map(len, ring)) == {2}
                and set(map(type, ring)) == {list}
                and set(map(type, numbers)) <= {int, float}
                and math.isfinite(sum(numbers))
                and ring[0] == ring[-1]
            ):
                return False
    except (TypeError, OverflowError):
        return False
    return True


def _is_ordinary(geometry: dict[str, Any]) -> bool:
    if len(geometry) != 2 or geometry["type"] != "Polygon":
        return False
    return all(set(map(len, ring)) == {2} for ring in geometry["coordinates"])


READABILITY: RuleTable[JSONCheck] = RuleTable(_is_plainly_readable)
"""Each check is given a geometry, a JSON object, that the checks above it found fine."""

GEOMETRY: RuleTable[JSONCheck] = RuleTable(_is_ordinary)
"""Each check is given a geometry that QuPath can read."""


@READABILITY.rule(
    "geometry-collection",
    since("0.6", Severity.ABORTS, before=Severity.CHANGED),
    "A GeometryCollection ends the import; before QuPath 0.6, only its polygons were kept.",
    "Write a MultiPolygon, or several features.",
)
def _(geometry: dict[str, Any]) -> str | None:
    return "a GeometryCollection" if geometry.get("type") == "GeometryCollection" else None


@READABILITY.rule(
    "geometry-type-unknown",
    always(Severity.ABORTS),
    "A geometry of an unknown type ends the import.",
    "Write a Polygon, MultiPolygon, LineString, Point or MultiPoint.",
)
def _(geometry: dict[str, Any]) -> str | None:
    kind = geometry.get("type")
    return None if isinstance(kind, str) and kind in DEPTHS else f"type is {shown(kind)}"


@READABILITY.rule(
    "coordinates-unreadable",
    always(Severity.ABORTS),
    "Coordinates that are missing, or not nested as the type of the geometry demands, end "
    "the import.",
    "Write positions as [x, y].",
)
def _(geometry: dict[str, Any]) -> str | None:
    level: list[Any] = [geometry.get("coordinates")]
    for _depth in range(DEPTHS[geometry["type"]]):
        for item in level:
            if not isinstance(item, list):
                return f"{shown(item)} instead of a list"
        level = list(chain.from_iterable(level))
    for position in level:
        if type(position) is not list or len(position) < 2:
            return f"{shown(position)} instead of a position"
    numbers = list(chain.from_iterable(position[:3] for position in level))
    if set(map(type, numbers)) <= {int, float}:
        return None
    for stated in numbers:
        number = alone(stated)
        if not is_number(number) and not _is_text_of_number(number):
            return f"{shown(stated)} instead of a number"
    return None


@READABILITY.rule(
    "coordinate-not-finite",
    always(Severity.ABORTS),
    "In a polygon, a coordinate that is NaN or infinite ends the import.",
    "Leave such a feature out.",
)
def _(geometry: dict[str, Any]) -> str | None:
    return _not_finite(geometry) if geometry["type"] in ("Polygon", "MultiPolygon") else None


@READABILITY.rule(
    "line-too-short",
    always(Severity.ABORTS),
    "A line of one position ends the import.",
    "Write a Point.",
)
def _(geometry: dict[str, Any]) -> str | None:
    if geometry["type"] in ("LineString", "MultiLineString"):
        for line in rings(geometry):
            if len(line) == 1:
                return f"a line of {shown(line)}"
    return None


@READABILITY.rule(
    "ring-open",
    always(Severity.ABORTS),
    "A ring whose last position is not its first ends the import.",
    "Repeat the first position at the end.",
)
def _(geometry: dict[str, Any]) -> str | None:
    if geometry["type"] in ("Polygon", "MultiPolygon"):
        for ring in rings(geometry):
            if ring and _xy(ring[0]) != _xy(ring[-1]):
                return f"it begins at {shown(ring[0])} and ends at {shown(ring[-1])}"
    return None


@READABILITY.rule(
    "ring-too-short",
    always(Severity.ABORTS),
    "A ring of one or two positions ends the import.",
    "Write at least three different positions, and the first again.",
)
def _(geometry: dict[str, Any]) -> str | None:
    if geometry["type"] in ("Polygon", "MultiPolygon"):
        for ring in rings(geometry):
            if 0 < len(ring) < 3:
                return f"a ring of {len(ring)}"
    return None


@READABILITY.rule(
    "position-not-finite",
    always(Severity.LOST),
    "QuPath takes a line, or points, with a coordinate that is NaN or infinite: it lies nowhere.",
    "Leave such a position out.",
)
def _(geometry: dict[str, Any]) -> str | None:
    return _not_finite(geometry)


@GEOMETRY.rule(
    "multilinestring",
    since("0.6", Severity.LOST),
    "A MultiLineString is imported, but QuPath's next export of it ends in a stack overflow.",
    "Write a feature for each line.",
)
def _(geometry: dict[str, Any]) -> str | None:
    return "a MultiLineString" if geometry["type"] == "MultiLineString" else None


@GEOMETRY.rule(
    "multipolygon-of-one",
    until("0.5", Severity.ABORTS),
    "Before QuPath 0.6, a MultiPolygon of one part, save a rectangle, ends the import.",
    "Write a Polygon.",
)
def _(geometry: dict[str, Any]) -> str | None:
    if geometry["type"] != "MultiPolygon" or len(geometry["coordinates"]) != 1:
        return None
    part = geometry["coordinates"][0]
    return None if len(part) == 1 and _is_rectangle(part[0]) else "one part"


@GEOMETRY.rule(
    "third-coordinate",
    always(Severity.LOST),
    "Of a position QuPath reads x and y alone.",
    'Write the focal plane as "plane": {"c": -1, "z": …, "t": 0} in the geometry.',
)
def _(geometry: dict[str, Any]) -> str | None:
    for ring in rings(geometry):
        if set(map(len, ring)) - {2}:
            return "a position of more than two numbers"
    return None


@GEOMETRY.rule(
    "plane-unreadable",
    always(Severity.ABORTS),
    "A plane that is null, has members but c, z and t, or a negative z or t, ends the import.",
    'Write "plane": {"c": -1, "z": 0, "t": 0}, or leave it out.',
)
def _(geometry: dict[str, Any]) -> str | None:
    if "plane" not in geometry:
        return None
    plane = geometry["plane"]
    if not isinstance(plane, dict):
        return f"plane is {shown(plane)}"
    for key, value in plane.items():
        if key not in ("c", "z", "t"):
            return f"plane has {shown(key)}"
        if not is_whole(value) or (key != "c" and int(value) < 0):
            return f"{key} is {shown(value)}"
    return None


@GEOMETRY.rule(
    "plane-cut",
    always(Severity.CHANGED),
    "Of a plane's number QuPath takes the 32 bits before the decimal point.",
    'Write "plane": {"c": -1, "z": 0, "t": 0}, in whole numbers.',
)
def _(geometry: dict[str, Any]) -> str | None:
    plane = geometry.get("plane")
    for key, value in plane.items() if isinstance(plane, dict) else ():
        if is_whole(value) and (
            number(value) != int(value) or not -(2**31) <= number(value) < 2**31
        ):
            return f"{key} is {shown(value)}"
    return None


@GEOMETRY.rule(
    "ellipse-unreadable",
    since("0.4", Severity.ABORTS),
    "An isEllipse that is null, an object, or a list of any but one, ends the import.",
    "Write true, or leave it out.",
)
def _(geometry: dict[str, Any]) -> str | None:
    flag = geometry.get("isEllipse", True)
    return None if is_text(alone(flag)) else f"isEllipse is {shown(flag)}"


@GEOMETRY.rule(
    "ellipse-before-0.4",
    until("0.3", Severity.CHANGED),
    "QuPath 0.2 and 0.3 take an ellipse for the polygon that outlines it.",
    "Use QuPath 0.4 or later.",
)
def _(geometry: dict[str, Any]) -> str | None:
    return "isEllipse" if geometry.get("isEllipse") is True else None


@GEOMETRY.rule(
    "geometry-member-unknown",
    always(Severity.LOST),
    "QuPath passes over members of a geometry that it does not know.",
    "Leave them out.",
)
def _(geometry: dict[str, Any]) -> str | None:
    if geometry.keys() <= GEOMETRY_MEMBERS:
        return None
    return ", ".join(shown(name) for name in sorted(geometry.keys() - GEOMETRY_MEMBERS)[:3])


def rings(geometry: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the rings, lines or sets of points of which a readable geometry consists."""
    coordinates = geometry["coordinates"]
    depth = DEPTHS[geometry["type"]]
    if depth == 0:
        yield [coordinates]
    elif depth == 1:
        yield coordinates
    elif depth == 2:
        yield from coordinates
    else:
        for part in coordinates:
            yield from part


def positions(geometry: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the positions of a readable geometry."""
    return chain.from_iterable(rings(geometry))


def as_float(stated: Any) -> float:
    """Read a coordinate as Java does: a number, the text of one, or a list of one."""
    text = alone(stated)
    if not isinstance(text, str):
        return _finite_or_infinite(text)
    text = text.strip()
    return float(text[:-1] if text[-1] in "fFdD" and text[-3:] != "inf" else text)


def _finite_or_infinite(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _not_finite(geometry: dict[str, Any]) -> str | None:
    for position in positions(geometry):
        for coordinate in position[:2]:
            if not math.isfinite(as_float(coordinate)):
                return f"a coordinate is {shown(coordinate)}"
    return None


def _is_text_of_number(value: object) -> bool:
    return isinstance(value, str) and JAVA_NUMBER.fullmatch(value) is not None


def _xy(position: list[Any]) -> list[float]:
    return [as_float(stated) for stated in position[:2]]


def _is_rectangle(ring: list[Any]) -> bool:
    if len(ring) != 5:
        return False
    corners = [_xy(position) for position in ring]
    xs, ys = {x for x, _ in corners}, {y for _, y in corners}
    sides = pairwise(corners)
    return len(xs) == len(ys) == 2 and all((a[0] == b[0]) != (a[1] == b[1]) for a, b in sides)
