"""A pool of worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from wsi_engine.archive.events import Event, Listener
from wsi_engine.archive.outcome import Outcome
from wsi_engine.archive.task import SlideTask, do_slide
from wsi_engine.archive.workers import Completion, WorkerPool
from wsi_engine.engine.workers.local import live_with_parent
from wsi_engine.errors import EngineError, WorkerError

MOST_FAILED_STARTS = 3
"""Workers in a row that may die before they are ready; more would die as well."""

_LONGEST_GOODBYE_S = 5

# What a worker sends: that it is ready, an event, the outcome of its task, what ends the run.
_Message = None | Event | Outcome | EngineError


@dataclass(slots=True)
class _Worker:
    label: str
    slot: int
    process: BaseProcess
    connection: Connection
    is_ready: bool = False
    task: SlideTask | None = None


class LocalPool(WorkerPool):
    """Processes that share the processors and GPUs of this machine.

    They are spawned, not forked, as on Windows: a script that makes a pool needs
    ``if __name__ == "__main__":``. One that dies is replaced; the others do not notice.

    Parameters
    ----------
    workers
        Number of processes.
    listen
        Listener that is called with every slide's progress, by the thread that asks for reports.
    """

    def __init__(self, workers: int, listen: Listener) -> None:
        self._listen = listen
        self._threads = max(1, (os.cpu_count() or 1) // workers)
        self._failed_starts = 0
        self._workers = {worker.label: worker for worker in map(_start, range(workers))}

    def free_workers(self) -> list[str]:
        """Return the names of the processes that are ready and have no slide."""
        return [
            label
            for label, worker in self._workers.items()
            if worker.is_ready and worker.task is None
        ]

    def submit(self, task: SlideTask, worker: str) -> None:
        """Let a process do a slide with its threads, and its share of the machine's GPUs."""
        chosen = self._workers[worker]
        chosen.task = replace(task, threads=self._threads, slot=chosen.slot)
        with suppress(OSError):  # where it has died just now, as the next look shows
            chosen.connection.send(chosen.task)

    def completed(self, timeout_s: float) -> list[Completion]:
        """Pass on events, and return what came of slides."""
        workers = list(self._workers.values())
        sentinels = [worker.process.sentinel for worker in workers]
        wait([*sentinels, *(worker.connection for worker in workers)], timeout_s)
        return [completion for worker in workers for completion in self._look_at(worker)]

    def close(self) -> None:
        """End the processes, whatever they are at."""
        for worker in self._workers.values():
            if worker.task is not None:
                worker.process.kill()
            worker.connection.close()
        for worker in self._workers.values():
            worker.process.join(_LONGEST_GOODBYE_S)
            worker.process.kill()
        self._workers.clear()

    def _look_at(self, worker: _Worker) -> list[Completion]:
        # Asked before what it has sent is read, so that nothing of the dead is missed.
        is_dead = not worker.process.is_alive()
        completed = []
        try:
            while worker.connection.poll():
                message: _Message = worker.connection.recv()
                if isinstance(message, EngineError):
                    raise message
                if isinstance(message, Event):
                    self._listen(message)
                elif message is None:
                    self._join(worker)
                else:
                    assert worker.task is not None
                    completed.append(Completion(worker.task, worker.label, message))
                    worker.task = None
        except (EOFError, OSError):
            is_dead = True
        if is_dead:
            completed += self._replace(worker)
        return completed

    def _join(self, worker: _Worker) -> None:
        worker.is_ready, self._failed_starts = True, 0
        facts = {"threads": self._threads}
        self._listen(Event("worker_joined", worker=worker.label, facts=facts))

    def _replace(self, dead: _Worker) -> list[Completion]:
        """Start a process in the place of one that died, and report the slide that it was at."""
        dead.process.kill()  # where only its connection has ended
        dead.process.join()
        dead.connection.close()
        if not dead.is_ready:
            self._failed_starts += 1
        if self._failed_starts == MOST_FAILED_STARTS:
            raise WorkerError(
                f"worker processes end before they are ready (exit code {dead.process.exitcode}): "
                "use fewer --jobs if the memory is short, and in a script call the engine under "
                '`if __name__ == "__main__":`'
            )
        self._workers[dead.label] = _start(dead.slot)
        return [Completion(dead.task, dead.label, None)] if dead.task is not None else []


def _start(slot: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    label = f"worker {slot + 1}"
    process = context.Process(target=_work, args=(there, label), name=label, daemon=True)
    process.start()
    there.close()  # so that the end of the process is the end of the connection
    return _Worker(label, slot, process, here)


def _work(connection: Connection, label: str) -> None:
    """Do slides as they come; called in a worker process."""
    live_with_parent()
    speaking = threading.Lock()

    def tell(message: _Message) -> None:
        try:
            with speaking:
                connection.send(message)
        except OSError:
            os._exit(1)  # nobody is left to tell

    tell(None)
    while True:
        try:
            task: SlideTask = connection.recv()
        except (EOFError, OSError):
            return
        try:
            tell(do_slide(task, tell, label))
        except EngineError as error:
            tell(error)
        # What is no fault of the slide ends the run.
        except Exception as error:
            tell(WorkerError(f"{label}: {type(error).__name__}: {error}"))
