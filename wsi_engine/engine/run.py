"""A slide in, nuclei out."""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from wsi_engine.config import RunSettings, make_settings
from wsi_engine.corrections.correcting import Corrected, labels_of
from wsi_engine.corrections.record import FILE_NAME, Corrections, corrections_for
from wsi_engine.engine.basis import Basis, basis_of, basis_of_tiles
from wsi_engine.engine.computing import Processes, WorkerReports, computing
from wsi_engine.engine.earlier import finished_run, refuse_another, unfinished_run
from wsi_engine.engine.flow import find_nuclei, in_context
from wsi_engine.engine.output import (
    NUCLEI_FILES,
    PAGE_FILES,
    REGION_FILES,
    ROI_FILE,
    TISSUE_FILE,
    NucleusFiles,
    ResultFolder,
    columns_for_qupath,
)
from wsi_engine.engine.plan import Plan, make_plan
from wsi_engine.engine.progress import Observer, Tracker, ignore
from wsi_engine.engine.provenance import describe_slide, make_record, now
from wsi_engine.engine.result import Result
from wsi_engine.engine.rewriting import write_corrected
from wsi_engine.errors import EngineError, SlideChangedError
from wsi_engine.models.devices import resolve_devices, reuse_freed_memory
from wsi_engine.nuclei.identity import nucleus_ids
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.qupath.features import Feature, annotation_feature
from wsi_engine.qupath.object_features import object_features
from wsi_engine.qupath.writer import write_features
from wsi_engine.regions.measure import ANNOTATIONS, measure_regions
from wsi_engine.report.slide import REPORT_FILE, report_on
from wsi_engine.schedule.clock import StageClock
from wsi_engine.slide.fingerprint import Watch
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.resolution import resolution_doubts
from wsi_engine.slide.stain_vectors import stain_doubts
from wsi_engine.store.tile_store import DamagedPartError, TileStore
from wsi_engine.writing import clear_write_errors

log = logging.getLogger(__name__)


def run(
    slide: str | Path,
    output: str | Path | None = None,
    *,
    name: str | None = None,
    config: str | Path | None = None,
    observe: Observer = ignore,
    force: bool = False,
    jobs: int = 1,
    executor: Executor | None = None,
    **settings: Any,
) -> Result:
    """Find every nucleus on a slide.

    Where an earlier run into the same folder was cut off, this one goes on; where it has
    finished, its result is returned, and nothing is done.

    Parameters
    ----------
    slide
        A whole slide image, or a plain image together with ``mpp``.
    output
        Folder that gets ``<slide>/nuclei.geojson.gz``, ``tissue.geojson``, ``nuclei.parquet``,
        ``run.json`` and ``report.html``. Without it nothing is kept but what the result holds.
    name
        Of the folder in ``output``, if not that of the slide without its suffix.
    config
        YAML file with settings.
    observe
        Called with a ``Progress`` now and then.
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
    **settings
        Fields of ``RunSettings``: ``model``, ``mpp``, ``roi``, ``device``, ``tile_size``...

    Raises
    ------
    EngineError
        One sentence that says what is wrong and what to do.

    Examples
    --------
    >>> import wsi_engine as we
    >>> result = we.run("slide.svs", model="watershed")  # doctest: +SKIP
    >>> len(result.nuclei)  # doctest: +SKIP
    """
    chosen = make_settings(Path(config) if config else None, **settings)
    processes = Processes(jobs, executor)
    slide = Path(slide)
    name = slide.stem if name is None else name
    if output is not None:
        result = _run_slide(slide, Path(output), name, chosen, observe, force, processes)
        _sum_up(result, chosen)
        return result
    with tempfile.TemporaryDirectory(prefix="wsi-engine-") as scratch:
        result = _run_slide(slide, Path(scratch), name, chosen, observe, force, processes)
        kept = Result(None, result.record)
        kept.__dict__["nuclei"] = result.nuclei  # what the cached property would hold
        return kept


def _run_slide(
    path: Path,
    output: Path,
    name: str,
    settings: RunSettings,
    observe: Observer,
    force: bool,
    processes: Processes,
) -> Result:
    devices = resolve_devices(settings.device)
    if devices[0].type == "cpu":
        reuse_freed_memory()
    started, clock, watch = now(), StageClock(), Watch(path)
    with open_slide(path) as slide, ResultFolder(output, name) as folder:
        basis = basis_of(path, settings)
        if force:
            folder.forget_tiles()
        unfinished = unfinished_run(folder.path)
        # What is unfinished beside a result is a run that was to replace it.
        if unfinished is None and not force:
            earlier = finished_run(folder.path, basis)
            if earlier is not None:
                folder.forget_tiles()
                return Result(folder.path, earlier, is_earlier=True)
        plan = make_plan(slide, settings, devices[0], clock, observe)
        basis = basis_of_tiles(basis, plan)
        if unfinished is not None:
            refuse_another(unfinished.basis, basis, f"{folder.path} holds an unfinished run")
        corrections = corrections_for(folder.path, plan.slide_fingerprint, plan.model.spec.name)
        try:
            with clear_write_errors(folder.path):
                tracker, resumed, warnings, workers = _find(
                    plan, basis, folder, corrections, processes, devices, clock, observe, watch
                )
                _write_outlines(plan, folder.growing)
                warnings += resolution_doubts(slide.info, settings.mpp)
                warnings += stain_doubts(settings.stains, plan.measurer.stains)
                made = corrections.summary(folder.path / FILE_NAME) if corrections else None
                record = make_record(
                    plan, basis, tracker, resumed, clock, devices, started, warnings, made
                )
                record["workers"] = workers
                watch.check()
                replaced = [NUCLEI_FILES, ROI_FILE, REGION_FILES, *PAGE_FILES]
                folder.publish(record, replaced)
                folder.forget_tiles()
        except EngineError:
            # A slide that was exchanged may first be noticed as one that cannot be read.
            try:
                watch.check()
            except SlideChangedError:
                folder.forget_tiles()
                raise
            raise
    return Result(folder.path, record)


