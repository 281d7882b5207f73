"""One slide of an archive as one task: done, failed, or claimed by another, but never twice."""

from __future__ import annotations

import logging
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_engine.archive.cache import CacheSettings, local_copy
from wsi_engine.archive.events import Event, EventName, Listener
from wsi_engine.archive.inputs import SlideJob
from wsi_engine.archive.outcome import Outcome, done, failed, result_of
from wsi_engine.archive.register import FOLDER
from wsi_engine.config import RunSettings
from wsi_engine.digests import digest
from wsi_engine.engine.progress import Progress
from wsi_engine.engine.provenance import now
from wsi_engine.errors import BusyError, DeviceError, EngineError, ListenerError, OutputError
from wsi_engine.results.failure import Failure, forget_failure, read_failure, write_failure
from wsi_engine.results.layout import TILES, WORK
from wsi_engine.results.record import RunRecord
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import SlideInfo
from wsi_engine.slide.resolution import filling_in_warnings, resolution_warnings
from wsi_engine.store.claim import Claim, owner
from wsi_engine.store.journal import JournalDamagedError, read_journal
from wsi_engine.store.tile_store import JOURNAL
from wsi_engine.writing import clear_write_errors

log = logging.getLogger(__name__)

SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class SlideTask:
    """All that a worker needs to do a slide; can be sent to another machine.

    Attributes
    ----------
    job
        The slide.
    output
        Folder of results.
    settings
        Settings for this slide.
    cache
        Cache into which slides that are named by URL are copied.
    mpp_fills_in
        Whether the pixel size in the settings is for slides that state none, and no other.
    attempt
        Number of this attempt, counted from 1 over all runs.
    retry_of
        Time of the failure that this attempt is to make good; a later failure is kept.
    redo_of
        Time of the result that this attempt is to replace; a later result is kept.
    deaths
        Number of workers that died on it in this run; a redo goes on with what they left.
    threads
        Threads that read and decode, and that networks on the processor use; ``None`` for all.
    slot
        Number of the worker on its machine, by which GPUs are shared out; ``None`` for all.
    """

    job: SlideJob
    output: Path
    settings: RunSettings
    cache: CacheSettings
    mpp_fills_in: bool = False
    attempt: int = 1
    retry_of: str | None = None
    redo_of: str | None = None
    deaths: int = 0
    threads: int | None = None
    slot: int | None = None

    @property
    def folder(self) -> Path:
        """Folder of the result."""
        return self.output / self.job.name

    @property
    def digest(self) -> str:
        """Digest of the settings, as far as the result depends on them."""
        return digest(self.settings.result_settings())

    def counts(self, failure: Failure) -> bool:
        """Whether an earlier failure is kept: the same was asked for, and it is not retried."""
        return failure.settings == self.digest and failure.when != self.retry_of

    def failure(self, reason: str, error: str, trace: str | None = None) -> Failure:
        """Return the record of a failure of this attempt, now and here."""
        return Failure(reason, error, self.attempt, now(), platform.node(), self.digest, trace)


def known_outcome(task: SlideTask) -> Outcome | None:
    """Return what became of a slide earlier; ``None`` if there is something to do."""
    record = result_of(task.folder)
    if record is not None:
        is_known = record.finished != task.redo_of and _is_up_to_date(task, record)
        return done(task.job.name, record, computed=False) if is_known else None
    failure = read_failure(task.folder)
    if failure is not None and task.counts(failure):
        return failed(task.job.name, failure, computed=False)
    return None


def _is_up_to_date(task: SlideTask, record: RunRecord) -> bool:
    """Whether a finished result is what the task asks for, as the engine judges it.

    A slide that is named by URL is not fetched for that: its file's name has to do.
    """
    from wsi_engine.engine.resume import is_up_to_date

    if task.job.is_remote and record.slide.name != task.job.file_name:
        return False
    path = None if task.job.is_remote else Path(task.job.path)
    try:
        return any(
            is_up_to_date(task.folder, path, settings) is not None
            for settings in _possible_settings(task, path)
        )
    except EngineError:
        return False  # whoever does the slide meets the same, and reports it


def refusal_of(task: SlideTask) -> str | None:
    """Say why a run would refuse to touch what is in the folder; ``None`` if it would not."""
    from wsi_engine.engine.basis import basis_of
    from wsi_engine.engine.resume import finished_run

    if task.job.is_remote or task.redo_of is not None:
        return None
    path = Path(task.job.path)
    try:
        for settings in _possible_settings(task, path):
            finished_run(task.folder, basis_of(path, settings))
    except EngineError as error:
        return str(error)
    return None


def _possible_settings(task: SlideTask, path: Path | None) -> list[RunSettings]:
    """Return the settings that a slide may get: those that it does get, if it can be opened."""
    if not task.mpp_fills_in:
        return [task.settings]
    sizes = [task.settings.mpp, None] if path is None else [_mpp_for(task, path)[0]]
    return [task.settings.model_copy(update={"mpp": mpp}) for mpp in sizes]


def mpp_for(task: SlideTask, info: SlideInfo) -> float | None:
    """Return the pixel size to be stated for the slide of a task."""
    return None if task.mpp_fills_in and info.mpp is not None else task.settings.mpp


def _mpp_for(task: SlideTask, path: Path) -> tuple[float | None, list[str]]:
    """Return the pixel size to be stated for a slide, and what to say of it."""
    stated = task.settings.mpp
    if stated is None:
        return None, []
    with open_slide(path) as slide:
        info = slide.info
    mpp = mpp_for(task, info)
    said = filling_in_warnings if mpp is None else resolution_warnings
    return mpp, said(info, stated)


