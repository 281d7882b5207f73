"""The nuclei of a result, written anew as corrections have them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from wsi_engine.corrections.corrector import CorrectedChunk, Corrector, labels_of
from wsi_engine.corrections.record import Corrections
from wsi_engine.nuclei.labels import ENGINE
from wsi_engine.nuclei.measure.cell_shape import CELL_COLUMNS, measure_cells
from wsi_engine.nuclei.measure.context import CONTEXT_COLUMNS, Values, measure_context
from wsi_engine.nuclei.measure.groups import measured_alone
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.qupath.colours import Colour, ColourAlpha
from wsi_engine.qupath.regions import Regions
from wsi_engine.results.column_dictionary import read_dictionary
from wsi_engine.results.layout import COLUMNS, NUCLEI_TABLE
from wsi_engine.results.nucleus_files import CLASSIFIER_FACT, NucleusFiles
from wsi_engine.results.nucleus_table import GeoParquetReader
from wsi_engine.results.record import Record
from wsi_engine.results.roi_labels import label_columns
from wsi_engine.slide.frames import Mpp

if TYPE_CHECKING:
    from wsi_engine.corrections.classified import Classes
    from wsi_engine.corrections.positive import Intensities


@dataclass(frozen=True, slots=True)
class CellExtent:
    """How far cells reach.

    Attributes
    ----------
    distance_um
        From their nuclei.
    size
        Width and height of the slide in QuPath pixels, where they end.
    """

    distance_um: float
    size: tuple[float, float]

    @classmethod
    def recorded(cls, record: Record) -> CellExtent | None:
        """Return how far the cells of a result reach; ``None`` where its nuclei have none."""
        if record.settings.cells is None:
            return None
        return cls(record.settings.cells, (record.slide.bounds.width, record.slide.bounds.height))


def write_corrected(
    source: Path,
    destination: Path,
    corrections: Corrections,
    *,
    slide: str,
    mpp: Mpp,
    regions: Regions | None,
    split: int | None,
    colours: Mapping[str, Colour | ColourAlpha] = MappingProxyType({}),
    drawn: Collection[str] = (),
    classes: Classes | None = None,
    intensities: Intensities | None = None,
    origin: str = ENGINE,
    cells: CellExtent | None = None,
) -> tuple[int, int]:
    """Write nuclei anew as corrections have them, with the context that this gives to all.

    A new outline has measurements of its shape and context: its pixels are not read again.
    Memory: what files hold a row group at a time, and 36 bytes per nucleus for its context;
    with cells, all outlines and cells.

    Parameters
    ----------
    source
        Folder of ``nuclei.parquet`` and ``columns.json``.
    destination
        Another folder, that gets them and the GeoJSON.
    slide
        Name of the result.
    mpp
        Pixel size of the slide.
    regions
        Regions of interest, if there are any.
    split
        Most nuclei per GeoJSON file; ``None`` for one file.
    colours
        Colours that classes have in the source; those in the corrections win.
    drawn
        Ids of nuclei in the source that a person drew.
    classes
        What gives the nuclei other classes than they have.
    intensities
        What makes positive and negative ones of these.
    origin
        What found them, as `Labels.source` calls it.
    cells
        How far cells reach, where nuclei have some: they are those of the nuclei as corrected.

    Returns
    -------
    count, unmet
        Number of nuclei, and of deletions and edits that met none.
    """
    with GeoParquetReader(source / NUCLEI_TABLE) as table:
        columns, for_qupath = read_dictionary(source / COLUMNS, table.measurements)
        measure = partial(measured_alone, names=table.measurements, mpp=mpp)

        def corrector() -> Corrector:
            return Corrector(corrections, table.classes, measure, drawn)

        names, facts = table.classes, table.facts
        if classes is not None:
            classes.require_measured(table.measurements, source.name)
            names, facts = list(classes.names), facts | {CLASSIFIER_FACT: classes.classifier.kind}
            colours = {**colours, **classes.colours}
        colours = {**colours, **corrections.colours()}
        more = corrections.new_classes(names)
        if intensities is not None:
            more += intensities.start([*names, *more], table.measurements, source.name)
            colours = {**intensities.colours(colours), **colours}
        surroundings = _Surroundings(table, corrector(), mpp)
        expanding = None if cells is None else _Cells(table, corrector(), mpp, cells)
        stream = corrector()
        with NucleusFiles(
            destination,
            names,
            columns,
            for_qupath,
            slide,
            facts,
            split,
            more,
            colours,
            labels=label_columns(regions),
        ) as files:
            for some in _corrected(table, stream):
                some = surroundings.renewed(some)
                around = None
                if expanding is not None:
                    some, around = expanding.renewed(some)
                if classes is not None:
                    some = classes.given(some, table.measurements)
                if intensities is not None:
                    some = intensities.given(some)
                labels = labels_of(some, corrections.added, regions, origin)
                files.write(some.ids, some.nuclei, labels, around)
    return files.count, stream.unmet


def _corrected(table: GeoParquetReader, corrector: Corrector) -> Iterator[CorrectedChunk]:
    for group in table.groups():
        yield corrector.corrected(group["id"].to_pylist(), table.nuclei(group))
    yield corrector.rest()


class _Surroundings:
    """The context of the nuclei as they are after the corrections, in their order."""

    def __init__(self, table: GeoParquetReader, corrector: Corrector, mpp: Mpp) -> None:
        names = [column.name for column in CONTEXT_COLUMNS]
        self._columns = [table.measurements.index(n) for n in names if n in table.measurements]
        self._values: Values = np.empty((0, len(names)), np.float32)
        self._next = 0
        if self._columns:
            anchors = [some.nuclei.anchors for some in _corrected(table, corrector)]
            self._values = measure_context(np.concatenate(anchors), mpp)

    def renewed(self, some: CorrectedChunk) -> CorrectedChunk:
        """Return the next nuclei with the context that they have now."""
        if not self._columns:
            return some
        start, self._next = self._next, self._next + len(some.ids)
        measurements = some.nuclei.measurements.copy()
        measurements[:, self._columns] = self._values[start : self._next]
        return replace(some, nuclei=replace(some.nuclei, measurements=measurements))


class _Cells:
    """The cells of the nuclei as they are after the corrections, in their order."""

    def __init__(
        self, table: GeoParquetReader, corrector: Corrector, mpp: Mpp, extent: CellExtent
    ) -> None:
        # Only here: with it come kernels that other runs do without.
        from wsi_engine.nuclei.cells import expanded

        self._columns = [table.measurements.index(column.name) for column in CELL_COLUMNS]
        self._mpp = mpp
        outlines = [some.nuclei.polygons for some in _corrected(table, corrector)]
        self._cells = expanded(np.concatenate(outlines), extent.distance_um, mpp, extent.size)
        self._next = 0

    def renewed(self, some: CorrectedChunk) -> tuple[CorrectedChunk, Polygons]:
        """Return the next nuclei with the measurements of their cells, and these."""
        start, self._next = self._next, self._next + len(some.ids)
        cells = self._cells[start : self._next]
        measurements = some.nuclei.measurements.copy()
        measurements[:, self._columns] = measure_cells(some.nuclei.polygons, cells, self._mpp)
        return replace(some, nuclei=replace(some.nuclei, measurements=measurements)), cells
