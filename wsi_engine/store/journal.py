"""The journal: what is finished, and of which run."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from wsi_engine.closing import Closing
from wsi_engine.slide.frames import LevelBox

_SCHEMA = (
    "CREATE TABLE run (basis TEXT NOT NULL, tiles INTEGER NOT NULL, crc32 INTEGER NOT NULL)",
    "CREATE TABLE part (first INTEGER PRIMARY KEY, tiles INTEGER NOT NULL, "
    "nuclei INTEGER NOT NULL, bytes INTEGER NOT NULL, content INTEGER NOT NULL, "
    "crc32 INTEGER NOT NULL)",
    "CREATE TABLE lost (x INTEGER NOT NULL, y INTEGER NOT NULL, width INTEGER NOT NULL, "
    "height INTEGER NOT NULL, crc32 INTEGER NOT NULL, PRIMARY KEY (x, y, width, height)) "
    "WITHOUT ROWID",
)

_DISK_PROBLEMS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


@dataclass(frozen=True, slots=True)
class PartRecord:
    """One finished part.

    Attributes
    ----------
    first
        Position of its first tile among the tiles of the run.
    tiles, nuclei
        How many it holds.
    bytes, crc32
        Size of the file, and its checksum.
    """

    first: int
    tiles: int
    nuclei: int
    bytes: int
    crc32: int

    @property
    def file(self) -> str:
        """Name of the file; follows from the position, so that no journal can choose it."""
        return f"part-{self.first:08d}.arrow"

    @property
    def end(self) -> int:
        """Position after its last tile."""
        return self.first + self.tiles


@dataclass(frozen=True, slots=True)
class Entries:
    """What a journal says.

    Attributes
    ----------
    basis
        Everything that the result depends on, as JSON has it.
    tiles
        Number of tiles of the run.
    parts
        The finished ones, by position; they do not overlap.
    lost
        What could not be read of the slide for them, in pixels of the level that was read.
    """

    basis: dict[str, Any]
    tiles: int
    parts: tuple[PartRecord, ...]
    lost: frozenset[LevelBox] = frozenset()

    @property
    def finished_tiles(self) -> int:
        """Number of tiles in the parts."""
        return sum(part.tiles for part in self.parts)


class JournalDamagedError(Exception):
    """A journal that cannot be relied on; what it vouched for is computed again."""


class Journal(Closing):
    """Finished parts of one run, in SQLite; one writer.

    Parameters
    ----------
    path
        The database; made if absent.
    basis, tiles
        What the result depends on, and the number of tiles. A journal that differs in them is
        emptied, a damaged one begun again.

    Attributes
    ----------
    parts, lost
        As `Entries` has them, of when it was opened.
    """

    def __init__(self, path: Path, basis: Mapping[str, Any], tiles: int) -> None:
        try:
            self._connection = sqlite3.connect(path)
            known = _entries(self._connection)
        except JournalDamagedError:
            self._connection.close()
            # What a crash left beside would be played into the new one.
            for file in (path.with_name(f"{path.name}-journal"), path):
                file.unlink(missing_ok=True)
            self._connection = sqlite3.connect(path)
            known = None
        if known is None or (known.basis, known.tiles) != (_as_json(basis), tiles):
            self._begin(basis, tiles)
            known = Entries(_as_json(basis), tiles, ())
        self.parts, self.lost = known.parts, known.lost

    def _begin(self, basis: Mapping[str, Any], tiles: int) -> None:
        text = _text(basis)
        with self._connection:
            self._connection.execute("BEGIN")
            for table in ("run", "part", "lost"):
                self._connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in _SCHEMA:
                self._connection.execute(statement)
            row = (text, tiles, _crc32(text, tiles))
            self._connection.execute("INSERT INTO run VALUES (?, ?, ?)", row)

    def add(self, part: PartRecord, lost: Collection[LevelBox] = ()) -> None:
        """Record a finished part, and what could not be read by then; both durable on return."""
        row, boxes = astuple(part), [astuple(box) for box in lost]
        with self._connection:
            self._connection.execute(
                "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)", (*row, _crc32(*row))
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO lost VALUES (?, ?, ?, ?, ?)",
                [(*box, _crc32(*box)) for box in boxes],
            )

    def drop(self, part: PartRecord) -> None:
        """Forget a part."""
        with self._connection:
            self._connection.execute("DELETE FROM part WHERE first = ?", (part.first,))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def read_journal(path: Path, *, mend: bool = False) -> Entries | None:
    """Look into a journal; ``None`` if there is none.

    Parameters
    ----------
    mend
        Undo what a crash left half done; for its owner alone.

    Raises
    ------
    JournalDamagedError
        When it cannot be relied on, or cannot be read just now.
    """
    if not path.exists():
        return None
    try:
        try:
            return _entries_of(path, "rw" if mend else "ro")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        return _entries_before_a_crash(path)
    except (sqlite3.Error, OSError) as error:
        raise JournalDamagedError(f"{path} cannot be read: {error}") from None


def _entries_of(path: Path, mode: str) -> Entries | None:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        return _entries(connection)


def _entries_before_a_crash(path: Path) -> Entries | None:
    """Read what was written before a transaction that a crash cut off, and leave it to its owner.

    SQLite undoes a transaction only where it may write: that is done in a copy.
    """
    with tempfile.TemporaryDirectory(prefix="wsi-engine-") as scratch:
        for file in (path, path.with_name(f"{path.name}-journal")):
            shutil.copyfile(file, Path(scratch) / file.name)
        return _entries_of(Path(scratch) / path.name, "rw")


def _entries(connection: sqlite3.Connection) -> Entries | None:
    """Read and check everything; ``None`` of an empty database."""
    try:
        # Nothing in a database that somebody else wrote shall run.
        connection.execute("PRAGMA trusted_schema = OFF")
        # A rollback journal, unlike WAL, works on network disks.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = FULL")
        schema = connection.execute("SELECT sql FROM sqlite_schema ORDER BY rowid").fetchall()
        if not schema:
            return None
        if [sql for (sql,) in schema] != list(_SCHEMA):
            raise JournalDamagedError("not the journal of this version of the engine")
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise JournalDamagedError("the database is damaged")
        runs = connection.execute("SELECT * FROM run").fetchall()
        rows = connection.execute("SELECT * FROM part ORDER BY first").fetchall()
        boxes = connection.execute("SELECT * FROM lost").fetchall()
    except sqlite3.DatabaseError as error:
        # What Python itself finds, such as bytes that are no text, has no code.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_PROBLEMS:
            raise
        raise JournalDamagedError(str(error)) from None
    try:
        ((text, tiles, stated),) = runs
        basis = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        basis, stated = None, None
    if not isinstance(basis, dict) or type(tiles) is not int or _crc32(text, tiles) != stated:
        raise JournalDamagedError("it does not say of which run it is")
    # Parts without what they lack would pass for whole.
    if not all(map(_is_undamaged, boxes)):
        raise JournalDamagedError("it does not say what could not be read")
    lost = frozenset(LevelBox(*values) for *values, _ in boxes)
    return Entries(basis, tiles, tuple(_consistent(rows, tiles)), lost)


def _consistent(rows: list[tuple[int, ...]], tiles: int) -> list[PartRecord]:
    """Return the parts whose rows are undamaged, and lie one after the other in the run."""
    parts: list[PartRecord] = []
    for row in filter(_is_undamaged, rows):
        part = PartRecord(*row[:-1])
        after = parts[-1].end if parts else 0
        if part.tiles > 0 and part.first >= after and part.end <= tiles:
            parts.append(part)
    return parts


def _is_undamaged(row: tuple[int, ...]) -> bool:
    *values, stated = row
    return all(type(value) is int for value in values) and _crc32(*values) == stated


def _text(basis: Mapping[str, Any]) -> str:
    return json.dumps(basis, sort_keys=True, ensure_ascii=False)


def _as_json(basis: Mapping[str, Any]) -> dict[str, Any]:
    back: dict[str, Any] = json.loads(_text(basis))
    return back


def _crc32(*values: object) -> int:
    return zlib.crc32(json.dumps(values).encode())
