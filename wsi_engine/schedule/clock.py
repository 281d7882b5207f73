"""How long each stage was busy."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")

MODEL_STAGES = frozenset({"infer", "decode"})
"""What a model does: pixels to maps on the device, maps to polygons."""


@dataclass(frozen=True)
class StageTimes:
    """What a clock has measured, to be sent to another process.

    Attributes
    ----------
    wall, cpu
        Seconds by stage.
    model_occupied
        Seconds in which at least one thread was in a stage of the model.
    """

    wall: Mapping[str, float]
    cpu: Mapping[str, float]
    model_occupied: float


class StageClock:
    """Adds up busy time by stage, over all threads.

    Time is exclusive: while a stage calls into another on the same thread, only the inner one
    is counted. ``wall`` is time spent inside a stage; ``cpu`` is processor time of the calling
    threads, which leaves out threads that a library starts by itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._wall: dict[str, float] = defaultdict(float)
        self._cpu: dict[str, float] = defaultdict(float)
        self._modelling = 0
        self._model_since = 0.0
        self._model_occupied = 0.0

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time of a ``with`` block for a stage."""
        stack: list[str] = self._stack()
        self._lap(stack)
        stack.append(stage)
        self._enter(stage)
        try:
            yield
        finally:
            self._lap(stack)
            stack.pop()
            self._leave(stage)

    def timed(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """Pass items on, counting the time that each took to arrive."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    @property
    def model_occupied(self) -> float:
        """Seconds in which at least one thread was in a stage of the model."""
        with self._lock:
            running = time.perf_counter() - self._model_since if self._modelling else 0.0
            return self._model_occupied + running

    def wall(self, stage: str) -> float:
        """Seconds spent inside a stage, summed over its threads."""
        with self._lock:
            return self._wall[stage]

    def times(self) -> StageTimes:
        """Return all that was measured so far."""
        occupied = self.model_occupied
        with self._lock:
            return StageTimes(dict(self._wall), dict(self._cpu), occupied)

    def add(self, times: StageTimes, model_share: float) -> None:
        """Add what was measured in another process.

        Parameters
        ----------
        model_share
            Share of its ``model_occupied`` that counts: with n processes at work 1 / n, so that the
            sum is the mean over the processes.
        """
        with self._lock:
            for stage, seconds in times.wall.items():
                self._wall[stage] += seconds
            for stage, seconds in times.cpu.items():
                self._cpu[stage] += seconds
            self._model_occupied += times.model_occupied * model_share

    def report(self) -> dict[str, dict[str, float]]:
        """Return wall and processor seconds by stage."""
        with self._lock:
            return {
                stage: {"wall_s": round(self._wall[stage], 3), "cpu_s": round(self._cpu[stage], 3)}
                for stage in self._wall
            }

    def _stack(self) -> list[str]:
        if not hasattr(self._local, "stack"):
            self._local.stack = []
            self._local.lap = (0.0, 0.0)
        stack: list[str] = self._local.stack
        return stack

    def _lap(self, stack: list[str]) -> None:
        """Credit the time since the last change to the stage that is on top."""
        now = (time.perf_counter(), time.thread_time())
        if stack:
            with self._lock:
                self._wall[stack[-1]] += now[0] - self._local.lap[0]
                self._cpu[stack[-1]] += now[1] - self._local.lap[1]
        self._local.lap = now

    def _enter(self, stage: str) -> None:
        if stage in MODEL_STAGES:
            with self._lock:
                if self._modelling == 0:
                    self._model_since = time.perf_counter()
                self._modelling += 1

    def _leave(self, stage: str) -> None:
        if stage in MODEL_STAGES:
            with self._lock:
                self._modelling -= 1
                if self._modelling == 0:
                    self._model_occupied += time.perf_counter() - self._model_since
