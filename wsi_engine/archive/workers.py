"""The pool of workers that does the slides: this process, or others."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from wsi_engine.archive.events import Listener
from wsi_engine.archive.outcome import Outcome
from wsi_engine.archive.task import SlideTask, do_slide
from wsi_engine.closing import Closing


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of a task that was submitted; ``outcome`` is ``None`` if its worker died."""

    task: SlideTask
    worker: str
    outcome: Outcome | None


class WorkerPool(Closing):
    """Does slides, one at a time on each worker; a context."""

    @abstractmethod
    def free_workers(self) -> list[str]:
        """Names of the workers that live and have nothing to do."""

    @abstractmethod
    def submit(self, task: SlideTask, worker: str) -> None:
        """Let an idle worker do a slide."""

    @abstractmethod
    def completed(self, timeout_s: float) -> list[Completion]:
        """Return the tasks that ended since the last call; waits for the first, not for long."""


class InProcessPool(WorkerPool):
    """A pool of one: this process.

    Parameters
    ----------
    listen
        Listener that is called with every slide's progress.
    """

    def __init__(self, listen: Listener) -> None:
        self._listen = listen
        self._completed: list[Completion] = []

    def free_workers(self) -> list[str]:
        """Return the name of this process, which is never busy when it is asked."""
        return ["this process"]

    def submit(self, task: SlideTask, worker: str) -> None:
        """Do a slide."""
        self._completed.append(Completion(task, worker, do_slide(task, self._listen, worker)))

    def completed(self, timeout_s: float) -> list[Completion]:
        """Return the report of the slide that was done."""
        del timeout_s
        completed, self._completed = self._completed, []
        return completed

    def close(self) -> None:
        """Leave nothing behind."""
