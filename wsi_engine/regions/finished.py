"""A finished result, read back a column at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely

from wsi_engine.errors import ResultError
from wsi_engine.export.geoparquet import PROBABILITY
from wsi_engine.qupath.regions import read_regions as read_bounds
from wsi_engine.regions.region import Region, areal, read_regions
from wsi_engine.slide.frames import Mpp

_NO_MEASUREMENTS = ("x", "y")
_FACTS = {"slide", "settings", "model", "finished"}


class FinishedResult:
    """``OUT/<slide>`` after a run.

    Parameters
    ----------
    folder
        Holds ``run.json``, ``nuclei.parquet`` and ``tissue.geojson``.

    Attributes
    ----------
    record
        The content of ``run.json``.
    name
        Of the folder, which is that of the slide without its suffix.
    names
        By which the slide may be called.
    mpp
        Pixel size.

    Raises
    ------
    ResultError
        When the folder is no finished result; when nuclei are asked for, and cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = _read_record(folder)
        slide = self.record["slide"]
        self.name = folder.resolve().name
        self.names = {self.name, slide["name"], Path(slide["name"]).stem}
        self.mpp = Mpp(slide["mpp"]["x"], slide["mpp"]["y"])

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @cached_property
    def _file(self) -> pq.ParquetFile:
        path = self.folder / "nuclei.parquet"
        try:
            return pq.ParquetFile(path)
        except FileNotFoundError:
            raise ResultError(f"{path} is missing: run the slide again") from None
        except (OSError, pa.ArrowInvalid) as error:
            raise ResultError(f"{path} cannot be read: {error}") from None

    @cached_property
    def measurements(self) -> tuple[str, ...]:
        """Names of the measurements, in their order."""
        fields = [field for field in self._file.schema_arrow if pa.types.is_floating(field.type)]
        return tuple(
            field.name
            for field in fields
            if field.name not in _NO_MEASUREMENTS and not field.name.startswith(PROBABILITY)
        )

    @cached_property
    def anchors(self) -> npt.NDArray[np.float64]:
        """float64, shape (n, 2), QuPath pixels."""
        return np.column_stack([self.column("x"), self.column("y")])

    @cached_property
    def _class_column(self) -> tuple[tuple[str, ...], npt.NDArray[np.int16]]:
        model: list[str] = self.record["model"]["classes"]
        column = self._file.read(columns=["class"])["class"].cast(pa.string())
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

    def column(self, name: str) -> npt.NDArray[Any]:
        """Read one column, shape (n,)."""
        return np.asarray(self._file.read(columns=[name])[name].to_numpy())

    def take(self, rows: Sequence[int], names: Sequence[str]) -> pa.Table:
        """Read some columns of some nuclei, in the order of ``rows``.

        Only the row groups that hold them are read, one at a time.
        """
        file = self._file
        sizes = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        wanted, place = np.unique(np.asarray(rows, np.int64), return_inverse=True)
        groups = np.searchsorted(starts, wanted, "right") - 1
        parts = [file.schema_arrow.empty_table().select(names)]
        for group in np.unique(groups):
            table = file.read_row_group(int(group), columns=list(names)).select(names)
            parts.append(table.take(wanted[groups == group] - starts[group]))
        return pa.concat_tables(parts).take(place)

    def unit(self, name: str) -> str:
        """Return the unit of a measurement; empty if it has none, or is not told."""
        return self._units.get(name, "")

    @cached_property
    def _units(self) -> dict[str, str]:
        try:
            columns = json.loads((self.folder / "columns.json").read_text(encoding="utf-8"))
            return {column["name"]: column["unit"] for column in columns}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # the dictionary informs; nothing depends on it

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
        drawn = self.folder / "roi.geojson"
        if drawn.exists():
            bounds_of_work = read_bounds(drawn, settings["roi_class"], settings["exclude_class"])
            area = bounds_of_work.within(area)
        return areal(area)

    def whole(self) -> Region:
        """Return the slide as a region: all of where nuclei were looked for."""
        return Region("slide", self.name, self.searched)


def finished_results(output: Path) -> Iterator[Path]:
    """Yield the folders of finished results in an output folder, by name."""
    for path in sorted(output.glob("*/run.json")):
        yield path.parent


def _read_record(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ResultError(f"{folder}: no such folder; give one that `wsi-engine run` wrote")
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(
            f"{folder} holds no finished result (no run.json): run the slide first"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ResultError(f"{folder / 'run.json'} cannot be read: {error}") from None
    if not isinstance(record, dict) or not record.keys() >= _FACTS:
        raise ResultError(f"{folder / 'run.json'} is not the record of a run: run the slide again")
    return record
