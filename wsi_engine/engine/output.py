"""The folder of one slide's results: every file whole, or not there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self

import numpy as np

from wsi_engine.checksums import digest_of
from wsi_engine.closing import Closing
from wsi_engine.corrections.record import FILE_NAME as CORRECTIONS
from wsi_engine.errors import BusyError, OutputError
from wsi_engine.export.column_dictionary import write_dictionary
from wsi_engine.export.geoparquet import GeoParquetWriter
from wsi_engine.nuclei.labels import LABEL_COLUMNS, Labels
from wsi_engine.nuclei.measure.columns import Column, Measurements
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.qupath.features import SCORE_NAME, detection_features
from wsi_engine.qupath.objects import RGB, RGBA
from wsi_engine.qupath.writer import GeoJSONWriter
from wsi_engine.store.claim import STALE_S, Claim, owner
from wsi_engine.store.tile_store import JOURNAL
from wsi_engine.writing import clear_write_errors, sync

Name = str | re.Pattern[str]
"""Of a file of the engine, or of several: whatever else lies in the folder is the user's."""

NUCLEI_FILES: Name = re.compile(r"nuclei(_\d{3,})?\.geojson\.gz")
ROI_FILE = "roi.geojson"
TISSUE_FILE = "tissue.geojson"
REGION_FILES: Name = re.compile(r"regions(\.geojson|\.parquet|\.csv|_columns\.json)")
PAGE_FILES = ("report.html", "quality.json", "quality.geojson", "thumbnail.jpg")
"""What tells of a result; when the result is replaced, it is of another one."""
RECORD = "run.json"
WORK = ".work"
TILES = f"{WORK}/tiles"


class ResultFolder:
    """``OUT/<slide>/`` and the names in it, for one process at a time; a context.

    Files grow in ``.work`` and move to their names when all are whole; ``run.json`` comes last,
    so a folder that has it is complete. When the run fails, what tiles reported stays in
    ``.work/tiles``, from where the next run goes on; nothing else is left.

    Raises
    ------
    BusyError
        On entering, when another process works there.
    OutputError
        When nothing can be written there, or the name would lead out of the output folder.
    """

    def __init__(self, output: Path, slide_name: str) -> None:
        if slide_name in {"", ".", ".."} or Path(slide_name).name != slide_name:
            raise OutputError(f"a slide cannot be called {slide_name!r}: give its file a name")
        self.path = output / slide_name
        self._work = self.path / WORK
        self.tiles = self.path / TILES
        self.growing = self._work / "growing"

    def __enter__(self) -> Self:
        with clear_write_errors(self.path):
            claim = Claim.take(self._work)
            if claim is None:
                raise BusyError(_who_is_in(self.path))
            self._claim = claim
            try:
                shutil.rmtree(self.growing, ignore_errors=True)
                self.growing.mkdir(parents=True)
                probe = self.growing / "probe"
                probe.write_bytes(b"\0")
                probe.unlink()
            except OSError:
                self._leave()
                raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._claim.is_held:
            shutil.rmtree(self.growing, ignore_errors=True)
            if not any(self.tiles.glob("part-*.arrow")):
                self.forget_tiles()
        with suppress(OSError):
            self._claim.close()
            # No more than is empty: the next may be there already.
            self._work.rmdir()
            self.path.rmdir()

    @contextmanager
    def growing_anew(self, *names: Name) -> Iterator[Path]:
        """Give an empty folder whose files take the place of those that have grown.

        Parameters
        ----------
        names
            Of files that go, even if none has grown in their place.
        """
        anew = self.growing / "anew"
        anew.mkdir()
        try:
            yield anew
            for stale in files_called(self.growing, *names):
                stale.unlink()
            for file in anew.iterdir():
                file.replace(self.growing / file.name)
        finally:
            shutil.rmtree(anew, ignore_errors=True)

    def check_held(self) -> None:
        """Raise `BusyError` if another process has taken the folder over."""
        if not self._claim.is_held:
            raise BusyError(
                f"{self.path} was taken over by another process, as this one had not been heard "
                "of for minutes: it goes on there"
            )

    def publish(self, record: dict[str, Any], replaced: Sequence[Name]) -> None:
        """Move the grown files to their names, and write the record.

        Parameters
        ----------
        record
            Content of ``run.json``; ``files`` is added, with size and checksum of each.
        replaced
            Names whose earlier files go, even if none has grown in their place.
        """
        grown = {file.name: describe_file(file) for file in sorted(self.growing.iterdir())}
        earlier = {file.name for file in files_called(self.path, *replaced)}
        stale = earlier - grown.keys()
        record["files"] = self._files_but(stale) | grown
        text = json.dumps(record, indent=2, ensure_ascii=False)
        (self.growing / RECORD).write_text(text, encoding="utf-8")
        for name in (*grown, RECORD):
            sync(self.growing / name)
        self._claim.refresh()
        self.check_held()
        # From here on nothing needs room on the disk. Corrections are first: whenever this is
        # cut off after that, a new run makes them.
        (self.path / RECORD).unlink(missing_ok=True)
        sync(self.path)
        for name in sorted({*grown, *stale}, key=lambda name: (name != CORRECTIONS, name)):
            if name in stale:
                (self.path / name).unlink()
            else:
                (self.growing / name).replace(self.path / name)
        sync(self.path)
        (self.growing / RECORD).replace(self.path / RECORD)
        sync(self.path)

    def _files_but(self, stale: Collection[str]) -> dict[str, Any]:
        """Describe the files of the earlier record that stay.

        They are as it has them, but for corrections: a person may exchange those.
        """
        files = self._published_files()
        if (self.path / CORRECTIONS).is_file():
            files[CORRECTIONS] = describe_file(self.path / CORRECTIONS)
        return {
            name: entry
            for name, entry in files.items()
            if name not in stale and (self.path / name).exists()
        }

    def _published_files(self) -> dict[str, Any]:
        try:
            earlier = json.loads((self.path / RECORD).read_bytes())["files"]
            return {str(name): entry for name, entry in earlier.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def forget_tiles(self) -> None:
        """Remove what tiles reported: nobody needs it any more."""
        with clear_write_errors(self.path):
            # Without their journal, parts that a crash leaves here are scraps.
            (self.tiles / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.tiles, ignore_errors=True)


def files_called(folder: Path, *names: Name) -> list[Path]:
    """Return the files of a folder that have one of the names, sorted."""
    wanted = [re.compile(re.escape(name)) if isinstance(name, str) else name for name in names]
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and any(name.fullmatch(path.name) for name in wanted)
    )


