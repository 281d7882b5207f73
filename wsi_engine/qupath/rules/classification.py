"""Rules on the classification of a feature."""

from __future__ import annotations

import re
from typing import Any

from wsi_engine.qupath.rules.properties import is_byte, is_number
from wsi_engine.qupath.rules.rule import (
    JSONCheck,
    RuleTable,
    Severity,
    always,
    only,
    shown,
    since,
)

# Letters and digits of any script, ASCII punctuation, blanks.
_PLAIN_NAME = re.compile(r"[\w!-~ ]*")


def _is_ordinary(classification: Any) -> bool:
    if type(classification) is not dict or classification.keys() != {"name", "color"}:
        return False
    name, colour = classification["name"], classification["color"]
    return (
        type(name) is str
        and name.replace(" ", "").isalnum()
        and not (name[0] == " " or name[-1] == " ")
        and type(colour) is list
        and len(colour) == 3
        and set(map(type, colour)) == {int}
        and min(colour) >= 0
        and max(colour) <= 255
    )


CLASSIFICATION: RuleTable[JSONCheck] = RuleTable(_is_ordinary)
"""Each check is given a classification: any JSON value."""


def _written(classification: Any) -> dict[str, Any] | None:
    """Return the classification if it is an object in the dialect of QuPath 0.4 and later."""
    if not isinstance(classification, dict) or not classification:
        return None
    if "colorRGB" in classification or "parentClass" in classification:
        return None
    return classification


def class_names(classification: Any) -> list[Any]:
    """Return the names of a class from the base to the last derived one, as they are written."""
    found: list[Any] = []
    while isinstance(classification, dict):
        name = classification.get("name")
        if isinstance(name, str):
            found = name.split(":") + found
        else:
            names = classification.get("names") if name is None else [name]
            found = (names if isinstance(names, list) else []) + found
        classification = classification.get("parentClass")
    return classification.split(":") + found if isinstance(classification, str) else found


@CLASSIFICATION.rule(
    "class-unreadable",
    always(Severity.ABORTS),
    "A classification that is a number or a list ends the import.",
    'Write {"name": …, "color": [red, green, blue]}.',
)
def _(classification: Any) -> str | None:
    readable = isinstance(classification, str | dict | None)
    return None if readable else f"classification is {shown(classification)}"


@CLASSIFICATION.rule(
    "class-not-an-object",
    only("0.3", Severity.ABORTS),
    "QuPath 0.2 and 0.3 take only an object for a classification.",
    'Write {"name": …, "color": [red, green, blue]}, or nothing for unclassified objects.',
)
def _(classification: Any) -> str | None:
    odd = isinstance(classification, str | None)
    return f"classification is {shown(classification)}" if odd else None


@CLASSIFICATION.rule(
    "class-without-colour",
    since("0.4", Severity.ABORTS),
    "A classification object without color ends the import.",
    'Write {"name": …, "color": [red, green, blue]}.',
)
def _(classification: Any) -> str | None:
    written = _written(classification)
    if written is None or "color" in written:
        return None
    return f"{shown(written.get('name', written.get('names')))} has no color"


@CLASSIFICATION.rule(
    "class-without-name",
    since("0.4", Severity.ABORTS),
    "A classification object with neither name nor names ends the import.",
    "Leave the classification of unclassified objects out.",
)
def _(classification: Any) -> str | None:
    written = _written(classification)
    return "no name" if written is not None and not written.keys() & {"name", "names"} else None


@CLASSIFICATION.rule(
    "class-colour-unreadable",
    since("0.4", Severity.ABORTS),
    "A class colour that has not 0, 1, 3 or 4 numbers in a list ends the import.",
    "Write [red, green, blue], each from 0 to 255.",
)
def _(classification: Any) -> str | None:
    written = _written(classification)
    if written is None or (colour := written.get("color")) is None:
        return None
    readable = (
        isinstance(colour, list)
        and len(colour) in (0, 1, 3, 4)
        and all(map(is_number, colour))
        and (len(colour) != 1 or -(2**31) <= colour[0] < 2**31)
    )
    return None if readable else f"color is {shown(colour)}"


@CLASSIFICATION.rule(
    "class-colour-out-of-range",
    since("0.4", Severity.CHANGED),
    "A part of a class colour that is no whole number from 0 to 255 is cut or wraps around: "
    "fractions become black.",
    "Write [red, green, blue], each from 0 to 255.",
)
def _(classification: Any) -> str | None:
    written = _written(classification)
    colour = None if written is None else written.get("color")
    if not isinstance(colour, list) or len(colour) < 3 or not all(map(is_number, colour)):
        return None
    return None if all(map(is_byte, colour)) else f"color is {shown(colour)}"


@CLASSIFICATION.rule(
    "class-name-unreadable",
    always(Severity.ABORTS),
    "A class name that is blank, begins with a colon, or holds a line break ends the import; "
    "so does a colon within names.",
    "Write plain names, those of a derived class as a list.",
)
def _(classification: Any) -> str | None:
    names = class_names(classification)
    if isinstance(classification, dict) and not isinstance(classification.get("name"), str):
        stated = classification.get("names") if "name" not in classification else None
        if stated is not None and not isinstance(stated, list):
            return f"names is {shown(stated)}"
        colon = next((n for n in names if isinstance(n, str) and ":" in n), None)
        if colon is not None:
            return f"names holds {shown(colon)}"
    elif names and isinstance(names[-1], str) and not names[-1].strip():
        names = names[:-1] or names  # a trailing colon is dropped
    for name in names:
        if not isinstance(name, str) or not name.strip() or "\n" in name or "\r" in name:
            return f"a name is {shown(name)}"
    return None


@CLASSIFICATION.rule(
    "class-name-trimmed",
    always(Severity.CHANGED),
    "Blanks around a class name, and a colon at its end, are dropped.",
    "Write the name without them.",
)
def _(classification: Any) -> str | None:
    names = class_names(classification)
    written = classification.get("name") if isinstance(classification, dict) else classification
    if isinstance(written, str):
        trimmed = written.strip() != written or written.endswith(":")
        return f"name is {shown(written)}" if trimmed else None
    odd = next((n for n in names if isinstance(n, str) and n != n.strip()), None)
    return None if odd is None else f"a name is {shown(odd)}"


@CLASSIFICATION.rule(
    "class-names-ignored",
    since("0.4", Severity.LOST),
    "Where a class has both name and names, names is passed over.",
    "Write one of them.",
)
def _(classification: Any) -> str | None:
    written = _written(classification)
    if written is None or not isinstance(written.get("name"), str) or not written.get("names"):
        return None
    return f"names is {shown(written['names'])}"


@CLASSIFICATION.rule(
    "class-name-odd",
    always(Severity.ADVICE),
    "QuPath warns of characters in class names that are no letters, digits or ASCII punctuation.",
    "Use plain names where you can.",
)
def _(classification: Any) -> str | None:
    for name in class_names(classification):
        if isinstance(name, str) and not _PLAIN_NAME.fullmatch(name):
            return f"a name is {shown(name)}"
    return None
