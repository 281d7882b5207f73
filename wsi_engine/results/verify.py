"""Whether what lies in a result folder is what was written there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from wsi_engine.errors import EngineError, GeoJSONError, OutputError
from wsi_engine.qupath.containers import open_parts
from wsi_engine.qupath.json_stream import FeatureStream
from wsi_engine.results.folder import describe_file, is_interrupted
from wsi_engine.results.layout import (
    COHORT_RECORD,
    COHORT_WORK,
    NUCLEI_FILES,
    NUCLEI_TABLE,
    READY,
    RECORD,
    TILES,
    WORK,
    files_called,
)
from wsi_engine.results.nucleus_table import GeoParquetReader
from wsi_engine.results.record import WrittenFiles, load_record, load_written_files
from wsi_engine.store.journal import JournalDamagedError, read_journal
from wsi_engine.store.parts import read_part
from wsi_engine.store.tile_store import JOURNAL

Ids = npt.NDArray[np.bytes_]


def problems_of(folder: Path) -> list[str]:
    """Check every checksum and count of a finished slide, and the parts of an unfinished one.

    In a result whose files are still on their way to their names, those that have not come yet
    are checked where they are. Files that the record does not list may be there.

    Returns
    -------
    list of str
        One sentence per problem; none if all is well.
    """
    return [*_problems_of_result(folder), *_problems_of_tiles(folder)]


def problems_of_cohort(output: Path) -> list[str]:
    """Check every checksum of the files that `cohort` wrote.

    Returns
    -------
    list of str
        One sentence per problem; none if all is well, or there is no cohort.
    """
    ready = output / COHORT_WORK / READY
    is_whole = (output / COHORT_RECORD).exists()
    try:
        written = load_written_files((output if is_whole else ready) / COHORT_RECORD)
    except FileNotFoundError:
        return []
    except EngineError as error:
        return [str(error)]
    return [*_problems_of_files(output, COHORT_RECORD, written, None if is_whole else ready)]


def _problems_of_result(folder: Path) -> Iterator[str]:
    ready = folder / WORK / READY
    is_whole = (folder / RECORD).exists()
    if not is_whole and not is_interrupted(folder):
        return
    try:
        record = load_record((folder if is_whole else ready) / RECORD)
    except (EngineError, FileNotFoundError) as error:
        yield str(error)
        return
    yield from _problems_of_files(folder, RECORD, record, None if is_whole else ready)
    if not is_whole:
        return
    try:
        table, shown = _ids_of_table(folder / NUCLEI_TABLE), _ids_of_geojson(folder)
    except (EngineError, pa.ArrowException, OSError) as error:
        yield str(error)
        return
    yield from _problems_of_counts(folder, record.nuclei.count, table, shown)


def _problems_of_files(
    folder: Path, record: str, written: WrittenFiles, ready: Path | None
) -> Iterator[str]:
    """Check files where they are: in their folder, or still in that of those which are ready."""
    for name, entry in written.files.items():
        path = folder / name
        is_inside = path.parent == folder
        if is_inside and ready is not None and (ready / name).exists():
            path = ready / name
        if not is_inside or path.is_symlink():
            yield f"{folder / record}: {name!r} is no file of this folder"
        elif not path.is_file():
            yield f"{path} is missing"
        elif describe_file(path) != entry:
            yield f"{path} is not as it was written"


def _problems_of_counts(folder: Path, stated: object, table: Ids, shown: Ids) -> Iterator[str]:
    for what, count in ((NUCLEI_TABLE, len(table)), ("GeoJSON", len(shown))):
        if count != stated:
            yield f"{folder}: {RECORD} tells of {stated} nuclei, {what} holds {count}"
    for what, ids in ((NUCLEI_TABLE, table), ("GeoJSON", shown)):
        if repeated := len(ids) - len(np.unique(ids)):
            yield f"{folder}: {repeated} ids in {what} are not unique"
    if len(table) == len(shown) and not np.array_equal(np.sort(table), np.sort(shown)):
        yield f"{folder}: {NUCLEI_TABLE} and GeoJSON hold other nuclei"


def _ids_of_table(path: Path) -> Ids:
    with GeoParquetReader(path):
        pass  # says best what is wrong with a file that is none
    with pq.ParquetFile(path) as file:
        if "id" not in file.schema_arrow.names:
            raise OutputError(f"{path} has no ids")
        return np.array(file.read(columns=["id"])["id"].to_pylist(), np.bytes_)


def _ids_of_geojson(folder: Path) -> Ids:
    blocks = (
        np.array([_id(part.name, element.raw) for element in block], "S36")
        for path in files_called(folder, NUCLEI_FILES)
        for part in open_parts(path)
        for block in FeatureStream(part.stream, part.name).blocks()
    )
    return np.concatenate([np.empty(0, "S36"), *blocks])


def _id(name: str, raw: bytes) -> str:
    # Written by this engine, a feature has its id in front; parsing it all takes ten times as long.
    if match := re.match(rb'\{"type":"Feature","id":"([0-9a-f-]{36})",', raw):
        return match[1].decode()
    try:
        return str(orjson.loads(raw).get("id"))
    except (ValueError, AttributeError):
        raise GeoJSONError(f"{name} holds a feature that cannot be read") from None


def _problems_of_tiles(folder: Path) -> Iterator[str]:
    tiles = folder / TILES
    try:
        entries = read_journal(tiles / JOURNAL)
    except JournalDamagedError as error:
        yield f"{error}: what it vouched for will be computed again"
        return
    for part in entries.parts if entries is not None else ():
        try:
            read_part(tiles / part.file, part.bytes, part.crc32)
        except ValueError as error:
            yield f"{tiles / part.file} is damaged ({error}): its tiles will be computed again"