def do_slide(task: SlideTask, listen: Listener, worker: str | None = None) -> Outcome:
    """Do a slide, unless it is done, has failed, or somebody who is alive is at it.

    Nothing that is wrong with the slide is raised: it is the outcome.

    Raises
    ------
    ListenerError
        When the listener fails, which is no fault of the slide.
    """
    name = task.job.name
    with _claimed(task) as claimed:
        if not claimed:
            return claimed_by_another(task)
        known = known_outcome(task)
        if known is not None:
            return known
        facts = {"attempt": task.attempt, "host": platform.node(), "pid": os.getpid()}
        listen(Event("slide_started", name, worker, facts))
        try:
            with _log_as_events(name, worker, listen):
                return _run(task, _reporter(name, worker, listen))
        except BusyError:
            return claimed_by_another(task)
        except ListenerError:
            raise
        except (OutputError, DeviceError, OSError) as error:
            # A full or absent disk says nothing about the slide: the next run tries it again.
            return failed(name, task.failure(str(error), type(error).__name__), computed=True)
        except EngineError as error:
            return _give_up(task, task.failure(str(error), type(error).__name__))
        # One slide must not stop the others, whatever a library raises on it.
        except Exception as error:
            kind, trace = type(error).__name__, "".join(traceback.format_exception(error))
            return _give_up(task, task.failure(f"{kind}: {error}", kind, trace))


def claimed_by_another(task: SlideTask) -> Outcome:
    """Return the outcome of a slide that another run has."""
    # The other may be a run of this slide alone, which claims nothing but its folder.
    other = owner(_claims(task)) or owner(task.folder / WORK)
    return Outcome(task.job.name, "elsewhere", owner=other.host if other is not None else None)


def died(task: SlideTask) -> Outcome:
    """Return, and keep, the outcome of a slide on which workers died."""
    with _claimed(task) as claimed:
        if not claimed:
            return claimed_by_another(task)
        reason = (
            f"{task.job.file_name}: the worker process died, {task.attempt} times: killed, out of "
            "memory, or a crash in a library; try it alone, with a smaller --tile-size"
        )
        return _give_up(task, task.failure(reason, "WorkerDied"))


def _give_up(task: SlideTask, failure: Failure) -> Outcome:
    """Keep a failure, and return it as the outcome.

    A finished result that was not asked for as it is stays, and counts.
    """
    if result_of(task.folder) is None:
        write_failure(task.folder, failure)
    return failed(task.job.name, failure, computed=True)


def _run(task: SlideTask, observe: Callable[[Progress], None]) -> Outcome:
    from wsi_engine.engine.run import run

    job, settings = task.job, _for_worker(task)
    with local_copy(job.path, task.cache) as path:
        mpp, warnings = _mpp_for(task, path)
        for warning in warnings:
            log.warning(warning)
        settings = settings.model_copy(update={"mpp": mpp})
        result = run(
            path,
            task.output,
            name=job.name,
            observe=observe,
            force=_begins_anew(task),
            redo_foreign_tiles=True,
            **settings.model_dump(),
        )
    forget_failure(task.folder)
    return done(job.name, result.record, computed=not result.is_earlier)


def _begins_anew(task: SlideTask) -> bool:
    """Whether to drop what is there, as is asked for; but not what this run itself has found."""
    if task.redo_of is None or not task.deaths:
        return task.redo_of is not None
    try:
        entries = read_journal(task.folder / TILES / JOURNAL)
    except JournalDamagedError:
        return True
    return entries is None or not entries.finished_tiles


def _for_worker(task: SlideTask) -> RunSettings:
    """Fit the settings to the share of the machine that the worker has; results do not change."""
    settings = task.settings
    share: dict[str, Any] = {}
    if task.threads is not None:
        from wsi_engine.models.devices import use_threads

        use_threads(task.threads)
        if settings.workers == "auto":
            share["workers"] = task.threads
    if task.slot is not None:
        from wsi_engine.models.devices import resolve_devices

        devices = resolve_devices(settings.device)
        share["device"] = str(devices[task.slot % len(devices)])
    return settings.model_copy(update=share)


def _claims(task: SlideTask) -> Path:
    return task.output / FOLDER / "claims" / task.job.name


@contextmanager
def _claimed(task: SlideTask) -> Iterator[bool]:
    """Claim a slide for the block, beside its folder: a slide that fails leaves no folder."""
    folder = _claims(task)
    with clear_write_errors(folder):
        claim = Claim.take(folder)
    if claim is None:
        yield False
        return
    with claim:
        yield True
    with suppress(OSError):
        folder.rmdir()  # unless somebody else has just claimed it


def _reporter(name: str, worker: str | None, listen: Listener) -> Callable[[Progress], None]:
    """Report progress when a stage changes, and now and then."""
    last_stage, reported_at = "", 0.0

    def observe(progress: Progress) -> None:
        nonlocal last_stage, reported_at
        now_s = time.monotonic()
        if progress.stage == last_stage and now_s - reported_at < SECONDS_BETWEEN_REPORTS:
            return
        last_stage, reported_at = progress.stage, now_s
        facts = {
            "stage": progress.stage,
            "tiles": progress.tiles,
            "tiles_total": progress.tiles_total,
            "nuclei": progress.nuclei,
            "megapixels": round(progress.megapixels, 3),
            "seconds": round(progress.seconds, 3),
        }
        listen(Event("slide_progress", name, worker, facts))

    return observe


@contextmanager
def _log_as_events(name: str, worker: str | None, listen: Listener) -> Iterator[None]:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            is_warning = record.levelno >= logging.WARNING
            kind: EventName = "slide_warning" if is_warning else "slide_note"
            listen(Event(kind, name, worker, {"text": record.getMessage()}))

    logger = logging.getLogger("wsi_engine")
    before, propagate, level = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [Handler(logging.INFO)], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before, propagate
        logger.setLevel(level)
