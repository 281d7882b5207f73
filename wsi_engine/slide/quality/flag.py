"""What one check of a slide came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import shapely

FlagLevel = Literal["ok", "look", "bad", "not checked"]
"""Nothing found; a person should look; numbers of this slide should not be used unseen; unknown."""


@dataclass(frozen=True)
class Flag:
    """The outcome of one check.

    Attributes
    ----------
    name
        ``blur``, ``pen``, ``folds``...
    level
        How much it matters.
    value, unit
        What was measured; ``None`` where it cannot be.
    sentence
        Sentence that tells it to a reader, with what follows from it.
    where
        Valid polygons in QuPath pixels.
    """

    name: str
    level: FlagLevel
    value: float | None
    unit: str
    sentence: str
    where: tuple[shapely.Polygon, ...] = ()


def level_of(value: float, look: float, bad: float) -> FlagLevel:
    """Return the level of a value that is better the smaller it is."""
    if value >= bad:
        return "bad"
    return "look" if value >= look else "ok"
