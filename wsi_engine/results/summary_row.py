"""What the summary of an archive says of each slide."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Row:
    """A slide in ``archive.sqlite`` and ``summary.csv``; what is not known is empty.

    Attributes
    ----------
    slide
        Name of the folder.
    path
        Path of the slide's file.
    status
        ``done``, ``failed`` or ``left``.
    reason, error, attempts
        Why the slide failed in one sentence, the class of the error, how often it was tried.
    nuclei, nuclei_per_mm2, area_mm2
        Number found, their density, and the area that was searched.
    tiles, seconds
        Number of tiles, and the time that the run took.
    damaged_regions, warnings
        Numbers of those in ``run.json``.
    warning_texts
        The warnings themselves, as that tiles were computed again.
    finished
        Time of the end or of the failure, UTC in ISO 8601.
    """

    slide: str
    path: str
    status: str
    reason: str | None = None
    error: str | None = None
    attempts: int | None = None
    nuclei: int | None = None
    nuclei_per_mm2: float | None = None
    area_mm2: float | None = None
    tiles: int | None = None
    seconds: float | None = None
    damaged_regions: int | None = None
    warnings: int | None = None
    warning_texts: str | None = None
    finished: str | None = None


COLUMNS = tuple(field.name for field in fields(Row))
"""Names of what a row tells, in their order."""
