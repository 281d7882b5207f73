"""Rules on the measurements of a feature: an object of numbers, or the list of QuPath 0.3."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from wsi_engine.qupath.rules.gson import alone, is_number, is_text
from wsi_engine.qupath.rules.rule import (
    JSONCheck,
    RuleTable,
    Severity,
    always,
    only,
    shown,
    since,
)

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_TINIEST = float(np.finfo(np.float32).smallest_subnormal)
FLOAT32_WHOLE = 2**24
"""Up to here float32 holds every whole number."""

JAVA_NUMBER = re.compile(
    r"\s*[+-]?(?:NaN|Infinity|inf|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fFdD]?)\s*", re.ASCII
)


def _is_ordinary(measurements: Any) -> bool:
    if type(measurements) is not dict or not measurements:
        return measurements == {}
    values = measurements.values()
    if set(map(type, values)) != {float}:
        return False
    sizes = list(map(abs, values))
    # NaN fails the first comparison, as it fails every one.
    return sum(sizes) < FLOAT32_MAX and (
        min(sizes) > FLOAT32_TINIEST or not any(0 < size < FLOAT32_TINIEST for size in sizes)
    )


MEASUREMENT: RuleTable[JSONCheck] = RuleTable(_is_ordinary)
"""Each check is given what a feature states as its measurements: any JSON value."""


def stated_values(measurements: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values as they are written, whatever they are."""
    if isinstance(measurements, dict):
        yield from measurements.items()
    elif isinstance(measurements, list):
        for item in measurements:
            if isinstance(item, dict):
                yield str(item.get("name")), item.get("value")


@MEASUREMENT.rule(
    "measurements-ignored",
    always(Severity.LOST),
    "Measurements that are neither an object nor a list are passed over.",
    "Write an object of names and numbers.",
)
def _(measurements: Any) -> str | None:
    readable = isinstance(measurements, dict | list | None)
    return None if readable else f"measurements is {shown(measurements)}"


@MEASUREMENT.rule(
    "measurement-list-broken",
    always(Severity.ABORTS),
    "In a list of measurements, one without a name or a number ends the import.",
    "Write an object of names and numbers.",
)
def _(measurements: Any) -> str | None:
    if not isinstance(measurements, list):
        return None
    for item in measurements:
        if not isinstance(item, dict):
            return f"one is {shown(item)}"
        if not is_text(alone(item.get("name"))):
            return "one has no name"
        value = alone(item.get("value"))
        if not (is_number(value) or _is_java_number(value)):
            return f"{shown(item['name'])} is {shown(value)}"
    return None


@MEASUREMENT.rule(
    "measurement-not-a-number",
    since("0.4", Severity.ABORTS),
    "A measurement that is text, and no number, ends the import.",
    "Write text as metadata.",
)
def _(measurements: Any) -> str | None:
    if isinstance(measurements, dict):
        for name, value in measurements.items():
            if isinstance(value, str) and not _is_java_number(value):
                return f"{shown(name)} is {shown(value)}"
    return None


@MEASUREMENT.rule(
    "measurement-dropped",
    (Severity.FINE, Severity.FINE, Severity.ABORTS, Severity.LOST, Severity.LOST, Severity.LOST),
    "A measurement that is null, true, false, a list or an object is dropped.",
    "Leave it out.",
)
def _(measurements: Any) -> str | None:
    if isinstance(measurements, dict):
        for name, value in measurements.items():
            if isinstance(value, bool | list | dict | None):
                return f"{shown(name)} is {shown(value)}"
    return None


@MEASUREMENT.rule(
    "measurement-nan",
    only("0.4", Severity.ABORTS),
    "QuPath 0.4 cannot read NaN or infinity in any form.",
    "Leave out what is not known.",
)
def _(measurements: Any) -> str | None:
    for name, value in stated_values(measurements):
        if isinstance(value, float) and not math.isfinite(value):
            return f"{shown(name)} is {value}"
    return None


@MEASUREMENT.rule(
    "measurement-as-text",
    only("0.4", Severity.ABORTS),
    "QuPath 0.4 reads no number that is written as text.",
    "Write numbers without quotes, and leave out what is not known.",
)
def _(measurements: Any) -> str | None:
    for name, value in stated_values(measurements):
        if isinstance(value, str) and _is_java_number(value):
            return f"{shown(name)} is {shown(value)}"
    return None


@MEASUREMENT.rule(
    "measurement-out-of-range",
    always(Severity.CHANGED),
    "QuPath keeps 32-bit floats: this number becomes infinite, or 0.",
    "Choose another unit.",
)
def _(measurements: Any) -> str | None:
    for name, value in stated_values(measurements):
        if (
            is_number(value)
            and value
            and not FLOAT32_TINIEST <= abs(value) <= FLOAT32_MAX
            and abs(value) < math.inf
        ):
            return f"{shown(name)} is {shown(value)}"
    return None


@MEASUREMENT.rule(
    "measurement-rounded",
    always(Severity.CHANGED),
    "QuPath keeps 32-bit floats: a whole number above 16,777,216 may come out as another.",
    "Write identifying numbers as metadata.",
)
def _(measurements: Any) -> str | None:
    for name, value in stated_values(measurements):
        if type(value) is int and FLOAT32_WHOLE < abs(value) <= FLOAT32_MAX:
            kept = int(np.float32(value))
            if kept != value:
                return f"{shown(name)} is {value}, becomes {kept}"
    return None


def _is_java_number(value: object) -> bool:
    return isinstance(value, str) and JAVA_NUMBER.fullmatch(value) is not None
