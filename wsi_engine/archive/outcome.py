"""What became of a slide; kept in its own folder, where any driver finds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from wsi_engine.writing import atomic_path, clear_write_errors

DONE_FILE, FAILED_FILE = "run.json", "failed.json"


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
        How often the slide was tried.
    when, host
        Of the last attempt; UTC, ISO 8601.
    settings
        Digest of the settings that were asked for; with others the slide may succeed.
    traceback
        Of an error that the engine does not raise on purpose.
    """

    reason: str
    error: str
    attempts: int
    when: str
    host: str
    settings: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a slide came to.

    Attributes
    ----------
    name
        Of the slide's result.
    status
        ``elsewhere``: another run has it.
    computed
        Whether this attempt did it, and not an earlier one.
    nuclei, tiles, megapixels, seconds
        Of the run that found them.
    damaged, warnings
        Numbers of regions that could not be read, and of warnings, in ``run.json``.
    failure
        Where it failed.
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


def done(name: str, record: dict[str, Any], *, computed: bool) -> Outcome:
    """Sum up ``run.json``."""
    tiles = record["tiles"]
    return Outcome(
        name,
        "done",
        computed,
        nuclei=int(record["nuclei"]["count"]),
        tiles=int(tiles["count"]),
        megapixels=float(tiles["megapixels"]),
        seconds=float(tiles["seconds"]),
        damaged=len(record["unreadable"]),
        warnings=len(record["warnings"]),
    )


def failed(name: str, failure: Failure, *, computed: bool) -> Outcome:
    """Sum up ``failed.json``."""
    return Outcome(name, "failed", computed, failure=failure)


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``run.json``; ``None`` if it is absent or no such record."""
    record = _read(folder / DONE_FILE)
    try:
        done(folder.name, record or {}, computed=False)
        texts = (record["slide"]["name"], record["finished"]) if record is not None else (None,)
        known = all(isinstance(text, str) for text in texts)
    except (KeyError, TypeError, ValueError):
        return None
    return record if known else None


def read_failure(folder: Path) -> Failure | None:
    """Return the content of ``failed.json``; ``None`` if it is absent or no such record."""
    try:
        failure = Failure(**(_read(folder / FAILED_FILE) or {}))
    except TypeError:
        return None
    texts = (failure.reason, failure.error, failure.when, failure.host, failure.settings)
    known = all(isinstance(text, str) for text in texts) and type(failure.attempts) is int
    return failure if known else None


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


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
