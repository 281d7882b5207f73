"""What can be chosen of an export."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Which = Literal["essential", "all", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Choices; each format takes some of them, and the others are refused.

    Attributes
    ----------
    um
        Coordinates in µm in place of full-resolution pixels.
    measurements
        Which measurements are written.
    split
        Most nuclei per file; ``None`` for one file.
    mpp
        Side of a label pixel in µm; ``None`` for the slide's own pixels.
    labels
        Write a label image, too.
    """

    um: bool = False
    measurements: Which = "all"
    split: int | None = None
    mpp: float | None = None
    labels: bool = False

    def chosen(self) -> set[str]:
        """Return the names of those that are not left at their default."""
        return {field.name for field in fields(self) if getattr(self, field.name) != field.default}
