"""What is wrong with a file of objects, said so that its author can mend it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Note = Callable[[str], None]
"""Takes what is wrong with a feature that can be read all the same."""


class UnreadableError(ValueError):
    """A feature cannot be read: the message says why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that QuPath would refuse, change or pass over in silence.

    Attributes
    ----------
    source
        Name of the file, or ``archive.zip/entry``.
    index
        Place of the feature in it, from 0; ``None`` where the file as a whole is meant.
    id
        UUID of the object, where it has one.
    reason
        What is wrong and what was made of it.
    skipped
        Whether the feature is missing from what was read.
    """

    source: str
    index: int | None
    id: str | None
    reason: str
    skipped: bool

    def __str__(self) -> str:
        where = self.source if self.index is None else f"{self.source}: feature {self.index}"
        named = f" ({self.id})" if self.id else ""
        skipped = "; it is left out" if self.skipped else ""
        return f"{where}{named}: {self.reason}{skipped}"


def describe(value: Any) -> str:
    """Name a JSON value in a message, without its length."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return repr(shown) if isinstance(value, str) else shown