def describe_file(path: Path) -> dict[str, int | str]:
    """Return what `run.json` keeps of a file: its bytes and sha256."""
    return {"bytes": path.stat().st_size, "sha256": digest_of(path)}


def _who_is_in(folder: Path) -> str:
    who = owner(folder / WORK)
    by = f" (process {who.pid} on {who.host})" if who is not None else ""
    return (
        f"another process works on {folder}{by}: let it finish; if it is dead and was on another "
        f"machine, wait {STALE_S / 60:g} minutes"
    )


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
    more_classes
        Class names that the model does not know, numbered after its own.
    colours
        Of classes that shall not have the engine's colours.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        columns: Sequence[Column],
        for_qupath: Sequence[str],
        facts: Mapping[str, object],
        split: int | None,
        more_classes: Sequence[str] = (),
        colours: Mapping[str, RGB | RGBA] = MappingProxyType({}),
    ) -> None:
        self._folder = folder
        self._classes = np.array([*classes, *more_classes, None], object)
        self._colours = colours
        self._split = split
        self._measurements = tuple(column.name for column in columns)
        self._for_qupath = tuple(for_qupath)
        write_dictionary(folder / "columns.json", classes, columns, for_qupath)
        self._table = GeoParquetWriter(
            folder / "nuclei.parquet",
            classes,
            self._measurements,
            facts,
            LABEL_COLUMNS,
            more_classes,
        )
        self._geojson_count = 0
        self._geojson = self._next_geojson()
        self.count = 0

    def write(self, ids: list[str], nuclei: Nuclei, labels: Labels) -> None:
        """Append nuclei."""
        measurements: Measurements = dict(
            zip(self._measurements, nuclei.measurements.T, strict=True)
        )
        self._table.write(ids, nuclei, measurements, labels.columns())
        shown: Measurements = {SCORE_NAME: nuclei.scores}
        features = detection_features(
            ids,
            nuclei.polygons,
            self._classes[nuclei.classes].tolist(),
            shown | {name: measurements[name] for name in self._for_qupath},
            labels.name,
            labels.metadata(),
            self._colours,
        )
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
