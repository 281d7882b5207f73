"""What a run of many slides would do, and how long it may take; nothing is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from wsi_engine.archive.cache import CacheSettings, default_folder
from wsi_engine.archive.outcome import result_of
from wsi_engine.archive.task import (
    SlideTask,
    claimed_by_another,
    known_outcome,
    mpp_for,
    refusal_of,
)
from wsi_engine.archive.tasks import list_tasks
from wsi_engine.config import RunSettings, make_settings
from wsi_engine.errors import EngineError
from wsi_engine.models.devices import CPU, processor_threads, resolve_devices
from wsi_engine.models.registry import find_model
from wsi_engine.results.record import RunRecord
from wsi_engine.results.status import slide_folders
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.resolution import with_resolution
from wsi_engine.slide.tissue import find_tissue, tissue_reader

CPU_S_PER_MPX = {
    "starconvex": 0.39,
    "watershed": 0.33,
    "watershed-hmaxima": 0.38,
    "threshold": 0.13,
    "threshold-local": 0.16,
    "fcn": 0.53,
    "unet": 0.51,
    "cnn-watershed": 0.78,
    "two-stage": 0.69,
    "contour-aware": 0.56,
    "mask-rcnn": 1.29,
    "ensemble": 2.42,
}
"""Processor seconds by model for a megapixel as it sees them, network and decoder, as measured in
benchmarks/methods.md."""

S_PER_SLIDE = 0.8
"""Seconds that a slide takes however small it is: to open it, find tissue, write and draw its page.
Four images of 512 x 512 px took 2.3 processor seconds more than one."""

LARGEST_READ_PX = 64_000_000
"""Tissue is looked for where so many pixels, at most, have to be read for it: a second or two."""

State = Literal["to do", "done", "failed", "elsewhere", "cannot be done"]


@dataclass(frozen=True, slots=True)
class SlideForecast:
    """What would become of a slide.

    Attributes
    ----------
    slide, path
        Name of its result, and its file.
    state
        ``done``, or ``failed`` earlier, and so left alone; ``elsewhere``, at another run; ``cannot
        be done``: it would fail, for the reason that is given.
    reason
        Why it failed or would fail.
    slide_mm2, tissue_mm2
        Area of the slide as QuPath shows it, and of its tissue; ``None`` where it is not known, as
        of URLs, or would take long to find.
    megapixels
        Pixels to be searched, as the model sees them, in millions.
    seconds
        Estimated time.
    """

    slide: str
    path: str
    state: State
    reason: str | None = None
    slide_mm2: float | None = None
    tissue_mm2: float | None = None
    megapixels: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Forecast:
    """What a run of many slides would do.

    Attributes
    ----------
    slides
        The slides, in the order of the input.
    basis
        What the estimates of time rest on, in words.
    is_bounded
        Whether annotations or a regions model bound the work, so that areas and times are at most
        what is said.
    """

    slides: tuple[SlideForecast, ...]
    basis: str
    is_bounded: bool

    def those(self, state: State) -> tuple[SlideForecast, ...]:
        """Return the slides of a state."""
        return tuple(slide for slide in self.slides if slide.state == state)

    @property
    def seconds(self) -> float | None:
        """Estimated time of all that is to do; ``None`` where some of it is not known."""
        times = [slide.seconds for slide in self.those("to do")]
        known = [time for time in times if time is not None]
        return sum(known) if len(known) == len(times) else None

    def figures(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return {
            "slides": [asdict(slide) for slide in self.slides],
            "seconds": self.seconds,
            "basis": self.basis,
            "is_bounded": self.is_bounded,
        }


@dataclass(frozen=True)
class _Pace:
    """Seconds for an area or for pixels, whichever is known, and where that is from."""

    basis: str
    per_mm2: float | None = None
    per_megapixel: float | None = None

    def seconds(self, area_mm2: float, megapixels: float) -> float | None:
        if self.per_mm2 is not None:
            return self.per_mm2 * area_mm2
        if self.per_megapixel is None:
            return None
        return S_PER_SLIDE + self.per_megapixel * megapixels


def forecast_archive(
    slides: Iterable[str | Path],
    output: str | Path,
    *,
    manifest: str | Path | None = None,
    retry_failed: bool = False,
    force: bool = False,
    cache: CacheSettings | None = None,
    config: str | Path | None = None,
    **settings: Any,
) -> Forecast:
    """Say what `run_archive` would do with the same arguments, on a machine like this one.

    Raises
    ------
    EngineError
        When nothing can be done at all.
    """
    output = Path(output).absolute()
    chosen = make_settings(Path(config) if config else None, **settings)
    tasks = list_tasks(
        [str(slide) for slide in slides],
        Path(manifest) if manifest is not None else None,
        output,
        chosen,
        cache or CacheSettings(default_folder()),
        retry_failed=retry_failed,
        force=force,
        keep_names=False,
    )
    pace = _pace_of(output, chosen)
    is_bounded = any(task.settings.roi or task.settings.regions_model for task in tasks)
    return Forecast(tuple(_forecast(task, pace) for task in tasks), pace.basis, is_bounded)


def _forecast(task: SlideTask, pace: _Pace) -> SlideForecast:
    name, path = task.job.name, task.job.path
    known = known_outcome(task)
    if known is not None and known.status == "done":
        return SlideForecast(name, path, "done")
    if known is not None and known.failure is not None:
        return SlideForecast(name, path, "failed", known.failure.reason)
    if claimed_by_another(task).owner is not None:
        return SlideForecast(name, path, "elsewhere")
    if task.job.is_remote:
        return SlideForecast(name, path, "to do")
    try:
        slide_mm2, tissue_mm2 = _areas(task)
        mpp = find_model(task.settings.model).spec.mpp
    except EngineError as error:
        return SlideForecast(name, path, "cannot be done", str(error))
    if (refusal := refusal_of(task)) is not None:
        return SlideForecast(name, path, "cannot be done", refusal)
    searched = slide_mm2 if tissue_mm2 is None else tissue_mm2
    megapixels = searched / mpp**2
    seconds = pace.seconds(searched, megapixels)
    return SlideForecast(name, path, "to do", None, slide_mm2, tissue_mm2, megapixels, seconds)


def _areas(task: SlideTask) -> tuple[float, float | None]:
    with open_slide(Path(task.job.path)) as slide:
        info = with_resolution(slide.info, mpp_for(task, slide.info))
        assert info.mpp is not None
        slide_mm2 = info.bounds.width * info.bounds.height * info.mpp.pixel_area_um2 / 1e6
        level = tissue_reader(slide, info).level
        if not task.settings.tissue or level.width * level.height > LARGEST_READ_PX:
            return slide_mm2, None
        return slide_mm2, find_tissue(slide, info).area_mm2


def _pace_of(output: Path, settings: RunSettings) -> _Pace:
    folders = slide_folders(output) if output.is_dir() else ()
    records = [result_of(folder) for folder in folders]
    earlier = [
        record
        for record in records
        if record is not None
        and record.model.name == settings.model
        and record.tiles.resumed == 0
        and record.nuclei.area_mm2 > 0
    ]
    if earlier:
        area = sum(record.nuclei.area_mm2 for record in earlier)
        per_mm2 = _time_at_work(earlier) / area
        runs = "the run" if len(earlier) == 1 else f"the {len(earlier)} runs"
        basis = (
            f"{runs} in {output.name}, {area:,.2f} mm² in all: {per_mm2:,.1f} s per mm², with "
            "--jobs as then"
        )
        return _Pace(basis, per_mm2=per_mm2)
    per_megapixel = CPU_S_PER_MPX.get(settings.model)
    if per_megapixel is None or settings.weights is not None:
        return _Pace(f"no figure for {settings.model} here: it comes when one slide is done")
    if resolve_devices(settings.device)[0] != CPU:
        return _Pace("no figure for a GPU: it comes when one slide is done")
    threads = processor_threads()
    basis = (
        f"{S_PER_SLIDE} s a slide, and {per_megapixel} s per Mpx of {settings.model} on one core "
        f"(benchmarks/methods.md), {threads} cores here; measuring and writing come on top"
    )
    return _Pace(basis, per_megapixel=per_megapixel / threads)


def _time_at_work(records: list[RunRecord]) -> float:
    """Return the seconds in which at least one of some runs was at work."""

    def at(time: str) -> float:
        return datetime.fromisoformat(time).timestamp()

    spans = sorted((at(record.started), at(record.finished)) for record in records)
    seconds, until = 0.0, float("-inf")
    for start, end in spans:
        # Times are of whole seconds.
        end = max(end, start + 1)
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds
