"""A slide in, nuclei out."""

from __future__ import annotations

import logging
import tempfile
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from wsi_engine.config import RunSettings, make_settings
from wsi_engine.corrections.classified import Classes
from wsi_engine.corrections.positive import Intensities
from wsi_engine.corrections.record import corrections_for
from wsi_engine.engine.basis import basis_of, basis_of_tiles, found_regions_name
from wsi_engine.engine.notebook import observing
from wsi_engine.engine.plan import make_plan
from wsi_engine.engine.progress import Observer
from wsi_engine.engine.provenance import RunLog, now
from wsi_engine.engine.resume import (
    finished_run,
    require_same_basis,
    restart_reason,
    unfinished_run,
)
from wsi_engine.engine.slide_run import SlideRun
from wsi_engine.engine.summaries import write_summaries
from wsi_engine.engine.workers.computing import Processes
from wsi_engine.errors import SettingsError
from wsi_engine.kernel_cache import tell_when_compiling
from wsi_engine.models.devices import CPU, resolve_devices, reuse_freed_memory
from wsi_engine.models.given import require_model, require_picklable
from wsi_engine.models.objects.file import read_classifier
from wsi_engine.models.protocol import Model
from wsi_engine.nuclei.positivity import Positivity
from wsi_engine.results.folder import ResultFolder
from wsi_engine.results.record import read_run_record
from wsi_engine.results.result import RunResult
from wsi_engine.schedule.clock import StageClock
from wsi_engine.slide.fingerprint import FileWatch
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.resolution import resolution_warnings
from wsi_engine.slide.slide_files import main_file
from wsi_engine.slide.stain_vectors import stain_warnings

log = logging.getLogger(__name__)

_How = tuple[RunSettings, Model | None, Observer, bool, bool, Processes]


def run(
    slide: str | Path,
    output: str | Path | None = None,
    *,
    model: str | Path | Model | None = None,
    name: str | None = None,
    config: str | Path | None = None,
    observe: Observer | None = None,
    force: bool = False,
    jobs: int = 1,
    executor: Executor | None = None,
    redo_foreign_tiles: bool = False,
    **settings: Any,
) -> RunResult:
    """Find every nucleus on a slide.

    Where an earlier run into the same folder was cut off, this one goes on; where it has
    finished, its result is returned, and nothing is done.

    Parameters
    ----------
    slide
        A whole slide image, a file or a folder; or a plain image together with ``mpp``.
    output
        Folder that gets ``<slide>/nuclei.geojson.gz``, ``tissue.geojson``, ``nuclei.parquet``,
        ``run.json`` and ``report.html``. Without it nothing is kept but what the result holds.
    model
        Name of a model, see `available_models`, path of a card (docs/models.md), or an object that
        fulfils `Model`. With an object there are no ``weights``, and it must be picklable where
        the slide is split.
    name
        Name of the folder in ``output``, if not that of the slide without its suffix.
    config
        YAML file with settings.
    observe
        Function that is called with a ``Progress`` now and then; by default a bar in a notebook.
    force
        Start again, whatever is there. Without it a result of other settings is not replaced.
    jobs
        Split the slide over so many processes; the result is the same. They are started on this
        machine, where that pays, and share its processors and GPUs.
    executor
        Split it over the workers of this executor instead, such as Dask's
        ``client.get_executor()``; ``jobs`` says how many it has. Their machines need the same
        packages, and the slide under the same path. Each uses the GPUs that it sees, or as many
        threads as ``OMP_NUM_THREADS`` gives it.
    redo_foreign_tiles
        Compute tiles again, with a warning, that an unfinished run computed on another kind of
        machine or with other versions. They are never mixed; without it, that is an error.
    **settings
        Fields of ``RunSettings``: ``mpp``, ``roi``, ``device``, ``tile_size``...

    Returns
    -------
    Result
        The nuclei as a table, the record of the run, and the folder of the files.

    Raises
    ------
    EngineError
        When the slide cannot be read, a setting cannot be, the folder holds another result, or
        the result cannot be written; says what to do.

    Examples
    --------
    >>> import wsi_engine as we
    >>> result = we.run("slide.tif", "results", model="watershed")
    >>> result.count == len(result.nuclei)
    True
    >>> sorted(path.name for path in result.folder.glob("nuclei.*"))
    ['nuclei.geojson.gz', 'nuclei.parquet']
    """
    if isinstance(model, Path):
        model = str(model)
    given = None if model is None or isinstance(model, str) else model
    if given is not None:
        require_model(given)
        model = given.spec.name
    chosen = make_settings(Path(config) if config else None, model=model, **settings)
    processes = Processes(jobs, executor)
    if given is not None:
        _require_alone(given, chosen, processes)
    slide = main_file(Path(slide))
    name = slide.stem if name is None else name
    with observing(observe) as observer:
        how = (chosen, given, observer, force, redo_foreign_tiles, processes)
        if output is not None:
            return _run_slide(slide, Path(output), name, *how, kept=True)
        return _run_in_memory(slide, name, how)


def _run_in_memory(slide: Path, name: str, how: _How) -> RunResult:
    """Run a slide without keeping files; the result holds the nuclei."""
    with tempfile.TemporaryDirectory(prefix="wsi-engine-") as scratch:
        result = _run_slide(slide, Path(scratch), name, *how, kept=False)
        kept = RunResult(None, result.record)
        kept.__dict__["nuclei"] = result.nuclei  # what the cached property would hold
        return kept


def _require_alone(model: Model, settings: RunSettings, processes: Processes) -> None:
    """Raise `EngineError` if a model that is an object cannot go with what else was asked for."""
    if settings.weights is not None:
        raise SettingsError(
            f"weights are for models that are asked for by name: leave {settings.weights} out, and "
            f"give model {model.spec.name!r} with its weights in it"
        )
    if processes.jobs > 1 or processes.executor is not None:
        require_picklable(model)


def _run_slide(
    path: Path,
    output: Path,
    name: str,
    settings: RunSettings,
    given: Model | None,
    observe: Observer,
    force: bool,
    redo_foreign_tiles: bool,
    processes: Processes,
    *,
    kept: bool,
) -> RunResult:
    regions, report = kept and settings.regions, kept and settings.report
    tell_when_compiling()
    devices = resolve_devices(settings.device)
    if devices[0] == CPU:
        reuse_freed_memory()
    run_log, watch = RunLog(now(), StageClock(), devices), FileWatch(path)
    with open_slide(path) as slide, ResultFolder(output, name) as folder:
        asked = basis_of(path, settings, given)
        unfinished = None if force else unfinished_run(folder.path)
        # What is unfinished beside a result is a run that was to replace it.
        if unfinished is None and not force:
            earlier = finished_run(folder.path, asked)
            if earlier is not None:
                folder.forget_tiles()
                write_summaries(folder, regions=regions, report=report)
                return RunResult(folder.path, read_run_record(folder.path), is_earlier=True)
        classifier = None
        if settings.classifier is not None:
            classifier = read_classifier(settings.classifier)
        found = folder.tiles / found_regions_name(asked, devices)
        plan = make_plan(slide, settings, devices[0], run_log.clock, observe, given, found)
        basis = basis_of_tiles(asked, plan, processes.arithmetic(settings.device, devices))
        redone = None
        if unfinished is not None and redo_foreign_tiles:
            redone = restart_reason(unfinished, asked, basis)
        if unfinished is not None and redone is None:
            what = f"{folder.path} holds an unfinished run"
            require_same_basis(unfinished.basis, basis, what, whole=True)
        corrections = corrections_for(folder.path, plan.slide_fingerprint, plan.model.spec.name)
        warnings = resolution_warnings(slide.info, settings.mpp)
        warnings += stain_warnings(settings.stains, plan.measurer.stains)
        if redone is not None:
            log.warning(redone)
            warnings.append(redone)
        if force or redone is not None:
            # Not before all that the user gave has proved good.
            folder.forget_tiles()
        measured = [column.name for column in plan.columns]
        classes = None if classifier is None else Classes(classifier, corrections)
        if classes is not None:
            classes.require_measured(measured, path.name)
        intensities = None
        if settings.positive is not None:
            intensities = Intensities(Positivity.parse(settings.positive))
            intensities.require_measured(measured, path.name)
        work = SlideRun(
            plan,
            basis,
            folder,
            corrections,
            processes,
            run_log,
            watch,
            observe,
            classes,
            intensities,
        )
        work.complete(warnings)
        write_summaries(folder, regions=regions, report=report)
        return RunResult(folder.path, read_run_record(folder.path))
