"""What a column of a table means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One measurement.

    Attributes
    ----------
    name
        As it stands in files; QuPath's own name where QuPath measures the same.
    unit
        ``µm``, ``µm^2``, ``1/mm^2``; empty for a number without unit.
    formula
        How the value comes about, in a sentence.
    source
        Who defined it.
    essential
        Whether QuPath gets it by default.
    """

    name: str
    unit: str
    formula: str
    source: str
    essential: bool = False
