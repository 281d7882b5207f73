"""The record of a run: what was done with what, so that it can be done again."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_engine.engine.versions import versions

if TYPE_CHECKING:
    import torch

    from wsi_engine.engine.basis import Basis
    from wsi_engine.engine.plan import Plan
    from wsi_engine.engine.progress import Tracker
    from wsi_engine.schedule.clock import StageClock
    from wsi_engine.slide.protocol import SlideInfo


def machine(devices: list[torch.device]) -> dict[str, Any]:
    """Describe the machine of a run, without its name."""
    import torch

    names = [
        torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu" for device in devices
    ]
    return {"platform": platform.platform(), "devices": names}


def describe_slide(info: SlideInfo, slide_fingerprint: str) -> dict[str, Any]:
    """Facts of a slide; names of associated images stay out, they may name patients.

    Parameters
    ----------
    info
        Facts of the slide, with the pixel size that is used.
    """
    assert info.mpp is not None
    return {
        "name": info.path.name,
        "fingerprint": slide_fingerprint,
        "vendor": info.vendor,
        "width": info.width,
        "height": info.height,
        "bounds": asdict(info.bounds),
        "mpp": asdict(info.mpp),
        "mpp_source": info.mpp_source,
        "objective_power": info.objective_power,
    }


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
    devices: list[torch.device]
    resumed: int = 0
    workers: list[dict[str, Any]] = field(default_factory=list)
    tracker: Tracker = field(init=False)


def make_record(
    plan: Plan,
    basis: Basis,
    run_log: RunLog,
    warnings: list[str],
    corrections: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the content of ``run.json`` for a finished slide."""
    state, tissue = run_log.tracker.state, plan.tissue
    return {
        "slide": describe_slide(plan.info, plan.slide_fingerprint),
        "slide_path": str(plan.info.path.resolve()),
        "unreadable": [asdict(box) for box in plan.reader.unreadable],
        "warnings": warnings,
        "tissue": {
            "pieces": len(tissue.pieces) if tissue else None,
            "area_mm2": round(tissue.area_mm2, 6) if tissue else None,
            "threshold_od": round(tissue.threshold, 4) if tissue else None,
        },
        "nuclei": {
            "count": state.nuclei,
            "area_mm2": round(plan.area_mm2, 6),
            "density_per_mm2": round(state.nuclei / plan.area_mm2, 2),
        },
        "corrections": corrections,
        "model": asdict(plan.model.spec) | {"calibration": plan.model.settings()},
        "measurements": {
            "groups": list(plan.settings.measure),
            "stains": plan.measurer.stains.describe(),
        },
        "settings": plan.settings.model_dump(mode="json"),
        "basis": basis,
        "tiles": {
            "count": len(plan.tiles),
            "resumed": run_log.resumed,
            "core_px": plan.tile_grid.core,
            "halo_px": plan.tile_grid.halo,
            "read_level": plan.reader.level.index,
            "megapixels": round(state.megapixels, 3),
            "seconds": round(state.seconds, 3),
            "model_busy": round(state.busy, 4),
        },
        "workers": run_log.workers,
        "stages": run_log.clock.report(),
        "peak_rss_mb": peak_rss_mb(),
        "versions": versions(),
        "machine": machine(run_log.devices),
        "started": run_log.started,
        "finished": now(),
    }


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
