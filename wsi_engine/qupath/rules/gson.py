"""Single values as Gson reads them, the JSON library of QuPath.

Asked for a text or a number, it also takes one for the other, and a list of one for what is in
it.
"""

from __future__ import annotations

import re
from typing import Any, TypeGuard

JAVA_INTEGER = re.compile(r"[+-]?\d{1,10}", re.ASCII)


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell numbers from all else that JSON has."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def alone(value: Any) -> Any:
    """Return what a list of one holds; anything else as it is."""
    while type(value) is list and len(value) == 1:
        value = value[0]
    return value


def is_whole(value: Any) -> bool:
    """Tell whether Gson reads a whole number; a fraction is cut off."""
    if isinstance(value, str):
        return JAVA_INTEGER.fullmatch(value) is not None and -(2**31) <= int(value) < 2**31
    return is_number(value) and abs(value) < float("inf")


def is_text(value: Any) -> bool:
    """Tell whether Gson reads a text: numbers and truth values have one."""
    return isinstance(value, str | int | float)


def number(value: Any) -> int | float:
    """Return the number of a value that `is_whole`."""
    return int(value) if isinstance(value, str) else value
