"""The record of a run: what was done with what, so that it can be done again."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_engine.engine.versions import versions
from wsi_engine.errors import SlideError
from wsi_engine.models.devices import name_of
from wsi_engine.results.facts import (
    Bounds,
    Box,
    CorrectionFacts,
    FoundNuclei,
    GridFacts,
    MachineFacts,
    MeasurementFacts,
    ModelFacts,
    PixelSize,
    SettingsFacts,
    SlideFacts,
    StageFacts,
    StainFacts,
    TileFacts,
    TissueFacts,
    WorkerFacts,
)
from wsi_engine.results.record import RunRecord
from wsi_engine.slide.whole_pixels import reason_for

if TYPE_CHECKING:
    from wsi_engine.config import RunSettings
    from wsi_engine.engine.basis import Basis
    from wsi_engine.engine.plan import Plan
    from wsi_engine.engine.progress import Tracker
    from wsi_engine.schedule.clock import StageClock
    from wsi_engine.slide.frames import ModelGrid, Mpp
    from wsi_engine.slide.grid_reader import GridReader
    from wsi_engine.slide.protocol import SlideInfo
    from wsi_engine.slide.stain_vectors import Stains


def machine(devices: list[str]) -> MachineFacts:
    """Describe the machine of a run, without its name."""
    return MachineFacts(platform=platform.platform(), devices=tuple(map(name_of, devices)))


def describe_slide(info: SlideInfo, slide_fingerprint: str) -> SlideFacts:
    """Facts of a slide; names of associated images stay out, they may name patients.

    Parameters
    ----------
    info
        Facts of the slide, with the pixel size that is used.
    """
    assert info.mpp is not None
    return SlideFacts(
        name=info.path.name,
        fingerprint=slide_fingerprint,
        vendor=info.vendor,
        width=info.width,
        height=info.height,
        bounds=Bounds(**asdict(info.bounds)),
        mpp=PixelSize(**asdict(info.mpp)),
        mpp_source=info.mpp_source,
        objective_power=info.objective_power,
    )


def describe_unreadable(reader: GridReader) -> tuple[Box, ...]:
    """Return what could not be read of a slide."""
    return tuple(Box(**asdict(box)) for box in reader.unreadable)


def describe_grid(grid: ModelGrid, mpp: float) -> GridFacts:
    """Return the pixels that a model of ``mpp`` µm saw, and why these."""
    return GridFacts(
        mpp=PixelSize(**asdict(grid.pixel)),
        slide_pixels=grid.slide_pixels,
        reason=reason_for(grid, mpp),
    )


def describe_measurements(
    groups: Sequence[str], stains: Stains, pixel: Mpp | None = None
) -> MeasurementFacts:
    """Return which groups were measured, with which stains, and on pixels of which size."""
    described = stains.describe()
    vectors = {name: tuple(vector) for name, vector in described["vectors"].items()}
    background = tuple(described["background"])
    return MeasurementFacts(
        groups=tuple(groups),
        stains=StainFacts(name=described["name"], vectors=vectors, background=background),
        mpp=PixelSize(**asdict(pixel)) if pixel is not None else None,
    )


def describe_settings(settings: RunSettings) -> SettingsFacts:
    """Return the settings as a record keeps them."""
    return SettingsFacts.model_validate_json(settings.model_dump_json())


@dataclass
class RunLog:
    """What is noted of a run while it goes on.

    Attributes
    ----------
    started
        Time at which the run began.
    clock
        Times of its stages.
    devices
        Devices on which this process computes.
    resumed
        Number of tiles that an earlier run left.
    workers
        Devices, number of tiles and peak of memory of each process that took part; none if
        only this one did.
    tracker
        Tracker of the tiles, from the first on.
    """

    started: str
    clock: StageClock
    devices: list[str]
    resumed: int = 0
    workers: list[dict[str, Any]] = field(default_factory=list)
    tracker: Tracker = field(init=False)


def make_record(
    plan: Plan,
    basis: Basis,
    run_log: RunLog,
    warnings: list[str],
    corrections: CorrectionFacts | None,
) -> RunRecord:
    """Return the record of a finished slide.

    Raises
    ------
    SlideError
        When nothing could be read of the area.
    """
    state, tissue = run_log.tracker.state, plan.tissue
    if plan.area_mm2 == 0:
        raise SlideError(
            f"{plan.info.path.name} is damaged: nothing could be read where nuclei were looked "
            "for; copy the slide again from where it was scanned"
        )
    # So that whoever divides what is written, as `apply` does, gets the density that is written.
    area_mm2 = round(plan.area_mm2, 6) or plan.area_mm2
    return RunRecord(
        files={},  # until they are published
        slide=describe_slide(plan.info, plan.slide_fingerprint),
        slide_path=str(plan.info.path.resolve()),
        unreadable=describe_unreadable(plan.reader),
        warnings=tuple(warnings),
        tissue=TissueFacts(
            pieces=len(tissue.pieces) if tissue else None,
            area_mm2=round(tissue.area_mm2, 6) if tissue else None,
            threshold_od=round(tissue.threshold, 4) if tissue else None,
        ),
        nuclei=FoundNuclei(
            count=state.nuclei,
            area_mm2=area_mm2,
            density_per_mm2=round(state.nuclei / area_mm2, 2),
        ),
        corrections=corrections,
        model=ModelFacts(**asdict(plan.model.spec), calibration=plan.model.settings()),
        measurements=describe_measurements(
            plan.settings.measure, plan.measurer.stains, plan.measured.grid.pixel
        ),
        settings=describe_settings(plan.settings),
        basis=basis,
        tiles=TileFacts(
            count=len(plan.tiles),
            resumed=run_log.resumed,
            core_px=plan.tile_grid.core,
            halo_px=plan.tile_grid.halo,
            read_level=plan.reader.level.index,
            grid=describe_grid(plan.reader.grid, plan.model.spec.mpp),
            megapixels=round(state.megapixels, 3),
            seconds=round(state.seconds, 3),
            model_busy=round(state.busy, 4),
        ),
        workers=tuple(
            WorkerFacts(**worker | {"devices": tuple(worker["devices"])})
            for worker in run_log.workers
        ),
        stages={name: StageFacts(**seconds) for name, seconds in run_log.clock.report().items()},
        peak_rss_mb=peak_rss_mb(),
        versions=versions(),
        machine=machine(run_log.devices),
        started=run_log.started,
        finished=now(),
    )


def peak_rss_mb() -> float | None:
    """Largest memory that this process has held so far, in MB; ``None`` if that is unknown."""
    try:
        # Unlike getrusage's figure this one does not inherit the peak of the parent process.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return round(int(status.split("VmHWM:")[1].split()[0]) / 1e3, 1)
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
