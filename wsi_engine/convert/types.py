"""Numbers of cell types, and the classes that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from wsi_engine.errors import ConversionError
from wsi_engine.qupath.objects import PathClass

Types = Mapping[int, PathClass]


def read_types(path: str | Path) -> Types:
    """Read the classes of type numbers from JSON.

    Three forms are known: HoVer-Net's ``type_info.json``, ``{"1": ["neopla", [255, 0, 0]]}``;
    numbers to names, ``{"1": "Neoplastic"}``; names to numbers, ``{"Neoplastic": 1}``. Without
    a colour a class has QuPath's colour of its name.

    Raises
    ------
    ConversionError
        When the file cannot be read or is of none of these forms.
    """
    path = Path(path)
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConversionError(f"{path}: no such file") from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise ConversionError(f"{path.name} cannot be read as types: {error}") from None
    return types_of(content, path.name)


def types_of(content: Any, name: str) -> Types:
    """Read the classes of type numbers from parsed JSON, see `read_types`."""
    if not isinstance(content, dict):
        raise ConversionError(f"{name} gives no types: an object of numbers and names is expected")
    types = {}
    for key, value in content.items():
        try:
            types[_number(key, value)] = _path_class(key, value)
        except (TypeError, ValueError):
            raise ConversionError(
                f"{name}: type {key!r} is not understood: "
                'write {"1": "Name"} or {"1": ["Name", [255, 0, 0]]}'
            ) from None
    return types


def class_of_type(number: Any, types: Types, where: str) -> PathClass | None:
    """Return the class of a type; without a name for it ``Type 3``, and of none ``None``."""
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or number != int(number):
        raise ConversionError(f"{where}: its type is {number!r}, and a whole number is expected")
    return types.get(int(number)) or PathClass.of(f"Type {int(number)}")


def _number(key: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(key)


def _path_class(key: str, value: Any) -> PathClass:
    if isinstance(value, list):
        name, colour = value
        red, green, blue = (int(part) for part in colour)
        if not all(0 <= part <= 255 for part in (red, green, blue)):
            raise ValueError(colour)
        return PathClass(class_named(name).names, (red, green, blue))
    return class_named(key if isinstance(value, int) else value)


def class_named(name: Any) -> PathClass:
    """Return the class of a name, cleared of what ends QuPath's import.

    That is a line break, and an empty part of a derived class.

    Raises
    ------
    ValueError
        When nothing is left of it.
    """
    parts = [" ".join(part.split()) for part in str(name).split(":")]
    cleared = ": ".join(part for part in parts if part)
    if not isinstance(name, str) or not cleared:
        raise ValueError(f"class {name!r}")
    return PathClass.of(cleared)
