"""The folder of one slide's results: every file whole, or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from wsi_engine.closing import Closing
from wsi_engine.export.column_dictionary import write_dictionary
from wsi_engine.export.geoparquet import GeoParquetWriter
from wsi_engine.nuclei.measure.columns import Column, Measurements
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.qupath.features import Feature, detection_features
from wsi_engine.qupath.writer import GeoJSONWriter, write_features
from wsi_engine.writing import atomic_path, clear_write_errors, sync

SCORE_NAME = "Detection score"


class ResultFolder:
    """``OUT/<slide>/`` and the names in it, as a context.

    Files grow in ``.work`` and move to their names when all are whole; ``run.json`` comes last,
    so a folder that has it is complete. When the run fails, what tiles reported stays in
    ``.work/tiles``, from where the next run goes on; nothing else is left.
    """

    def __init__(self, output: Path, slide_name: str) -> None:
        self.path = output / slide_name
        self._work = self.path / ".work"
        self.tiles = self._work / "tiles"
        self.growing = self._work / "growing"

    def __enter__(self) -> Self:
        with clear_write_errors(self.path):
            shutil.rmtree(self.growing, ignore_errors=True)
            self.growing.mkdir(parents=True)
            probe = self.growing / "probe"
            probe.write_bytes(b"\0")
            probe.unlink()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.growing, ignore_errors=True)
        if exc is None or not any(self.tiles.glob("part-*.arrow")):
            shutil.rmtree(self._work, ignore_errors=True)
        if self.path.exists() and not any(self.path.iterdir()):
            self.path.rmdir()

    def publish(self, tissue: list[Feature] | None, record: Mapping[str, Any]) -> None:
        """Move the grown files to their names, and write the outlines, if any, and the record."""
        grown = sorted(self.growing.iterdir())
        for file in grown:
            sync(file)
        (self.path / "run.json").unlink(missing_ok=True)
        for stale in self.path.glob("nuclei*.geojson.gz"):
            stale.unlink()
        for file in grown:
            file.replace(self.path / file.name)
        if tissue is not None:
            with atomic_path(self.path / "tissue.geojson") as partial:
                write_features(partial, tissue)
        with atomic_path(self.path / "run.json") as partial:
            partial.write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")


def columns_for_qupath(
    columns: Sequence[Column], which: Literal["essential", "all", "none"]
) -> tuple[str, ...]:
    """Choose the measurements that go to GeoJSON, by name."""
    return tuple(
        column.name
        for column in columns
        if which == "all" or (which == "essential" and column.essential)
    )


class NucleusFiles(Closing):
    """Writes nuclei to GeoJSON and GeoParquet side by side, chunk by chunk; a context.

    ``columns.json`` beside them says what every column means.

    Parameters
    ----------
    folder
        Where the files grow.
    classes
        Class names by index.
    columns
        The measurements that every chunk carries.
    for_qupath
        Names of those that go to GeoJSON, too.
    facts
        For the metadata of the GeoParquet file.
    split
        Most nuclei per GeoJSON file; ``None`` for one file.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        columns: Sequence[Column],
        for_qupath: Sequence[str],
        facts: Mapping[str, object],
        split: int | None,
    ) -> None:
        self._folder = folder
        self._classes = np.array([*classes, None], object)
        self._split = split
        self.measurements = tuple(column.name for column in columns)
        self._for_qupath = tuple(for_qupath)
        write_dictionary(folder / "columns.json", classes, columns, for_qupath)
        self._table = GeoParquetWriter(folder / "nuclei.parquet", classes, self.measurements, facts)
        self._geojson_count = 0
        self._geojson = self._next_geojson()
        self.count = 0

    def write(self, ids: list[str], nuclei: Nuclei, measurements: Measurements) -> None:
        """Append nuclei."""
        self._table.write(ids, nuclei, measurements)
        names = self._classes[nuclei.classes].tolist()
        columns: Measurements = {SCORE_NAME: nuclei.scores}
        columns |= {name: measurements[name] for name in self._for_qupath}
        features = detection_features(ids, nuclei.polygons, names, columns)
        while features:
            room = len(features)
            if self._split is not None:
                if self._geojson.count == self._split:
                    self._geojson.close()
                    self._geojson = self._next_geojson()
                room = self._split - self._geojson.count
            self._geojson.write(features[:room])
            features = features[room:]
        self.count += len(nuclei)

    def close(self) -> None:
        """Finish the files."""
        self._table.close()
        self._geojson.close()

    def _next_geojson(self) -> GeoJSONWriter:
        self._geojson_count += 1
        number = "" if self._split is None else f"_{self._geojson_count:03d}"
        return GeoJSONWriter(self._folder / f"nuclei{number}.geojson.gz")
