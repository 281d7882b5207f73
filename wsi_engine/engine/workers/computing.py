"""Who computes the tiles of a slide: this process, others on this machine, or an executor's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from wsi_engine.engine.basis import Basis
from wsi_engine.engine.plan import Plan
from wsi_engine.engine.progress import Observer, ignore
from wsi_engine.engine.tile_flow import Compute, compute_tiles
from wsi_engine.engine.workers.blocks import BlockCompute, explaining
from wsi_engine.engine.workers.devices import batch_size_for, place
from wsi_engine.engine.workers.local import local_workers
from wsi_engine.engine.workers.worker import arithmetic_of_worker, job_of
from wsi_engine.errors import SettingsError
from wsi_engine.models.devices import arithmetic_of
from wsi_engine.schedule.clock import StageClock

MEGAPIXELS_PER_JOB = 400
"""Megapixels, halos included, that make one more process on this machine worth its start, which
costs as much as 20 of them (benchmarks/blocks.md)."""


@dataclass(frozen=True)
class Processes:
    """Over how many processes a slide is split.

    Attributes
    ----------
    jobs
        Number of processes; 1 for no other than this one.
    executor
        Executor whose workers they are; without it they are started on this machine.
    """

    jobs: int = 1
    executor: Executor | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise SettingsError(f"jobs = {self.jobs}: give a number from 1")

    def arithmetic(self, device: str, devices: list[str]) -> list[str]:
        """Name what tiles are computed with, here or, if there is an executor, by its workers.

        Parameters
        ----------
        device, devices
            The setting of this name, and what it means in this process.

        Raises
        ------
        EngineError
            When a worker cannot tell.
        """
        if self.executor is None:
            return arithmetic_of(devices)
        with explaining("when it was asked for its devices"):
            return self.executor.submit(arithmetic_of_worker, device).result()


WorkerReports = list[dict[str, Any]]
"""Devices, number of tiles and peak of memory of each process."""


@contextmanager
def computing(
    plan: Plan,
    basis: Basis,
    processes: Processes,
    devices: list[str],
    tiles: int,
    clock: StageClock,
    observe: Observer = ignore,
) -> Iterator[tuple[Compute, WorkerReports]]:
    """Give what computes tiles, and a list that gets the worker processes that took part.

    Parameters
    ----------
    basis
        That of the tiles.
    devices
        Devices of this process, if it computes.
    tiles
        Number of tiles that are to be computed.
    """
    batch_size = batch_size_for(plan, devices)
    if processes.executor is not None:
        job = job_of(plan, basis, tiles // processes.jobs, uuid.uuid4().hex)
        compute = BlockCompute(plan, job, processes.executor, processes.jobs, batch_size, clock)
        yield compute, compute.workers
        return
    jobs = min(processes.jobs, jobs_that_pay(tiles, plan.tile_grid.window_side))
    if jobs > 1:
        with local_workers(jobs) as executor:
            job = job_of(plan, basis, tiles // jobs, uuid.uuid4().hex)
            compute = BlockCompute(plan, job, executor, jobs, batch_size, clock)
            yield compute, compute.workers
        return
    models = place(plan, devices, tiles, clock, observe)
    yield partial(compute_tiles, plan, models, batch_size, clock), []


def jobs_that_pay(tiles: int, side: int) -> int:
    """Return how many processes so many tiles of a side in pixels are worth."""
    return int(tiles * side**2 / 1e6 / MEGAPIXELS_PER_JOB)
