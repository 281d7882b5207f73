"""Rules on the classification of a feature."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from wsi_engine.qupath.rules.gson import is_text, is_whole, number
from wsi_engine.qupath.rules.properties import is_byte
from wsi_engine.qupath.rules.rule import (
    JSONCheck,
    RuleTable,
    Severity,
    always,
    shown,
    since,
    until,
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


def is_of_old(classification: dict[str, Any]) -> bool:
    """Tell whether QuPath reads a class as 0.2 and 0.3 wrote it: it then looks for no color."""
    return "colorRGB" in classification or "parentClass" in classification


def is_modern(classification: Any) -> bool:
    """Tell whether a class states what QuPath 0.2 and 0.3 do not look for."""
    return (
        isinstance(classification, dict)
        and bool(classification.keys() & {"color", "names"})
        and "colorRGB" not in classification
    )


def _written(classification: Any) -> dict[str, Any] | None:
    """Return the classification if it is an object in the dialect of QuPath 0.4 and later."""
    if not isinstance(classification, dict) or not classification or is_of_old(classification):
        return None
    return classification


def _generations(classification: Any) -> Iterator[dict[str, Any]]:
    """Yield a class as it is written, the class that it derives from, and so on."""
    while isinstance(classification, dict):
        yield classification
        classification = classification.get("parentClass")


def class_names(classification: Any) -> list[Any]:
    """Return the names of a class from the base to the last derived one, as they are written."""
    if isinstance(classification, str):
        return _parts(classification)
    found: list[Any] = []
    for generation in _generations(classification):
        name = generation.get("name")
        if isinstance(name, str):
            found = _parts(name) + found
        elif name is not None:
            found = [name, *found]
        elif isinstance(names := generation.get("names"), list):
            found = names + found
    return found


def _parts(name: str) -> list[str]:
    """Split a name at its colons as Java does: nothing, and no blank, after the last counts."""
    parts = name.split(":")
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts


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
    until("0.3", Severity.ABORTS),
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
        isinstance(colour, list) and len(colour) in (0, 1, 3, 4) and all(map(is_whole, colour))
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
    if not isinstance(colour, list) or not all(map(is_whole, colour)):
        return None
    if len(colour) == 1:
        return None if -(2**31) <= number(colour[0]) < 2**31 else f"color is {shown(colour)}"
    return None if all(map(is_byte, colour)) else f"color is {shown(colour)}"


@CLASSIFICATION.rule(
    "class-packed-colour-unreadable",
    always(Severity.ABORTS),
    "A colorRGB that is a list, or no whole number, ends the import, also beside a color.",
    'Write "color": [red, green, blue], and no colorRGB.',
)
def _(classification: Any) -> str | None:
    for generation in _generations(classification):
        packed = generation.get("colorRGB")
        if packed is not None and not is_whole(packed):
            return f"colorRGB is {shown(packed)}"
    return None


@CLASSIFICATION.rule(
    "class-parent-unreadable",
    always(Severity.ABORTS),
    "A parentClass that is no object ends the import.",
    'Write a derived class as {"names": [base, derived], "color": [red, green, blue]}.',
)
def _(classification: Any) -> str | None:
    for generation in _generations(classification):
        parent = generation.get("parentClass")
        if not isinstance(parent, dict | None):
            return f"parentClass is {shown(parent)}"
    return None


@CLASSIFICATION.rule(
    "class-names-unreadable",
    since("0.4", Severity.ABORTS),
    "Names of a class that are no list end the import, also beside a name.",
    "Write a list of texts, or a name alone.",
)
def _(classification: Any) -> str | None:
    names = (_written(classification) or {}).get("names")
    return None if isinstance(names, list | None) else f"names is {shown(names)}"


@CLASSIFICATION.rule(
    "class-name-unreadable",
    always(Severity.ABORTS),
    "A class name that is blank, begins with a colon, or holds a line break ends the import; "
    "so does a colon within names.",
    "Write plain names, those of a derived class as a list.",
)
def _(classification: Any) -> str | None:
    names = class_names(classification)
    if _ends_blank(classification):
        names = names[:-1]
    if (written := _written(classification)) is not None and written.get("name") is None:
        colon = next((n for n in names if isinstance(n, str) and ":" in n), None)
        if colon is not None:
            return f"names holds {shown(colon)}"
    for name in names:
        if not is_text(name) or not str(name).strip() or {"\n", "\r"} & set(str(name)):
            return f"a name is {shown(name)}"
    return None


@CLASSIFICATION.rule(
    "class-name-ends-blank",
    since("0.4", Severity.ABORTS),
    "A class name that ends in a colon and a blank ends the import.",
    "Write the name without them.",
)
def _(classification: Any) -> str | None:
    if not _ends_blank(classification):
        return None
    names = class_names(classification)
    return f"after {shown(names[-2])} comes {shown(names[-1])}"


def _ends_blank(classification: Any) -> bool:
    names = class_names(classification)
    return len(names) > 1 and type(names[-1]) is str and not names[-1].strip()


@CLASSIFICATION.rule(
    "class-name-not-text",
    always(Severity.CHANGED),
    "A class name that is a number becomes text.",
    "Write it in quotes.",
)
def _(classification: Any) -> str | None:
    for name in class_names(classification):
        if isinstance(name, int | float):
            return f"a name is {shown(name)}"
    return None


@CLASSIFICATION.rule(
    "class-of-json-text",
    since("0.4", Severity.CHANGED),
    "A class written as JSON within a text becomes a class of that long name.",
    "Write the object itself; geopandas and GDAL make text of it.",
)
def _(classification: Any) -> str | None:
    nested = isinstance(classification, str) and classification.lstrip().startswith("{")
    return f"classification is {shown(classification)}" if nested else None


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
    if written is None or written.get("name") is None or not written.get("names"):
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
