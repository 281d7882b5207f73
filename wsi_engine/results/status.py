"""How far the slides of an output folder are; looks, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsi_engine.errors import ResultError
from wsi_engine.results.failure import read_failure
from wsi_engine.results.folder import is_interrupted
from wsi_engine.results.layout import FAILED_FILE, READY, RECORD, TILES, WORK
from wsi_engine.results.record import RunRecord, load_record
from wsi_engine.store.claim import owner
from wsi_engine.store.journal import JournalDamagedError, read_journal
from wsi_engine.store.tile_store import JOURNAL

State = Literal["finished", "unfinished", "failed", "empty", "damaged"]


@dataclass(frozen=True, slots=True)
class SlideStatus:
    """One folder of results.

    Attributes
    ----------
    folder
        Name of the folder.
    state
        ``finished``; ``unfinished``: `run` goes on from its tiles, or brings the files of a result
        to their names where that was cut off; ``failed``: a run of many gave
        it up, and leaves it alone until it is asked to retry; ``empty``: begun, but nothing is
        kept yet; ``damaged``: the record or the journal cannot be read.
    tiles, tiles_total
        Numbers of tiles on disk and in all; ``None`` where that is not known.
    nuclei
        Number in the result, or in the tiles so far, where seams are not resolved yet.
    finished
        Time of the end, UTC in ISO 8601.
    running
        ``host:pid`` of the process that works on it.
    reason
        Why it failed.
    """

    folder: str
    state: State
    tiles: int | None = None
    tiles_total: int | None = None
    nuclei: int | None = None
    finished: str | None = None
    running: str | None = None
    reason: str | None = None


def status_of(output: Path) -> list[SlideStatus]:
    """Look at every slide of an output folder, or at one ``OUT/<slide>``; by name.

    Raises
    ------
    ResultError
        When there is no such folder.
    """
    return [_status(folder) for folder in slide_folders(output)]


def slide_folders(output: Path) -> Iterator[Path]:
    """Yield the folders of slides, finished or not, in an output folder, or the one it is.

    Raises
    ------
    ResultError
        When there is no such folder.
    """
    if not output.is_dir():
        raise ResultError(f"{output}: no such folder; give one that `wsi-engine run` wrote")
    if _is_of_a_slide(output):
        yield output
    else:
        yield from filter(_is_of_a_slide, sorted(output.iterdir()))


def _is_of_a_slide(folder: Path) -> bool:
    files = (folder / RECORD, folder / FAILED_FILE)
    return any(path.is_file() for path in files) or (folder / WORK).is_dir()


def _status(folder: Path) -> SlideStatus:
    who = owner(folder / WORK)
    running = f"{who.host}:{who.pid}" if who is not None else None
    name = folder.resolve().name
    has_record = (folder / RECORD).exists()
    # Whoever works on it tries it again.
    failure = read_failure(folder) if who is None and not has_record else None
    reason = failure.reason if failure is not None else None
    try:
        entries = read_journal(folder / TILES / JOURNAL)
        if entries is not None and entries.finished_tiles:
            return SlideStatus(
                name,
                "unfinished" if reason is None else "failed",
                entries.finished_tiles,
                entries.tiles,
                sum(part.nuclei for part in entries.parts),
                running=running,
                reason=reason,
            )
        if not has_record and not is_interrupted(folder):
            state: State = "empty" if reason is None else "failed"
            return SlideStatus(name, state, running=running, reason=reason)
        record = load_record(folder / RECORD if has_record else folder / WORK / READY / RECORD)
    except (ResultError, JournalDamagedError):
        return SlideStatus(name, "damaged", running=running)
    except FileNotFoundError:
        return SlideStatus(name, "unfinished", running=running)  # moved just now
    # `measure` keeps no tiles.
    tiles = record.tiles.count if isinstance(record, RunRecord) else None
    state = "finished" if has_record else "unfinished"
    return SlideStatus(
        name, state, tiles, tiles, record.nuclei.count, record.finished if has_record else None,
        running,
    )  # fmt: skip
