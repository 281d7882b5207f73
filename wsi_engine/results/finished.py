"""A finished result as it lies in its folder: record, nuclei, and where they were looked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from wsi_engine.digests import digest_of
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.qupath.intensity import base_of, derived, is_ignored
from wsi_engine.qupath.regions import Regions, read_bounds_of_work
from wsi_engine.results.column_dictionary import column_of
from wsi_engine.results.folder import has_result
from wsi_engine.results.layout import COLUMNS, NUCLEI_TABLE, ROI_FILE, TISSUE_FILE
from wsi_engine.results.nucleus_table import GeoParquetReader
from wsi_engine.results.record import read_record
from wsi_engine.results.region import Region, areal, read_regions
from wsi_engine.slide.beside_slides import slide_stem
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.unreadable import without


class SlideResult:
    """``OUT/<slide>`` after `run` or `measure`: the record, the nuclei by columns, the regions.

    Parameters
    ----------
    folder
        Holds ``run.json``, ``nuclei.parquet``, ``columns.json``, after a run ``tissue.geojson``.

    Attributes
    ----------
    record
        The content of ``run.json``, a `RunRecord` or a `MeasureRecord`.
    name
        Name of the folder, which is that of the slide without its suffix.
    names
        Names by which the slide may be called.
    mpp
        Pixel size.

    Raises
    ------
    ResultError
        When the folder is no finished result; when nuclei are asked for, and cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = read_record(folder)
        self.name = Path(os.path.abspath(folder)).name  # noqa: PTH100 - of a link itself
        slide, mpp = self.record.slide.name, self.record.slide.mpp
        self.mpp = Mpp(mpp.x, mpp.y)
        self.names = {self.name, slide, Path(slide).stem, slide_stem(slide)}

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def table(self) -> GeoParquetReader:
        """The nuclei."""
        return GeoParquetReader(self.folder / NUCLEI_TABLE)

    @cached_property
    def _class_column(self) -> tuple[tuple[str, ...], npt.NDArray[np.int16]]:
        model = self.record.model.classes
        column = self.table.column("class").cast(pa.string())
        found = {name for name in column.unique().to_pylist() if name is not None}
        classes = (*model, *sorted(found - set(model)))
        labels = pc.fill_null(pc.index_in(column, pa.array(classes, pa.string())), -1)
        return classes, labels.to_numpy().astype(np.int16)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the model's classes, then of any other that nuclei have."""
        return self._class_column[0]

    @property
    def labels(self) -> npt.NDArray[np.int16]:
        """Index into ``classes``, -1 for none, shape (n,)."""
        return self._class_column[1]

    @property
    def intensities(self) -> tuple[str, ...]:
        """Names of the classes by which thresholds told positive and negative nuclei apart."""
        facts = self.record.positivity
        if facts is None:
            return ()
        classes = [name for name in self.record.model.classes if not is_ignored(name)]
        bases = {base_of(name): None for name in classes} or {None: None}
        return tuple(derived(base, grade) for base in bases for grade in facts.rule.grades)

    def described(self, name: str) -> Column:
        """Say what a column means; only its name where ``columns.json`` does not say."""
        return self._dictionary.get(name, Column(name, "", "", ""))

    @cached_property
    def _dictionary(self) -> dict[str, Column]:
        try:
            entries = json.loads((self.folder / COLUMNS).read_text(encoding="utf-8"))
            return {entry["name"]: column_of(entry) for entry in entries}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # the dictionary informs; nothing depends on it

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the nuclei: what is computed from them belongs to them."""
        return digest_of(self.folder / NUCLEI_TABLE)

    @property
    def measurements(self) -> tuple[str, ...]:
        """Names of the measurements in their order, the score first."""
        return ("score", *self.table.measurements)

    @cached_property
    def anchors(self) -> npt.NDArray[np.float64]:
        """float64, shape (n, 2), QuPath pixels."""
        return np.column_stack([self.column("x"), self.column("y")])

    @cached_property
    def on_slide(self) -> npt.NDArray[np.bool_]:
        """Which nuclei have their anchor on the slide, shape (n,); all, of a run of this engine."""
        bounds = self.record.slide.bounds
        size = [bounds.width, bounds.height]
        return np.asarray(((self.anchors >= 0) & (self.anchors <= size)).all(axis=1))

    def column(self, name: str) -> npt.NDArray[Any]:
        """Read one column, shape (n,)."""
        return np.asarray(self.table.column(name).to_numpy())

    def unit(self, name: str) -> str:
        """Return the unit of a measurement; empty if it has none, or is not known."""
        return self.described(name).unit

    @cached_property
    def tissue(self) -> list[Region]:
        """The pieces of tissue that the run found; none where it did not look for them."""
        path = self.folder / TISSUE_FILE
        return read_regions(path, "tissue") if path.exists() else []

    @cached_property
    def searched(self) -> shapely.Geometry:
        """The area that could be read in which the run looked for nuclei, in QuPath pixels."""
        bounds = self.record.slide.bounds
        area = shapely.box(0, 0, bounds.width, bounds.height)
        if self.record.settings.tissue:
            area &= shapely.union_all([piece.geometry for piece in self.tissue])
        if self._bounds_of_work is not None:
            area = self._bounds_of_work.within(area)
        return areal(without(area, self.record.unreadable))

    @cached_property
    def drawn(self) -> list[Region]:
        """The annotations that bounded the run, and cores that are missing among them."""
        bounds = self._bounds_of_work
        if bounds is None:
            return []
        wanted = {item.id for item in (*bounds.wanted, *bounds.missing)}
        return [
            region
            for region in read_regions(self.folder / ROI_FILE, "annotation")
            if region.id in wanted
        ]

    @cached_property
    def _bounds_of_work(self) -> Regions | None:
        path, settings = self.folder / ROI_FILE, self.record.settings
        if not path.exists():
            return None
        return read_bounds_of_work(path, settings.roi_class, settings.exclude_class)

    def whole(self) -> Region:
        """Return the slide as a region: all of where nuclei were looked for."""
        return Region("slide", self.name, self.searched)


def finished_results(output: Path) -> Iterator[Path]:
    """Yield the folders of finished results in an output folder, by name."""
    yield from filter(has_result, sorted(path for path in output.glob("*") if path.is_dir()))
