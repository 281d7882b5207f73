"""One slide over many processes: its tiles in blocks, the nuclei back in scan order.

A block is some consecutive batches of tiles, so batches are composed as in one process. What
comes back goes the way of tiles that were computed here, into the same store, seams and files:
the bytes of a result do not depend on who computed which block.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from typing import Any

from wsi_engine.engine.plan import Plan
from wsi_engine.engine.tile_flow import TilesWithNuclei
from wsi_engine.engine.workers.worker import Block, WorkerJob, compute_block
from wsi_engine.errors import EngineError, WorkerError
from wsi_engine.schedule.clock import StageClock
from wsi_engine.schedule.tiles import Tile
from wsi_engine.store.parts import unpack_tiles

MOST_BATCHES_IN_BLOCK = 16
"""Batches in a block: enough to keep a device busy, and yet soon on the writer's disk."""

FEWEST_BLOCKS_PER_JOB = 4
"""Blocks for each worker, at least, so that all workers end at about the same time."""

BLOCKS_UNDER_WAY_PER_JOB = 2
"""Blocks that a worker has: one that it computes, one that waits. This bounds the memory."""


class BlockCompute:
    """Has the tiles of a slide computed by the workers of an executor; a `Compute`.

    Parameters
    ----------
    plan
        Plan of this process, whose reader notes what workers could not read.
    job
        What workers must know of the run.
    executor
        One that can take a function of this package and dataclasses to its workers:
        ``ProcessPoolExecutor``, or Dask's ``client.get_executor()``.
    jobs
        Number of blocks that it computes at the same time.
    batch_size
        Tiles per batch.
    clock
        Gets the times of all workers; a model counts as occupied for their mean.

    Attributes
    ----------
    workers
        The processes that took part so far, without their names, for the record of the run.
    """

    def __init__(
        self,
        plan: Plan,
        job: WorkerJob,
        executor: Executor,
        jobs: int,
        batch_size: int,
        clock: StageClock,
    ) -> None:
        self._plan = plan
        self._job = job
        self._executor = executor
        self._jobs = jobs
        self._batch_size = batch_size
        self._clock = clock
        self.workers: list[dict[str, Any]] = []
        self._by_process: dict[str, dict[str, Any]] = {}

    def __call__(self, tiles: Iterable[Tile]) -> TilesWithNuclei:
        """Yield the tiles with their nuclei; the first blocks are under way at once.

        Raises
        ------
        WorkerError
            When a worker died, or would compute something else than this process.
        EngineError
            That a worker raised.
        """
        computed = self._compute(tuple(tiles))
        next(computed)
        return computed

    def _compute(self, tiles: tuple[Tile, ...]) -> Generator[Any, None, None]:
        """Yield once when the first blocks are under way, then the tiles."""
        size = block_size(len(tiles), self._batch_size, self._jobs)
        left = deque(tiles[start : start + size] for start in range(0, len(tiles), size))
        under_way: deque[tuple[tuple[Tile, ...], Future[Block]]] = deque()

        def fill() -> None:
            while left and len(under_way) < BLOCKS_UNDER_WAY_PER_JOB * self._jobs:
                block = left.popleft()
                with explaining(_named(block)):
                    future = self._executor.submit(compute_block, self._job, block)
                under_way.append((block, future))

        try:
            fill()
            yield
            while under_way:
                block, future = under_way.popleft()
                with explaining(_named(block)):
                    done = future.result()
                    found = unpack_tiles(done.nuclei)
                fill()
                self._note(done)
                for tile, (_, nuclei) in zip(block, found, strict=True):
                    yield tile, nuclei
        finally:
            for _, future in under_way:
                future.cancel()

    def _note(self, done: Block) -> None:
        self._plan.reader.add_lost(done.lost)
        self._clock.add(done.times, 1 / self._jobs)
        if done.process not in self._by_process:
            self._by_process[done.process] = {"devices": done.devices, "tiles": 0}
            self.workers.append(self._by_process[done.process])
        worker = self._by_process[done.process]
        worker["tiles"] += done.tiles
        worker["peak_rss_mb"] = done.peak_rss_mb


def block_size(tiles: int, batch_size: int, jobs: int) -> int:
    """Return the number of tiles per block, a multiple of the batch size."""
    batches = math.ceil(tiles / (FEWEST_BLOCKS_PER_JOB * jobs * batch_size))
    return batch_size * max(1, min(MOST_BATCHES_IN_BLOCK, batches))


def _named(block: tuple[Tile, ...]) -> str:
    return f"at tiles {block[0].index} to {block[-1].index}"


@contextmanager
def explaining(where: str) -> Iterator[None]:
    """Make a sentence of what goes wrong with a worker."""
    kept = "finished tiles are kept, and the same command goes on from there"
    try:
        yield
    except EngineError:
        raise
    except BrokenExecutor:
        raise WorkerError(
            f"a worker process died (killed, out of memory, or a crash in a library): {kept}; "
            "fewer workers or a smaller --tile-size need less memory"
        ) from None
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise WorkerError(
            f"a worker failed {where} ({type(error).__name__}: {reason}): {kept}; --debug shows "
            "more"
        ) from error
