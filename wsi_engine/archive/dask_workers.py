"""A pool of Dask workers, on as many machines as there are."""

from __future__ import annotations

import asyncio
import queue
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from wsi_engine.archive.events import Event, Listener
from wsi_engine.archive.outcome import Outcome
from wsi_engine.archive.task import SlideTask, do_slide
from wsi_engine.archive.workers import Completion, WorkerPool
from wsi_engine.engine.workers.dask import connect, import_distributed, start
from wsi_engine.errors import ClusterError

_SECONDS_BETWEEN_LOOKS = 0.5
_LONGEST_FETCH_S = 30
_SHORT_GOODBYE_S, _LONG_GOODBYE_S = 2, 30


@dataclass(slots=True)
class _Worker:
    label: str
    slot: int
    threads: int
    task: SlideTask | None = None
    future: Any = None


class DaskPool(WorkerPool):
    """Workers of a Dask scheduler.

    The pool hands out slides itself, one to each worker, instead of leaving that to the
    scheduler: so it is known which slide a worker had that died, and no slide is blamed that
    only waited there.

    Parameters
    ----------
    client
        A connected ``distributed.Client``.
    listen
        Listener that is called with every slide's progress, by the thread that asks for reports.
    cluster
        Cluster that ends with the pool.
    """

    def __init__(self, client: Any, listen: Listener, cluster: Any = None) -> None:
        self._client = client
        self._cluster = cluster
        self._listen = listen
        self._workers: dict[str, _Worker] = {}
        self._looked_at = -_SECONDS_BETWEEN_LOOKS
        self._topic = f"wsi-engine-{uuid.uuid4().hex}"
        # Of pairs: ("event", Event) or ("ended", address of the worker).
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        # Of workers that have ended, but whose outcomes could not be fetched yet.
        self._late: list[str] = []
        client.subscribe_topic(self._topic, self._take_event)

    def free_workers(self) -> list[str]:
        """Return the addresses of live workers without a slide."""
        self._look_around()
        return [address for address, worker in self._workers.items() if worker.task is None]

    def submit(self, task: SlideTask, worker: str) -> None:
        """Let a worker do a slide with its threads, and its share of the machine's GPUs."""
        state = self._workers[worker]
        task = replace(task, threads=state.threads, slot=state.slot)
        state.task = task
        state.future = self._call(
            self._client.submit,
            _do_in_worker,
            task,
            state.label,
            self._topic,
            workers=[worker],
            pure=False,
            retries=0,
        )
        state.future.add_done_callback(lambda _: self._inbox.put(("ended", worker)))

    def completed(self, timeout_s: float) -> list[Completion]:
        """Pass on events, and return what came of slides."""
        completed = []
        patience = timeout_s
        while True:
            try:
                kind, content = self._inbox.get(timeout=patience)
            except queue.Empty:
                break
            patience = 0.0  # take what is there already, then go
            if kind == "event":
                self._listen(content)
            elif (report := self._report(content)) is not None:
                completed.append(report)
        for address in self._late:
            self._inbox.put(("ended", address))
        self._late.clear()
        return completed + self._of_the_dead()

    def close(self) -> None:
        """End the workers; slides under way end where they are."""
        is_busy = any(worker.task is not None for worker in self._workers.values())
        patience = _SHORT_GOODBYE_S if is_busy else _LONG_GOODBYE_S
        # Whoever has not gone by then sees that the scheduler has.
        with suppress(TimeoutError, OSError):
            self._client.close(timeout=patience)
        # Also if the client did not: jobs in a queue would stay.
        with suppress(TimeoutError, OSError):
            if self._cluster is not None:
                self._cluster.close(timeout=patience)

    def _take_event(self, stamped: tuple[float, dict[str, Any]]) -> None:
        self._inbox.put(("event", Event(**stamped[1]["content"])))

    def _report(self, address: str) -> Completion | None:
        worker = self._workers.get(address)
        if worker is None or worker.task is None or not worker.future.done():
            return None
        try:
            outcome: Outcome = worker.future.result(timeout=_LONGEST_FETCH_S)
        except TimeoutError:
            self._late.append(address)  # it lives, and may yet bring it
            return None
        except asyncio.CancelledError:
            return None  # it died with the outcome in its hands; the next look shows it
        except Exception as error:
            if type(error).__name__ == "KilledWorker":
                return self._dead(address)
            raise ClusterError(
                f"worker {worker.label} cannot do slides ({error}): it needs the same wsi-engine "
                "and the same paths as this machine"
            ) from None
        task, worker.task, worker.future = worker.task, None, None
        return Completion(task, worker.label, outcome)

    def _of_the_dead(self) -> list[Completion]:
        self._look_around()
        gone = [address for address in self._workers if address not in self._alive]
        return [report for address in gone if (report := self._dead(address)) is not None]

    def _dead(self, address: str) -> Completion | None:
        worker = self._workers.pop(address)
        if worker.task is None:
            return None
        worker.future.cancel(force=True)
        return Completion(worker.task, worker.label, None)

    def _look_around(self) -> None:
        if time.monotonic() - self._looked_at < _SECONDS_BETWEEN_LOOKS:
            return
        self._alive: dict[str, int] = self._call(self._client.nthreads)
        self._looked_at = time.monotonic()
        for address, threads in self._alive.items():
            if address not in self._workers:
                host = urlsplit(address).hostname or address
                used = {w.slot for a, w in self._workers.items() if urlsplit(a).hostname == host}
                slot = next(number for number in count() if number not in used)
                label = f"{'worker' if host in _HERE else host} {slot + 1}"
                self._workers[address] = _Worker(label, slot, threads)
                self._listen(Event("worker_joined", worker=label, facts={"threads": threads}))

    def _call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except (OSError, TimeoutError) as error:
            raise ClusterError(
                f"the scheduler does not answer any more ({error}): finished slides are kept, and "
                "the same command goes on from there"
            ) from None


_HERE = {"127.0.0.1", "localhost", "::1"}


def cluster_pool(kind: str, workers: int, listen: Listener) -> DaskPool:
    """Start workers on a cluster, as Dask's configuration files describe it.

    Raises
    ------
    ClusterError
        When it cannot be started.
    """
    cluster = start(kind, workers)
    client = import_distributed().Client(cluster, set_as_default=False)
    return DaskPool(client, listen, cluster)


def scheduler_pool(address: str, listen: Listener) -> DaskPool:
    """Use the workers of a scheduler that runs already.

    Raises
    ------
    ClusterError
        When it does not answer.
    """
    return DaskPool(connect(address), listen)


def _do_in_worker(task: SlideTask, label: str, topic: str) -> Outcome:
    from distributed import get_worker

    worker = get_worker()

    def listen(event: Event) -> None:
        # Wrapped, as Dask writes the worker's address into what it is given.
        worker.log_event(topic, {"content": asdict(replace(event, facts=dict(event.facts)))})

    return do_slide(task, listen, label)
