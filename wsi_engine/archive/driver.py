"""The loop of an archive: it hands out slides and notes the outcome of each."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from wsi_engine.archive.events import Event, Listener
from wsi_engine.archive.outcome import Outcome
from wsi_engine.archive.summary import write_views
from wsi_engine.archive.task import SlideTask, died, known_outcome
from wsi_engine.archive.workers import Completion, WorkerPool

MOST_DEATHS = 2
"""Number of workers that may die on one slide before it is given up."""

_SECONDS_BETWEEN_ROUNDS = 2.0
_SECONDS_BETWEEN_VIEWS = 60.0
_VIEWS_SHARE = 0.05
_PATIENCE_S = 0.5
_LONGEST_DYING_S = 10.0
"""Time that a killed process, whose claim counts until it is gone, may take to go."""


class Driver:
    """The slides of a run: which are left, which another run has, what became of the others.

    Parameters
    ----------
    output
        Folder of results.
    tasks
        The slides, in the order in which they are begun.
    wait
        Whether to wait for slides that other runs are at.
    listen
        Listener that is called with every event.

    Attributes
    ----------
    outcomes
        Outcomes by name, for the slides that any run has had.
    """

    def __init__(self, output: Path, tasks: list[SlideTask], wait: bool, listen: Listener) -> None:
        self._output = output
        self._left = deque(tasks)
        self._elsewhere: list[SlideTask] = []
        self._wait = wait
        self._listen = listen
        self._deaths: dict[str, int] = {}
        self._moved = True
        self._next_views = time.monotonic() + _SECONDS_BETWEEN_VIEWS
        self.outcomes: dict[str, Outcome] = {}

    @property
    def left(self) -> int:
        """Number of slides that are not begun."""
        return len(self._left)

    def look(self) -> None:
        """Find what is done, and has failed, already."""
        slides, left = len(self._left), deque[SlideTask]()
        for task in self._left:
            known = known_outcome(task)
            if known is None:
                left.append(task)
            else:
                self.outcomes[task.job.name] = known
        self._left = left
        failed = sum(outcome.status == "failed" for outcome in self.outcomes.values())
        facts = {
            "slides": slides,
            "done": len(self.outcomes) - failed,
            "failed": failed,
            "left": len(left),
        }
        self._listen(Event("archive_started", facts=facts))

    def work(self, pool: WorkerPool) -> None:
        """Hand out slides until all are done, have failed, or are with others who are alive."""
        under_way = 0
        while self._left or under_way or self._another_round():
            for worker in pool.free_workers():
                if not self._left:
                    break
                pool.submit(self._left.popleft(), worker)
                under_way += 1
            completed = pool.completed(_PATIENCE_S)
            under_way -= len(completed)
            for report in completed:
                self._settle(report)
            self._keep_views()

    def _settle(self, report: Completion) -> None:
        task, outcome = report.task, report.outcome
        name = task.job.name
        if outcome is None:
            deaths = self._deaths[name] = self._deaths.get(name, 0) + 1
            again = deaths < MOST_DEATHS
            self._listen(Event("worker_died", name, report.worker, {"tried_again": again}))
            if again:
                # At the end of the queue: it may have died of what its neighbours took.
                self._left.append(replace(task, attempt=task.attempt + 1, deaths=deaths))
                return
            outcome = _died(task)
        if outcome.status == "elsewhere":
            self._elsewhere.append(task)
        else:
            self._moved = True
        self._tell(outcome, report.worker)

    def _tell(self, outcome: Outcome, worker: str | None = None) -> None:
        was_claimed_by_another = outcome.name in self.outcomes
        self.outcomes[outcome.name] = outcome
        if not (was_claimed_by_another and outcome.status == "elsewhere"):
            self._listen(_event(outcome, worker, was_claimed_by_another=was_claimed_by_another))

    def _another_round(self) -> bool:
        """Try slides again that were with others; whether any is worth it, or waited for."""
        waiting, self._elsewhere = self._elsewhere, []
        for task in waiting:
            known = known_outcome(task)
            if known is not None:
                self._tell(known)
            # One that died here is not with others for long.
            elif self._moved or self._wait or task.job.name in self._deaths:
                self._left.append(task)
        if self._left and not self._moved:
            time.sleep(_SECONDS_BETWEEN_ROUNDS)
        self._moved = False
        return bool(self._left)

    def _keep_views(self) -> None:
        if time.monotonic() < self._next_views:
            return
        begun = time.monotonic()
        write_views(self._output)
        cost = time.monotonic() - begun
        self._next_views = time.monotonic() + max(_SECONDS_BETWEEN_VIEWS, cost / _VIEWS_SHARE)


def _died(task: SlideTask) -> Outcome:
    """Return the outcome of a slide on which workers died, when the last one has let go of it."""
    patience = time.monotonic() + _LONGEST_DYING_S
    while (outcome := died(task)).status == "elsewhere" and time.monotonic() < patience:
        time.sleep(0.1)
    return outcome


def _event(outcome: Outcome, worker: str | None, *, was_claimed_by_another: bool) -> Event:
    facts: dict[str, Any] = {"computed": outcome.computed, "was_elsewhere": was_claimed_by_another}
    if outcome.failure is not None:
        return Event("slide_failed", outcome.name, worker, asdict(outcome.failure) | facts)
    if outcome.status == "elsewhere":
        return Event("slide_elsewhere", outcome.name, worker, {"owner": outcome.owner})
    names = ("nuclei", "tiles", "megapixels", "seconds", "damaged", "warnings")
    facts |= {name: getattr(outcome, name) for name in names}
    return Event("slide_done", outcome.name, worker, facts)
