"""What a run, or measuring, leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wsi_engine.nuclei.table import NucleusTable
from wsi_engine.results.layout import NUCLEI_TABLE
from wsi_engine.results.nucleus_table import read_nuclei


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes
    ----------
    folder
        ``OUT/<slide>``, or ``None`` where no output was asked for.
    record
        The content of ``run.json``.
    is_earlier
        Whether it was there already, and nothing was done.

    Examples
    --------
    >>> import wsi_engine as we
    >>> result = we.run("slide.tif", "results", model="watershed")
    >>> result.is_earlier, result.is_complete
    (True, True)
    >>> result.folder.name, result.count == len(result.nuclei)
    ('slide', True)
    """

    folder: Path | None
    record: dict[str, Any]
    is_earlier: bool = False

    @cached_property
    def nuclei(self) -> NucleusTable:
        """Every nucleus; read from the folder when first asked for."""
        assert self.folder is not None
        return read_nuclei(self.folder / NUCLEI_TABLE)

    @property
    def count(self) -> int:
        """Number of nuclei."""
        return int(self.record["nuclei"]["count"])

    @property
    def is_complete(self) -> bool:
        """Whether every part of the slide could be read."""
        return not self.record["unreadable"]
