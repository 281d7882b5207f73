"""Classes and colours in all the ways that QuPath has written them since 0.2."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from wsi_engine.qupath.colours import Colour, ColourAlpha, class_colour
from wsi_engine.qupath.objects import PathClass
from wsi_engine.qupath.problems import Note, describe

MAX_PARENTS = 100


def read_class(value: Any, note: Note) -> PathClass | None:
    """Read the ``classification`` of an object.

    It is a string, an object with ``name`` or ``names`` and ``color``, or in QuPath 0.2 and 0.3
    one with ``colorRGB`` and the class that it derives from.
    """
    if value is None or value == {}:
        return None
    if isinstance(value, str):
        names = _split(value, note)
        return PathClass(names, class_colour(": ".join(names))) if names else None
    if isinstance(value, dict) and len(value) == 2:
        known = _usual_class(value)
        if known is not None:
            return known
    if not isinstance(value, dict):
        note(f"its classification is {describe(value)}: it is read as unclassified")
        return None
    names = _names(value, note)
    if not names:
        return None
    return PathClass(names, _class_colour(value, note) or class_colour(": ".join(names)))


def read_colour(value: Any, note: Note) -> Colour | None:
    """Read the colour of an object itself: three values of 0 to 255, or one packed integer."""
    if value is None:
        return None
    colour = _colour(value, note)
    if colour is not None and len(colour) == 4:
        note("its colour has four values, which QuPath passes over")
        return None
    return None if colour is None else colour[:3]


def text_of(value: Any) -> str | None:
    """Return a string, number or truth value as QuPath reads it for text; else none."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


def _usual_class(value: dict[str, Any]) -> PathClass | None:
    """Return the class of a name and a colour as they should be, the same each time."""
    name, colour = value.get("name"), value.get("color")
    if type(name) is not str or type(colour) is not list or len(colour) != 3:
        return None
    try:
        return _remembered(name, *colour)
    except TypeError:
        return None


@lru_cache(1 << 12, typed=True)
def _remembered(name: str, red: Any, green: Any, blue: Any) -> PathClass | None:
    notes: list[str] = []
    colour = _colour([red, green, blue], notes.append)
    names = _split(name, notes.append)
    return None if notes or colour is None else PathClass(names, colour)


def _names(value: dict[str, Any], note: Note) -> tuple[str, ...]:
    if "name" not in value:
        listed = value.get("names")
        if listed is None or listed == []:
            return ()
        texts = [text_of(name) for name in listed] if isinstance(listed, list) else [None]
        if None in texts:
            note("the names of its class are no list of strings: it is read as unclassified")
            return ()
        if any(":" in str(text) for text in texts):
            note("a name in the list of its class has a colon: it is split there")
        return _split(": ".join(map(str, texts)), note)
    chain: list[str] = []
    parent: Any = value
    while isinstance(parent, dict) and len(chain) < MAX_PARENTS:
        text = text_of(parent.get("name"))
        if text is None:
            note(f"the name of its class is {describe(parent.get('name'))}")
            return ()
        chain.append(text)
        parent = parent.get("parentClass")
    return _split(": ".join(reversed(chain)), note)


def _split(name: str, note: Note) -> tuple[str, ...]:
    """Split ``Tumor: Positive`` as QuPath does."""
    names = [part.strip() for part in name.split(":")]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names):
        note(f"its class {describe(name)} has a blank name: it is read as unclassified")
        return ()
    if "\n" in name or "\r" in name:
        note(f"its class {describe(name)} has more than one line: they are joined")
        names = [" ".join(part.split()) for part in names]
    return tuple(names)


def _class_colour(value: dict[str, Any], note: Note) -> Colour | ColourAlpha | None:
    if "color" in value:
        colour = value["color"]
        if colour is None or colour == []:
            return None
        if isinstance(colour, list) and len(colour) == 1:
            colour = colour[0]
        elif not isinstance(colour, list):
            note("the colour of its class is no list, which QuPath refuses")
    elif "colorRGB" in value:
        colour = value["colorRGB"]
    else:
        note("its class has no colour, which QuPath refuses: it gets the usual one")
        return None
    return _colour(colour, note)


def _colour(value: Any, note: Note) -> Colour | ColourAlpha | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value >> 16 & 255, value >> 8 & 255, value & 255
    if isinstance(value, str):
        digits = value.removeprefix("#")
        try:
            packed = int(digits, 16) if len(digits) == 6 else None
        except ValueError:
            packed = None
        if packed is not None:
            note(f"its colour {value!r} is a string, which QuPath refuses")
            return packed >> 16 & 255, packed >> 8 & 255, packed & 255
    elif isinstance(value, list) and len(value) in (3, 4) and all(map(_is_channel, value)):
        red, green, blue, *alpha = map(int, value)
        if [red, green, blue, *alpha] != value:
            note("its colour has fractions, which QuPath cuts off")
        if alpha and alpha[0] not in (0, 255):
            return red, green, blue, alpha[0]
        return red, green, blue
    note(f"a colour must be three integers of 0 to 255, not {_shown(value)}")
    return None


def _is_channel(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 255


def _shown(value: Any) -> str:
    simple = (
        isinstance(value, list)
        and len(value) < 9
        and not any(isinstance(part, list | dict) for part in value)
    )
    return f"[{', '.join(map(describe, value))}]" if simple else describe(value)
