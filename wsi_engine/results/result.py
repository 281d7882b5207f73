"""What a run, or measuring, leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from wsi_engine.nuclei.table import NucleusTable
from wsi_engine.results.layout import NUCLEI_TABLE
from wsi_engine.results.nucleus_table import read_nuclei
from wsi_engine.results.record import Record, RunRecord


@dataclass(frozen=True, repr=False)
class Result:
    """What was written.

    Attributes
    ----------
    folder
        ``OUT/<slide>``, or ``None`` where no output was asked for.
    record
        The content of ``run.json`` by attributes, such as ``record.nuclei.count``.
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
    record: Record
    is_earlier: bool = False

    def __repr__(self) -> str:
        folder = None if self.folder is None else str(self.folder)
        return f"{type(self).__name__}({self.count:,} nuclei of {self.record.slide.name}, {folder})"

    @cached_property
    def nuclei(self) -> NucleusTable:
        """Every nucleus; read from the folder when first asked for."""
        assert self.folder is not None
        return read_nuclei(self.folder / NUCLEI_TABLE)

    @property
    def count(self) -> int:
        """Number of nuclei."""
        return self.record.nuclei.count

    @property
    def is_complete(self) -> bool:
        """Whether every part of the slide could be read."""
        return not self.record.unreadable


@dataclass(frozen=True, repr=False)
class RunResult(Result):
    """What a run found; its record also tells of model, tiles and machine.

    Attributes
    ----------
    folder
        ``OUT/<slide>``, or ``None`` where no output was asked for.
    record
        The content of ``run.json`` by attributes, such as ``record.tiles.seconds``.
    is_earlier
        Whether it was there already, and nothing was done.

    Examples
    --------
    >>> import wsi_engine as we
    >>> we.run("slide.tif", "results", model="watershed").record.model.name
    'watershed'
    """

    record: RunRecord
