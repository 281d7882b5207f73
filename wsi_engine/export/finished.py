"""A finished result as it lies in its folder: the record and the nuclei."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsi_engine.errors import ResultError
from wsi_engine.export.column_dictionary import column_of
from wsi_engine.export.geoparquet import GeoParquetReader
from wsi_engine.export.record import NUMBER, Kind, untold
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.slide.frames import Mpp

_FACTS: dict[str, Kind] = {
    "finished": str,
    "slide.name": str,
    **{f"slide.bounds.{name}": NUMBER for name in ("x", "y", "width", "height")},
    **{f"slide.mpp.{axis}": NUMBER for axis in "xy"},
    "settings.tissue": bool,
    "model.classes": list,
}
"""What a record tells, of all that is asked of a result."""


class FinishedRun:
    """``OUT/<slide>`` after a run, or after `measure`.

    Parameters
    ----------
    folder
        Holds ``run.json``, ``nuclei.parquet`` and ``columns.json``.

    Attributes
    ----------
    record
        The content of ``run.json``.
    name
        Of the folder, which is that of the slide without its suffix.
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
        self.name = Path(os.path.abspath(folder)).name  # noqa: PTH100 - of a link itself
        mpp = self.record["slide"]["mpp"]
        self.mpp = Mpp(mpp["x"], mpp["y"])

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def table(self) -> GeoParquetReader:
        """The nuclei."""
        return GeoParquetReader(self.folder / "nuclei.parquet")

    @cached_property
    def _class_column(self) -> tuple[tuple[str, ...], npt.NDArray[np.int16]]:
        model: list[str] = self.record["model"]["classes"]
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

    def described(self, name: str) -> Column:
        """Say what a column means; only its name where ``columns.json`` does not tell."""
        return self._dictionary.get(name, Column(name, "", "", ""))

    @cached_property
    def _dictionary(self) -> dict[str, Column]:
        try:
            entries = json.loads((self.folder / "columns.json").read_text(encoding="utf-8"))
            return {entry["name"]: column_of(entry) for entry in entries}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # the dictionary informs; nothing depends on it


def _read_record(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ResultError(f"{folder}: no such folder; give one that `wsi-engine run` wrote")
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultError(
            f"{folder} holds no finished result (no run.json): run the slide first"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{folder / 'run.json'} cannot be read: {error}") from None
    lacks = untold(record, _FACTS)
    if lacks is None and not all(record["slide"]["mpp"][axis] > 0 for axis in "xy"):
        lacks = "slide.mpp"
    if lacks is not None:
        raise ResultError(
            f"{folder / 'run.json'} is not the record of a run (it does not tell {lacks}): run the "
            "slide again"
        )
    return record
