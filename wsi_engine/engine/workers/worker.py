"""What a worker process does for a slide that is computed by many: the blocks that it is given."""

from __future__ import annotations

import os
import platform
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from wsi_engine.config import RunSettings
from wsi_engine.engine.basis import Basis, basis_of, basis_of_tiles, differences
from wsi_engine.engine.plan import Plan, make_plan
from wsi_engine.engine.provenance import peak_rss_mb
from wsi_engine.engine.tile_flow import compute_tiles
from wsi_engine.engine.workers.devices import batch_size_for, place
from wsi_engine.engine.workers.local import devices_of_worker
from wsi_engine.errors import EngineError, WorkerError
from wsi_engine.models.devices import (
    CPU,
    arithmetic_of,
    describe_device,
    processor_threads,
    resolve_devices,
    reuse_freed_memory,
)
from wsi_engine.models.protocol import Model
from wsi_engine.qupath.regions import Regions
from wsi_engine.schedule.clock import StageClock, StageTimes
from wsi_engine.schedule.tiles import Tile
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.opening import open_slide
from wsi_engine.store.parts import pack_tiles


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker must know of a run; can be sent to another machine.

    Attributes
    ----------
    run
        Name of the run, which no other has.
    slide
        Absolute path of the slide.
    settings
        Settings, with absolute paths.
    basis
        That of the tiles, which a worker must have in common with all others.
    tiles
        Number of tiles that each worker may expect.
    given
        The model, if the user gave an object and no name.
    regions
        The regions that bound the work: nobody finds them a second time.
    """

    run: str
    slide: Path
    settings: RunSettings
    basis: Basis
    tiles: int
    given: Model | None = None
    regions: Regions | None = None


@dataclass(frozen=True)
class Block:
    """What a worker found on a block of tiles.

    Attributes
    ----------
    nuclei
        Nuclei as `wsi_engine.store.parts.pack_tiles` packs them.
    tiles
        Number of tiles.
    lost
        Regions that could not be read.
    times
        Times that the block took; those of a worker's first block include its plan.
    devices
        Devices on which it was computed.
    process
        Name of the machine and number of the process.
    peak_rss_mb
        Peak of the process's memory so far.
    """

    nuclei: bytes
    tiles: int
    lost: frozenset[LevelBox]
    times: StageTimes
    devices: list[str]
    process: str
    peak_rss_mb: float | None


@dataclass(frozen=True)
class _Ready:
    """A process that is ready for the blocks of a run."""

    run: str
    plan: Plan
    models: list[Model]
    devices: list[str]


_getting_ready = threading.Lock()
_ready: _Ready | None = None


def job_of(plan: Plan, basis: Basis, tiles: int, run: str) -> WorkerJob:
    """Return what workers must know to compute the tiles of a plan."""
    # Workers may have other memory: they take the tiles that were chosen here.
    chosen = plan.settings.model_copy(update={"tile_size": plan.tile_grid.core})
    settings, slide = chosen.with_absolute_paths(), plan.info.path.absolute()
    return WorkerJob(run, slide, settings, basis, tiles, plan.given, plan.regions)


def arithmetic_of_worker(device: str) -> list[str]:
    """Name what tiles would be computed with; called in a worker process.

    Parameters
    ----------
    device
        As the setting of this name.
    """
    return arithmetic_of(devices_of_worker(resolve_devices(device)))


def compute_block(job: WorkerJob, tiles: tuple[Tile, ...]) -> Block:
    """Find the nuclei of some tiles; called in a worker process.

    The first call for a run makes the plan and loads the model, which stay for the next ones. The
    slide is open only during a call.

    Raises
    ------
    WorkerError
        When this process would compute something else than that which wants the nuclei.
    """
    clock = StageClock()
    ready = _make_ready(job, clock)
    with open_slide(job.slide) as slide:
        plan = ready.plan.reading(slide)
        batch_size = batch_size_for(plan, ready.devices)
        with closing(compute_tiles(plan, ready.models, batch_size, clock, tiles)) as computed:
            found = [(tile.index, nuclei) for tile, nuclei in computed]
    return Block(
        nuclei=pack_tiles(found),
        tiles=len(tiles),
        lost=plan.reader.lost,
        times=clock.times(),
        devices=[describe_device(device) for device in ready.devices],
        process=f"{platform.node()} {os.getpid()}",
        peak_rss_mb=peak_rss_mb(),
    )


def _make_ready(job: WorkerJob, clock: StageClock) -> _Ready:
    global _ready
    with _getting_ready:
        if _ready is None or _ready.run != job.run:
            _ready = None  # one model at a time
            try:
                _ready = _get_ready(job, clock)
            except EngineError as error:
                raise WorkerError(f"worker on {platform.node()}: {error}") from error
        return _ready


def _get_ready(job: WorkerJob, clock: StageClock) -> _Ready:
    # Whoever started this process has given it its share of the processors.
    threads = processor_threads()
    settings = job.settings
    if settings.workers == "auto":
        settings = settings.model_copy(update={"workers": threads})
    devices = devices_of_worker(resolve_devices(settings.device))
    if devices[0] == CPU:
        reuse_freed_memory()
    with open_slide(job.slide) as slide:
        plan = make_plan(slide, settings, devices[0], clock, given=job.given, regions=job.regions)
    basis = basis_of_tiles(basis_of(job.slide, settings, job.given), plan, arithmetic_of(devices))
    if changes := differences(job.basis, basis):
        raise WorkerError(
            f"other nuclei could be found here than where the run began ({'; '.join(changes)}): "
            "give all machines the same files and versions, and use workers of one kind"
        )
    return _Ready(job.run, plan, place(plan, devices, job.tiles, clock), devices)
