"""A slide in, nuclei out."""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from wsi_engine.config import RunSettings, make_settings
from wsi_engine.corrections.correcting import Corrected, Correcting, labels_of
from wsi_engine.corrections.record import FILE_NAME, Corrections, corrections_for
from wsi_engine.engine.basis import Basis, basis_of, basis_of_tiles
from wsi_engine.engine.earlier import finished_run, refuse_another, unfinished_run
from wsi_engine.engine.flow import find_nuclei, in_context
from wsi_engine.engine.output import (
    NUCLEI_FILES,
    ROI_FILE,
    TISSUE_FILE,
    NucleusFiles,
    ResultFolder,
    columns_for_qupath,
)
from wsi_engine.engine.placing import batch_size_of, place
from wsi_engine.engine.plan import Plan, make_plan
from wsi_engine.engine.progress import Observer, Tracker, ignore
from wsi_engine.engine.provenance import describe_slide, make_record, now
from wsi_engine.errors import EngineError, SlideChangedError
from wsi_engine.export.geoparquet import read_nuclei
from wsi_engine.models.devices import resolve_devices, reuse_freed_memory
from wsi_engine.nuclei.identity import nucleus_ids
from wsi_engine.nuclei.measure.measurer import measured_alone
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.nuclei.table import NucleusTable
from wsi_engine.qupath.features import Feature, annotation_feature
from wsi_engine.qupath.object_features import object_features
from wsi_engine.qupath.writer import write_features
from wsi_engine.schedule.clock import StageClock
from wsi_engine.slide.fingerprint import Watch
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.resolution import resolution_doubts
from wsi_engine.slide.stain_vectors import stain_doubts
from wsi_engine.store.tile_store import DamagedPartError, TileStore
from wsi_engine.writing import clear_write_errors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes
    ----------
    folder
        ``OUT/<slide>``, or ``None`` where no output was asked for.
    record
        The content of ``run.json``.
    is_earlier
        Whether it was there already, and nothing was done.
    """

    folder: Path | None
    record: dict[str, Any]
    is_earlier: bool = False

    @cached_property
    def nuclei(self) -> NucleusTable:
        """Every nucleus; read from the folder when first asked for."""
        assert self.folder is not None
        return read_nuclei(self.folder / "nuclei.parquet")

    @property
    def count(self) -> int:
        """Number of nuclei."""
        return int(self.record["nuclei"]["count"])

    @property
    def is_complete(self) -> bool:
        """Whether every part of the slide could be read."""
        return not self.record["unreadable"]


def run(
    slide: str | Path,
    output: str | Path | None = None,
    *,
    name: str | None = None,
    config: str | Path | None = None,
    observe: Observer = ignore,
    force: bool = False,
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
        Folder that gets ``<slide>/nuclei.geojson.gz``, ``tissue.geojson``, ``nuclei.parquet`` and
        ``run.json``. Without it nothing is kept but what the result holds.
    name
        Of the folder in ``output``, if not that of the slide without its suffix.
    config
        YAML file with settings.
    observe
        Called with a ``Progress`` now and then.
    force
        Start again, whatever is there. Without it a result of other settings is not replaced.
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
    slide = Path(slide)
    name = slide.stem if name is None else name
    if output is not None:
        return _run_slide(slide, Path(output), name, chosen, observe, force)
    with tempfile.TemporaryDirectory(prefix="wsi-engine-") as scratch:
        result = _run_slide(slide, Path(scratch), name, chosen, observe, force)
        kept = Result(None, result.record)
        kept.__dict__["nuclei"] = result.nuclei  # what the cached property would hold
        return kept


def _run_slide(
    path: Path, output: Path, name: str, settings: RunSettings, observe: Observer, force: bool
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
                tracker, resumed, warnings = _find(
                    plan, basis, folder, corrections, devices, clock, observe, watch
                )
                _write_outlines(plan, folder.growing)
                warnings += resolution_doubts(slide.info, settings.mpp)
                warnings += stain_doubts(settings.stains, plan.measurer.stains)
                made = corrections.summary(folder.path / FILE_NAME) if corrections else None
                record = make_record(
                    plan, basis, tracker, resumed, clock, devices, started, warnings, made
                )
                watch.check()
                folder.publish(record, replaced=[NUCLEI_FILES, ROI_FILE])
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
    devices: list[torch.device],
    clock: StageClock,
    observe: Observer,
    watch: Watch,
) -> tuple[Tracker, int, list[str]]:
    """Compute the tiles that are missing, and write the nuclei of all.

    Returns
    -------
    tracker, resumed, warnings
        What it counted, how many tiles an earlier run had left, what to tell.
    """

    def check() -> None:
        watch.check()
        folder.check_held()

    while True:
        with TileStore(folder.tiles, plan.tiles, basis) as store:
            resumed = store.finished_tiles
            models = place(plan, devices, len(plan.tiles) - resumed, clock, observe)
            batch_size = batch_size_of(plan.settings, devices)
            tracker = Tracker(plan.info.path.name, len(plan.tiles), resumed, clock, observe)
            found = find_nuclei(plan, store, models, batch_size, clock, tracker, check)
            try:
                with closing(found):
                    chunks, growing = in_context(found, plan), folder.growing
                    count, warnings = _write_nuclei(chunks, plan, corrections, growing, clock)
            except DamagedPartError as error:
                log.warning("%s; its tiles are computed again", error)
                continue
            tracker.finish(count)
        return tracker, resumed, warnings


def _write_nuclei(
    chunks: Iterator[Nuclei],
    plan: Plan,
    corrections: Corrections,
    folder: Path,
    clock: StageClock,
) -> tuple[int, list[str]]:
    """Name, correct and write the nuclei as they come.

    Returns
    -------
    count, warnings
        Number of nuclei, and what to tell of corrections that met none.
    """
    spec, settings = plan.model.spec, plan.settings
    columns = plan.columns
    facts = {"slide": describe_slide(plan.info, plan.slide_fingerprint), "model": spec.name}
    names = [column.name for column in columns]
    measure = partial(measured_alone, names=names, mpp=plan.reader.grid.slide_mpp)
    correcting = Correcting(corrections, spec.classes, measure)

    def corrected() -> Iterator[Corrected]:
        for nuclei in chunks:
            yield correcting.corrected(nucleus_ids(plan.namespace, nuclei.anchors), nuclei)
        yield correcting.rest()

    with NucleusFiles(
        folder,
        spec.classes,
        columns,
        columns_for_qupath(columns, settings.geojson_measurements),
        facts,
        settings.split,
        corrections.new_classes(spec.classes),
        corrections.colours(),
    ) as files:
        for some in corrected():
            with clock.measure("write"):
                files.write(some.ids, some.nuclei, labels_of(some, corrections.added, plan.regions))
    return files.count, _doubts(correcting)


def _doubts(correcting: Correcting) -> list[str]:
    if not correcting.unmet:
        return []
    return [
        f"{correcting.unmet} nuclei that {FILE_NAME} deletes or edits were not found by this run; "
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
