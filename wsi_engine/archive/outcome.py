"""What became of a slide: the view of an archive on ``run.json`` and ``failed.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi_engine.errors import ResultError
from wsi_engine.results.failure import Failure
from wsi_engine.results.record import RunRecord, read_run_record


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one slide.

    Attributes
    ----------
    name
        Name of the slide's result.
    status
        ``done``, ``failed``, or ``elsewhere`` where another run has the slide.
    computed
        Whether this attempt did it, and not an earlier one.
    nuclei, tiles, megapixels, seconds
        Figures of the run that found the nuclei.
    damaged, warnings
        Numbers of regions that could not be read, and of warnings, in ``run.json``.
    failure
        Record of the failure, where the slide failed.
    owner
        Host of the other run.
    """

    name: str
    status: Literal["done", "failed", "elsewhere"]
    computed: bool = False
    nuclei: int = 0
    tiles: int = 0
    megapixels: float = 0.0
    seconds: float = 0.0
    damaged: int = 0
    warnings: int = 0
    failure: Failure | None = None
    owner: str | None = None


def done(name: str, record: RunRecord, *, computed: bool) -> Outcome:
    """Sum up ``run.json``."""
    return Outcome(
        name,
        "done",
        computed,
        nuclei=record.nuclei.count,
        tiles=record.tiles.count,
        megapixels=record.tiles.megapixels,
        seconds=record.tiles.seconds,
        damaged=len(record.unreadable),
        warnings=len(record.warnings),
    )


def failed(name: str, failure: Failure, *, computed: bool) -> Outcome:
    """Sum up ``failed.json``."""
    return Outcome(name, "failed", computed, failure=failure)


def result_of(folder: Path) -> RunRecord | None:
    """Return the record of a finished run; ``None`` if it is absent or no such record."""
    try:
        return read_run_record(folder)
    except ResultError:
        return None
