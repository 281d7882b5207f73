"""Worker processes on this machine, which share its processors and GPUs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from typing import Any

from wsi_engine.models.devices import use_threads

_SECONDS_BETWEEN_LOOKS = 0.2

_number, _count = 0, 1


@contextmanager
def local_workers(count: int) -> Iterator[Executor]:
    """Start worker processes, and end them with the block, whatever they are at.

    They are spawned, not forked, as on Windows: a script that calls this needs
    ``if __name__ == "__main__":``.
    """
    context = multiprocessing.get_context("spawn")
    numbers: SimpleQueue[int] = context.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    # Without a lock, which a worker that is killed could take to its grave.
    ended = context.RawValue("b", 0)
    executor = ProcessPoolExecutor(count, context, _begin, (numbers, count, ended))
    try:
        yield executor
    finally:
        ended.value = 1
        executor.shutdown(wait=True, cancel_futures=True)


def devices_of_worker(devices: list[str]) -> list[str]:
    """Return this process's share of a machine's devices: all of them if it works alone."""
    return devices[_number::_count] or [devices[_number % len(devices)]]


def _begin(numbers: SimpleQueue[int], count: int, ended: Any) -> None:
    """Make this process one of some workers."""
    global _number, _count
    _number, _count = numbers.get(), count
    use_threads(max(1, (os.cpu_count() or 1) // count))
    live_with_parent(ended)


def live_with_parent(ended: Any = None) -> None:
    """From now on, end this process as soon as nobody waits for it, and not before.

    Parameters
    ----------
    ended
        Shared value that the parent sets when it waits no longer; it may also be killed.
    """
    # Ctrl-C goes to all processes of a terminal; the one that was called ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_in_time, args=(ended,), name="end", daemon=True).start()


def _end_in_time(ended: Any) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    while parent.is_alive() and not (ended is not None and ended.value):
        parent.join(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)