def _find(
    plan: Plan,
    basis: Basis,
    folder: ResultFolder,
    corrections: Corrections,
    processes: Processes,
    devices: list[torch.device],
    clock: StageClock,
    observe: Observer,
    watch: Watch,
) -> tuple[Tracker, int, list[str], WorkerReports]:
    """Compute the tiles that are missing, and write the nuclei of all.

    Returns
    -------
    tracker, resumed, warnings, workers
        What it counted, how many tiles an earlier run had left, what to tell, and the worker
        processes that took part.
    """

    def check() -> None:
        watch.check()
        folder.check_held()

    while True:
        with TileStore(folder.tiles, plan.tiles, basis) as store:
            resumed = store.finished_tiles
            left = len(plan.tiles) - resumed
            try:
                with computing(plan, processes, devices, left, clock, observe) as (
                    compute,
                    workers,
                ):
                    tracker = Tracker(plan.info.path.name, len(plan.tiles), resumed, clock, observe)
                    with closing(find_nuclei(plan, store, compute, clock, tracker, check)) as found:
                        chunks = in_context(found, plan)
                        count = _write_nuclei(chunks, plan, folder.growing, clock)
            except DamagedPartError as error:
                log.warning("%s; its tiles are computed again", error)
                continue
        warnings: list[str] = []
        if corrections:
            count, warnings = _correct(plan, corrections, folder)
        tracker.finish(count)
        return tracker, resumed, warnings, workers


def _sum_up(result: Result, settings: RunSettings) -> None:
    """Write what is computed from a finished result, unless it is there already."""
    assert result.folder is not None
    if settings.regions and not (result.folder / ANNOTATIONS).exists():
        measure_regions(result.folder)
    if settings.report and not (result.folder / REPORT_FILE).exists():
        report_on(result.folder)


def _write_nuclei(chunks: Iterator[Nuclei], plan: Plan, folder: Path, clock: StageClock) -> int:
    """Name and write the nuclei as they come; return their number."""
    spec, settings, columns = plan.model.spec, plan.settings, plan.columns
    facts = {"slide": describe_slide(plan.info, plan.slide_fingerprint), "model": spec.name}
    for_qupath = columns_for_qupath(columns, settings.geojson_measurements)
    with NucleusFiles(folder, spec.classes, columns, for_qupath, facts, settings.split) as files:
        for nuclei in chunks:
            ids = nucleus_ids(plan.namespace, nuclei.anchors)
            found = Corrected(ids, nuclei, [None] * len(nuclei))
            with clock.measure("write"):
                files.write(ids, nuclei, labels_of(found, (), plan.regions))
    return files.count


def _correct(plan: Plan, corrections: Corrections, folder: ResultFolder) -> tuple[int, list[str]]:
    """Make the corrections in what has grown.

    Returns
    -------
    count, warnings
        Number of nuclei, and what to tell of corrections that met none.
    """
    with folder.growing_anew(NUCLEI_FILES) as corrected:
        count, unmet = write_corrected(
            folder.growing,
            corrected,
            corrections,
            regions=plan.regions,
            split=plan.settings.split,
        )
    if not unmet:
        return count, []
    return count, [
        f"{unmet} nuclei that {FILE_NAME} deletes or edits were not found by this run; "
        "those that were edited are in the result as they were corrected"
    ]


def _write_outlines(plan: Plan, folder: Path) -> None:
    write_features(folder / TISSUE_FILE, _tissue_features(plan))
    if plan.regions is not None:
        drawn = (*plan.regions.wanted, *plan.regions.excluded)
        write_features(folder / ROI_FILE, object_features(drawn))


def _tissue_features(plan: Plan) -> list[Feature]:
    pixel_mm2 = plan.reader.grid.slide_mpp.pixel_area_um2 / 1e6
    pieces = plan.tissue.pieces if plan.tissue is not None else ()
    return [
        annotation_feature(
            str(uuid.uuid5(plan.namespace, f"tissue {k}")),
            piece,
            name=f"Tissue {k}",
            classification="Tissue",
            locked=True,
            measurements={"Area mm^2": piece.area * pixel_mm2},
        )
        for k, piece in enumerate(pieces, start=1)
    ]
