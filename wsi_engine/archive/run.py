"""Many slides in, each done once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_engine.archive.cache import CacheSettings, default_folder
from wsi_engine.archive.driver import Driver
from wsi_engine.archive.events import Event, Listener, guarded, ignore
from wsi_engine.archive.inputs import share_first
from wsi_engine.archive.local_workers import LocalPool
from wsi_engine.archive.outcome import Outcome
from wsi_engine.archive.summary import write_views
from wsi_engine.archive.tasks import list_tasks
from wsi_engine.archive.workers import InProcessPool, WorkerPool
from wsi_engine.config import make_settings
from wsi_engine.engine.workers.dask import check_one
from wsi_engine.errors import SettingsError


@dataclass(frozen=True)
class ArchiveSummary:
    """The outcomes of the slides of an archive.

    Attributes
    ----------
    output
        Folder of results.
    outcomes
        One per slide, in the order of the input; those that no run has had yet are missing.
    seconds
        Time that this run took.

    Examples
    --------
    >>> import wsi_engine as we
    >>> summary = we.run_archive(["slide.tif"], "results", model="watershed")
    >>> summary.computed, len(summary.done), len(summary.failed)  # it was done before
    (0, 1, 0)
    """

    output: Path
    outcomes: tuple[Outcome, ...]
    seconds: float

    def _of(self, status: str) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.status == status)

    @property
    def done(self) -> tuple[Outcome, ...]:
        """Slides with a result."""
        return self._of("done")

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Slides that failed, now or earlier."""
        return self._of("failed")

    @property
    def claimed_by_another(self) -> tuple[Outcome, ...]:
        """Slides that another run, which is alive, is at."""
        return self._of("elsewhere")

    @property
    def computed(self) -> int:
        """Number of slides that this run did."""
        return sum(outcome.computed for outcome in self.done)

    @property
    def damaged(self) -> tuple[Outcome, ...]:
        """Slides that are done, but could not be read everywhere."""
        return tuple(outcome for outcome in self.done if outcome.damaged)


def run_archive(
    slides: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    manifest: str | Path | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    cluster: str | None = None,
    share: tuple[int, int] = (1, 1),
    retry_failed: bool = False,
    force: bool = False,
    wait: bool = False,
    cache: CacheSettings | None = None,
    listen: Listener = ignore,
    config: str | Path | None = None,
    **settings: Any,
) -> ArchiveSummary:
    """Find every nucleus on many slides, doing none twice.

    The same call can be made by several processes, on several machines, at the same time and
    again: slides that are finished stay as they are, those that somebody is at are left to them.

    Parameters
    ----------
    slides
        Files, folders, patterns or URLs, or one of them.
    output
        Folder that gets a folder per slide, ``summary.csv`` and ``archive.sqlite``.
    manifest
        CSV with a row per slide; see docs/archive.md.
    jobs
        Number of worker processes, each with one slide at a time; 1 for this process alone. As
        they are spawned, a script needs ``if __name__ == "__main__":`` around the call.
    scheduler
        Address of a Dask scheduler whose workers do the slides, such as ``tcp://host:8786``.
    cluster
        ``slurm``, ``lsf`` or ``kubernetes``: start ``jobs`` workers there, as Dask's
        configuration files describe it.
    share
        (k, n): begin with the k-th of n shares of the slides, then help with the others.
    retry_failed
        Try slides again that failed in an earlier run.
    force
        Do slides again that are finished, and begin those anew that are not.
    wait
        Wait for slides that other runs are at, and take them over if those die.
    cache
        Cache for slides that are named by URL.
    listen
        Listener that is called with every event as it happens.
    config, **settings
        Settings, as for `run`.

    Returns
    -------
    ArchiveSummary
        What became of each slide.

    Raises
    ------
    EngineError
        When nothing can be done at all. What is wrong with one slide is its outcome.

    Examples
    --------
    >>> from pathlib import Path
    >>> import wsi_engine as we
    >>> _ = Path("broken.tif").write_bytes(b"no slide")
    >>> summary = we.run_archive(["slide.tif", "broken.tif"], "archive", model="watershed")
    >>> [outcome.name for outcome in summary.done]
    ['slide']
    >>> [outcome.name for outcome in summary.failed]
    ['broken']
    """
    if jobs < 1:
        raise SettingsError(f"--jobs {jobs}: give a number from 1")
    check_one(scheduler, cluster)
    if force and share != (1, 1):
        raise SettingsError(
            "--force with --share: a run that starts later would do again what the others have "
            "just done; start one run with --force, or use another --output"
        )
    started, listen = time.monotonic(), guarded(listen)
    output = Path(output).absolute()
    tasks = list_tasks(
        [str(slides)] if isinstance(slides, str | Path) else [str(slide) for slide in slides],
        Path(manifest) if manifest is not None else None,
        output,
        make_settings(Path(config) if config else None, **settings),
        cache or CacheSettings(default_folder()),
        retry_failed=retry_failed,
        force=force,
        keep_names=True,
    )
    driver = Driver(output, share_first(tasks, share), wait, listen)
    driver.look()
    if driver.left:
        with _pool(jobs, driver.left, scheduler, cluster, listen) as pool:
            driver.work(pool)
    write_views(output)
    names = [task.job.name for task in tasks]
    outcomes = [driver.outcomes[name] for name in names if name in driver.outcomes]
    summary = ArchiveSummary(output, tuple(outcomes), time.monotonic() - started)
    listen(Event("archive_ended", facts=_counts(summary)))
    return summary


def _pool(
    jobs: int, slides: int, scheduler: str | None, cluster: str | None, listen: Listener
) -> WorkerPool:
    if scheduler is None and cluster is None and jobs == 1:
        return InProcessPool(listen)
    # Workers share the processors: one that finds no slide would take its share for nothing.
    workers = min(jobs, slides)
    if scheduler is None and cluster is None:
        return LocalPool(workers, listen)
    from wsi_engine.archive.dask_workers import cluster_pool, scheduler_pool

    if scheduler is not None:
        return scheduler_pool(scheduler, listen)
    assert cluster is not None
    return cluster_pool(cluster, workers, listen)


def _counts(summary: ArchiveSummary) -> dict[str, Any]:
    return {
        "done": len(summary.done),
        "computed": summary.computed,
        "failed": len(summary.failed),
        "elsewhere": len(summary.claimed_by_another),
        "damaged": len(summary.damaged),
        "seconds": round(summary.seconds, 1),
    }
