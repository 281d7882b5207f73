"""What can be chosen of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

Which = Literal["essential", "all", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Choices; each format takes some of them, and the others are refused.

    What each of them does is in its metadata, which the command line shows as well.

    Attributes
    ----------
    um, measurements, split, mpp, labels, slide, mm
        Options of the formats of this package.
    others
        Options of formats of other packages, texts by name.
    """

    um: bool = field(
        default=False, metadata={"help": "coordinates in µm in place of full-resolution pixels"}
    )
    measurements: Which = field(default="all", metadata={"help": "which measurements are written"})
    split: int | None = field(
        default=None, metadata={"help": "most nuclei per file; one file by default"}
    )
    mpp: float | None = field(
        default=None, metadata={"help": "side of a pixel in µm; by default the slide's"}
    )
    labels: bool = field(default=False, metadata={"help": "write a label image, too"})
    slide: Path | None = field(
        default=None,
        metadata={"help": "a DICOM file of the slide, if it has moved or was converted"},
    )
    mm: bool = field(
        default=False, metadata={"help": "coordinates in mm of the slide's frame of reference"}
    )
    others: Mapping[str, str] = field(default_factory=dict)

    def chosen(self) -> set[str]:
        """Return the names of those that are not left at their default."""
        return set(self.others) | {name for name in HELP if getattr(self, name) != _DEFAULTS[name]}


HELP: dict[str, str] = {
    each.name: each.metadata["help"] for each in fields(Options) if "help" in each.metadata
}
"""What each option of this package's formats does."""

_DEFAULTS = {each.name: each.default for each in fields(Options)}
