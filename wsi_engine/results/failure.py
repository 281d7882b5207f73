"""Why a slide has no result, kept in its folder, where any run finds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from wsi_engine.results.layout import FAILED_FILE
from wsi_engine.writing import atomic_path, clear_write_errors

LARGEST_NUMBER = 2**63 - 1
"""Largest number that a database takes; one that is larger was not counted."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The content of ``failed.json``.

    Attributes
    ----------
    reason
        One sentence.
    error
        Class of the exception.
    attempts
        Number of times that the slide was tried.
    when, host
        Time (UTC, ISO 8601) and machine of the last attempt.
    settings
        Digest of the settings that were asked for; with others the slide may succeed.
    traceback
        Traceback of an error that the engine does not raise on purpose.
    """

    reason: str
    error: str
    attempts: int
    when: str
    host: str
    settings: str
    traceback: str | None = None


def read_failure(folder: Path) -> Failure | None:
    """Return the content of ``failed.json``; ``None`` if it is absent or no such record."""
    try:
        failure = Failure(**json.loads((folder / FAILED_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = (failure.reason, failure.error, failure.when, failure.host, failure.settings)
    known = all(isinstance(text, str) for text in texts) and type(failure.attempts) is int
    return failure if known and 0 <= failure.attempts < LARGEST_NUMBER else None


def write_failure(folder: Path, failure: Failure) -> None:
    """Keep why a slide failed.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    with clear_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / FAILED_FILE) as partial:
            # Whatever a library says of a hostile file, in whatever encoding.
            partial.write_text(json.dumps(asdict(failure), indent=2), encoding="ascii")


def forget_failure(folder: Path) -> None:
    """Remove the record of an earlier failure."""
    (folder / FAILED_FILE).unlink(missing_ok=True)
