"""From what a user asks of an archive to a task for each slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wsi_engine.archive.cache import CacheSettings
from wsi_engine.archive.inputs import ListedSlide, SlideJob, list_slides
from wsi_engine.archive.manifest import read_manifest
from wsi_engine.archive.names import is_url
from wsi_engine.archive.outcome import result_of
from wsi_engine.archive.register import Register
from wsi_engine.archive.task import SlideTask
from wsi_engine.config import RunSettings, make_settings
from wsi_engine.models.around import members_of
from wsi_engine.results.failure import read_failure
from wsi_engine.slide.readers import has_slide_suffix, is_slide_folder


def list_tasks(
    slides: Sequence[str],
    manifest: Path | None,
    output: Path,
    settings: RunSettings,
    cache: CacheSettings,
    *,
    retry_failed: bool,
    force: bool,
    keep_names: bool,
) -> list[SlideTask]:
    """Return a task for each slide that is named, in the order of the names.

    Parameters
    ----------
    slides, manifest
        Files, folders, patterns or URLs, and a CSV with a row per slide.
    output
        Folder of results.
    settings
        Settings for all slides; rows of the manifest may have their own.
    cache
        Cache for slides that are named by URL.
    retry_failed, force
        Try slides again that failed; do slides again that are finished, too.
    keep_names
        Keep which slide has which name, for good; without it nothing is written.

    Raises
    ------
    EngineError
        When an input names nothing, or the manifest or the register cannot be read.
    """
    members_of(settings)
    rows = read_manifest(manifest) if manifest is not None else ()
    listed = list_slides(slides, rows, leave_out=output)
    register = Register(output)
    jobs = register.enter(listed) if keep_names else register.name(listed)
    fills_in = settings.mpp is not None and not settings.override_mpp and not _is_one(slides, rows)
    tasks = [_task(job, output, settings, cache, fills_in) for job in jobs]
    return [_again(task, failed=retry_failed or force, done=force) for task in tasks]


def _is_one(inputs: Sequence[str], rows: Sequence[ListedSlide]) -> bool:
    """Whether a single slide was named, not a folder, pattern or table that may hold others."""
    if len(inputs) != 1 or rows:
        return False
    (name,) = inputs
    if is_url(name):
        return "*" not in name and (has_slide_suffix(name) or name.rstrip("/").endswith(".zarr"))
    return Path(name).is_file() or is_slide_folder(Path(name))


def _task(
    job: SlideJob, output: Path, chosen: RunSettings, cache: CacheSettings, mpp_fills_in: bool
) -> SlideTask:
    settings = chosen
    if job.overrides:
        settings = make_settings(None, **{**chosen.model_dump(), **job.overrides})
    # What a manifest says of one slide is said of no other.
    return SlideTask(job, output, settings, cache, mpp_fills_in and "mpp" not in job.overrides)


def _again(task: SlideTask, *, failed: bool, done: bool) -> SlideTask:
    """Let a task do again what had ended before this run began."""
    if done:
        record = result_of(task.folder)
        task = replace(task, redo_of=record.finished if record is not None else "")
    failure = read_failure(task.folder)
    if failure is None or (task.counts(failure) and not failed):
        return task
    return replace(task, attempt=failure.attempts + 1, retry_of=failure.when)
