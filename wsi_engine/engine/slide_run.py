"""One slide between its plan and its published result."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from wsi_engine.corrections.classified import Classes
from wsi_engine.corrections.positive import Intensities
from wsi_engine.corrections.record import Corrections
from wsi_engine.corrections.rewrite import CellExtent, write_corrected
from wsi_engine.engine.basis import Basis
from wsi_engine.engine.classify import recorded, thresholds_before
from wsi_engine.engine.outlines import write_outlines
from wsi_engine.engine.plan import Plan
from wsi_engine.engine.progress import Observer, Tracker
from wsi_engine.engine.provenance import RunLog, describe_slide, make_record
from wsi_engine.engine.tile_flow import find_nuclei, in_cells, in_context
from wsi_engine.engine.workers.computing import Processes, computing
from wsi_engine.errors import BusyError, EngineError, SlideChangedError
from wsi_engine.nuclei.identity import nucleus_ids
from wsi_engine.nuclei.labels import Labels
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.results.folder import ResultFolder
from wsi_engine.results.layout import (
    CLASSIFIER_FILES,
    CORRECTIONS,
    NUCLEI_FILES,
    ROI_FILE,
    SUMMARY_FILES,
)
from wsi_engine.results.nucleus_files import NucleusFiles, columns_for_qupath
from wsi_engine.results.roi_labels import cores_around, held_by, label_columns
from wsi_engine.slide.fingerprint import FileWatch
from wsi_engine.store.tile_store import DamagedPartError, TileStore
from wsi_engine.writing import clear_write_errors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlideRun:
    """Finds the nuclei of a slide, and publishes them in its folder.

    Attributes
    ----------
    plan, basis
        The plan of what is computed, and all that the result depends on.
    folder
        Folder of the result, held by this process.
    corrections
        Corrections that a person made to an earlier result.
    processes
        Processes over which the tiles are split.
    run_log
        Log in which the run notes its times, devices and tiles.
    watch
        Watch on the slide's file: if it changes, nothing is published.
    observe
        Function that is called with a ``Progress`` now and then.
    classes
        What gives the nuclei other classes than the model's.
    intensities
        What makes positive and negative ones of these.
    """

    plan: Plan
    basis: Basis
    folder: ResultFolder
    corrections: Corrections
    processes: Processes
    run_log: RunLog
    watch: FileWatch
    observe: Observer
    classes: Classes | None = None
    intensities: Intensities | None = None

    def complete(self, warnings: list[str]) -> None:
        """Compute what is missing, write all files, and publish them.

        Parameters
        ----------
        warnings
            Warnings about the slide that there are already.
        """
        try:
            with clear_write_errors(self.folder.path):
                count, unmet = self._corrected(self._find())
                self.run_log.tracker.finish(count)
                write_outlines(self.plan, self.folder.growing)
                self._publish(unmet + warnings)
        except BusyError:
            raise
        except EngineError:
            # A slide that was exchanged may first be noticed as one that cannot be read.
            try:
                self.watch.check(now=True)
            except SlideChangedError:
                self.folder.forget_tiles()
                raise
            raise

    def _find(self) -> int:
        """Compute the tiles that are missing, and write the nuclei of all; return their number."""
        while True:
            try:
                with TileStore(self.folder.tiles, self.plan.tiles, self.basis) as store:
                    return self._find_with(store)
            except DamagedPartError as error:
                log.warning("%s; its tiles are computed again", error)

    def _find_with(self, store: TileStore) -> int:
        plan, run_log, total = self.plan, self.run_log, len(self.plan.tiles)
        run_log.resumed = store.finished_tiles
        with computing(
            plan,
            self.basis,
            self.processes,
            run_log.devices,
            total - run_log.resumed,
            run_log.clock,
            self.observe,
        ) as (compute, run_log.workers):
            run_log.tracker = Tracker(
                plan.info.path.name, total, run_log.resumed, run_log.clock, self.observe
            )
            found = find_nuclei(plan, store, compute, run_log.clock, run_log.tracker, self._check)
            with closing(found):
                return self._write(in_cells(in_context(found, plan), plan))

    def _check(self) -> None:
        # In this order: what is another's is left alone, even if the slide has changed.
        self.folder.check_held()
        self.watch.check()

    def _write(self, chunks: Iterator[tuple[Nuclei, Polygons | None]]) -> int:
        """Name and write the nuclei as they come; return their number."""
        plan, spec, columns = self.plan, self.plan.model.spec, self.plan.columns
        slide = describe_slide(plan.info, plan.slide_fingerprint).model_dump(mode="json")
        with NucleusFiles(
            self.folder.growing,
            spec.classes,
            columns,
            columns_for_qupath(columns, plan.settings.geojson_measurements),
            self.folder.path.name,
            {"slide": slide, "model": spec.name},
            plan.settings.split,
            colours=spec.class_colours,
            labels=label_columns(plan.regions),
        ) as files:
            for nuclei, cells in chunks:
                ids = nucleus_ids(plan.namespace, nuclei.anchors)
                with self.run_log.clock.measure("write"):
                    held = held_by(plan.regions, nuclei.anchors)
                    cores = cores_around(plan.regions, nuclei.anchors)
                    labels = Labels.of_engine(held, cores)
                    files.write(ids, nuclei, labels, cells)
        return files.count

    def _corrected(self, count: int) -> tuple[int, list[str]]:
        """Make the corrections in what has grown, and give the nuclei other classes.

        Returns
        -------
        count, warnings
            Number of nuclei, and the warnings about corrections that met none.
        """
        if not self.corrections and self.classes is None and self.intensities is None:
            return count, []
        with self.folder.growing_anew(NUCLEI_FILES) as anew:
            count, unmet = write_corrected(
                self.folder.growing,
                anew,
                self.corrections,
                slide=self.folder.path.name,
                mpp=self.plan.reader.grid.slide_mpp,
                regions=self.plan.regions,
                split=self.plan.settings.split,
                colours=self.plan.model.spec.class_colours,
                classes=self.classes,
                intensities=self.intensities,
                cells=self._cell_extent(),
            )
        if not unmet:
            return count, []
        return count, [
            f"{unmet} nuclei that {CORRECTIONS} deletes or edits were not found by this run; "
            "those that were edited are in the result as they were corrected"
        ]

    def _cell_extent(self) -> CellExtent | None:
        if self.plan.settings.cells is None:
            return None
        grid = self.plan.reader.grid
        return CellExtent(self.plan.settings.cells, (grid.slide_width, grid.slide_height))

    def _publish(self, warnings: list[str]) -> None:
        folder, made = self.folder, None
        if self.corrections:
            made = self.corrections.summary(folder.path / CORRECTIONS)
        record = make_record(self.plan, self.basis, self.run_log, warnings, made)
        before = thresholds_before(folder.path)
        record = recorded(record, self.classes, self.intensities, folder.growing, before)
        self.watch.check(now=True)
        folder.publish(record, replaced=[NUCLEI_FILES, ROI_FILE, *CLASSIFIER_FILES, *SUMMARY_FILES])
        folder.forget_tiles()
