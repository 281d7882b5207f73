"""A finished result by columns, and where it looked for nuclei."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.checksums import digest_of
from wsi_engine.export.finished import FinishedRun
from wsi_engine.qupath.regions import Regions
from wsi_engine.qupath.regions import read_regions as read_bounds
from wsi_engine.regions.region import Region, areal, read_regions


class FinishedResult(FinishedRun):
    """``OUT/<slide>`` after a run, as a slide of which numbers are asked.

    Parameters
    ----------
    folder
        Holds ``run.json``, ``nuclei.parquet`` and ``tissue.geojson``.

    Attributes
    ----------
    names
        By which the slide may be called.

    Raises
    ------
    ResultError
        When the folder is no finished result; when nuclei are asked for, and cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        slide = self.record["slide"]["name"]
        self.names = {self.name, slide, Path(slide).stem}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the nuclei: what is computed from them belongs to them."""
        return digest_of(self.folder / "nuclei.parquet")

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
        bounds = self.record["slide"]["bounds"]
        size = [bounds["width"], bounds["height"]]
        return np.asarray(((self.anchors >= 0) & (self.anchors <= size)).all(axis=1))

    def column(self, name: str) -> npt.NDArray[Any]:
        """Read one column, shape (n,)."""
        return np.asarray(self.table.column(name).to_numpy())

    def unit(self, name: str) -> str:
        """Return the unit of a measurement; empty if it has none, or is not told."""
        return self.described(name).unit

    @cached_property
    def tissue(self) -> list[Region]:
        """The pieces of tissue that the run found; none where it did not look for them."""
        path = self.folder / "tissue.geojson"
        return read_regions(path, "tissue") if path.exists() else []

    @cached_property
    def searched(self) -> shapely.Geometry:
        """Where the run looked for nuclei, in QuPath pixels."""
        bounds, settings = self.record["slide"]["bounds"], self.record["settings"]
        area = shapely.box(0, 0, bounds["width"], bounds["height"])
        if settings["tissue"]:
            area &= shapely.union_all([piece.geometry for piece in self.tissue])
        if self._bounds_of_work is not None:
            area = self._bounds_of_work.within(area)
        return areal(area)

    @cached_property
    def drawn(self) -> list[Region]:
        """The annotations that bounded the run; none where there were none."""
        if self._bounds_of_work is None:
            return []
        wanted = {item.id for item in self._bounds_of_work.wanted}
        return [
            region
            for region in read_regions(self.folder / "roi.geojson", "annotation")
            if region.id in wanted
        ]

    @cached_property
    def _bounds_of_work(self) -> Regions | None:
        path, settings = self.folder / "roi.geojson", self.record["settings"]
        if not path.exists():
            return None
        return read_bounds(path, settings["roi_class"], settings["exclude_class"])

    def whole(self) -> Region:
        """Return the slide as a region: all of where nuclei were looked for."""
        return Region("slide", self.name, self.searched)


def finished_results(output: Path) -> Iterator[Path]:
    """Yield the folders of finished results in an output folder, by name."""
    for path in sorted(output.glob("*/run.json")):
        yield path.parent
