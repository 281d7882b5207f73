"""Rules on a feature against those that came before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsi_engine.qupath.rules.classification import class_names, is_of_old
from wsi_engine.qupath.rules.gson import alone
from wsi_engine.qupath.rules.rule import JSONCheck, RuleTable, Severity, always, shown, since

MAX_CLASSES = 10_000
"""The most classes of which the first colour is remembered."""

REPETITION: RuleTable[Callable[[], JSONCheck]] = RuleTable()
"""Each makes, for one file, a check that is given all of its features in turn."""


@REPETITION.rule(
    "id-repeated",
    since("0.4", Severity.ADVICE),
    "Two objects have one id: QuPath takes both, and no script can tell them apart.",
    "Give every object a UUID of its own.",
)
class SeenIds:
    """Remembers ids: of each no more than 64 bits, lest a million of them fill the memory."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, feature: dict[str, Any]) -> str | None:
        """Say which id was there before."""
        identity = alone(feature.get("id"))
        # QuPath 0.2 wrote the type in place of an id.
        if not isinstance(identity, str) or identity.endswith("Object"):
            return None
        key = hash(identity.lower())
        if key in self._seen:
            return f"id is {shown(identity)}"
        self._seen.add(key)
        return None


@REPETITION.rule(
    "class-colour-differs",
    always(Severity.CHANGED),
    "A class keeps the first colour that QuPath saw for it.",
    "Give a class the same colour everywhere.",
)
class ClassColours:
    """Remembers the first colour of every class."""

    def __init__(self) -> None:
        self._first: dict[str, Any] = {}

    def __call__(self, feature: dict[str, Any]) -> str | None:
        """Say how the colour of a class differs from the one it first had."""
        properties = feature.get("properties")
        classification = properties.get("classification") if isinstance(properties, dict) else None
        if not isinstance(classification, dict):
            return None
        colour = classification.get("colorRGB" if is_of_old(classification) else "color")
        if not isinstance(colour, int) and not _is_list_of_numbers(colour):
            return None
        name = ": ".join([str(part).strip() for part in class_names(classification)])
        if name not in self._first and len(self._first) < MAX_CLASSES:
            self._first[name] = colour
        first = self._first.get(name, colour)
        return None if first == colour else f"{shown(name)} first had {shown(first)}"


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, int | float) for part in value)
