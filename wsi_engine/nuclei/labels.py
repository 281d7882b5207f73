"""What is known of nuclei beside shape and model: who made them, in which region they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

ENGINE, EDITED, ADDED, OTHER = "engine", "edited", "added", "other"

SOURCE_KEY, ROI_KEY, ROI_ID_KEY = OWN_KEYS = ("Source", "ROI", "ROI id")
"""Under which QuPath shows the labels as metadata of a nucleus."""

LABEL_COLUMNS = ("name", "source", "roi", "roi_id")
CORE_COLUMNS = ("tma_core", "tma_row", "tma_column")
"""Columns that tables have where cores of a tissue microarray bounded the run."""

Texts = Sequence[str | None]

Held = tuple[str | None, str | None]
"""Name, or else class, and UUID of the region of interest that holds a nucleus."""


@dataclass(frozen=True)
class Labels:
    """Columns of equal length n; ``None`` for nothing.

    Attributes
    ----------
    name
        That a person gave to the nucleus.
    source
        ``engine``; ``edited``, where a person corrected what the engine found; or ``added``,
        where a person drew it; ``other``, where another program found it.
    roi, roi_id
        Name, or else class, and UUID of the smallest region of interest that holds the anchor.
    notes
        Metadata that a person gave to the nucleus in QuPath; in GeoJSON alone.
    colours, locks
        Its own colour, RGB, and whether it is locked, likewise; empty where no nucleus has any.
    cores
        The columns `CORE_COLUMNS`, or none of them.
    """

    name: Texts
    source: Texts
    roi: Texts
    roi_id: Texts
    notes: Sequence[Mapping[str, str]]
    colours: Sequence[tuple[int, int, int] | None] = ()
    locks: Sequence[bool] = ()
    cores: Mapping[str, Texts] = field(default_factory=dict)

    @classmethod
    def of_engine(
        cls, held: Sequence[Held], cores: Mapping[str, Texts] = MappingProxyType({})
    ) -> Labels:
        """Return the labels of nuclei as the engine found them, in regions of interest."""
        names, ids = zip(*held, strict=True) if held else ((), ())
        nothing, found = [None] * len(held), [ENGINE] * len(held)
        return cls(nothing, found, names, ids, [{}] * len(held), cores=cores)

    @classmethod
    def of_other_program(cls, count: int) -> Labels:
        """Return the labels of nuclei of which nothing else is known."""
        nothing: list[str | None] = [None] * count
        return cls(nothing, [OTHER] * count, nothing, nothing, [{}] * count)

    def columns(self) -> dict[str, Texts]:
        """Return the columns of the table by name."""
        return {name: getattr(self, name) for name in LABEL_COLUMNS} | dict(self.cores)

    def metadata(self) -> list[dict[str, str]]:
        """Return what QuPath is to show as metadata of each nucleus."""
        shown = []
        sources = [None if source == ENGINE else source for source in self.source]
        for notes, *labels in zip(self.notes, sources, self.roi, self.roi_id, strict=True):
            own = {key: text for key, text in zip(OWN_KEYS, labels, strict=True) if text}
            shown.append(dict(notes) | own)
        return shown
