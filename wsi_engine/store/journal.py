"""The journal: what is finished, and for which slide and settings."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from wsi_engine.closing import Closing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (fingerprint TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS part (
    number INTEGER PRIMARY KEY, file TEXT NOT NULL, tiles INTEGER NOT NULL,
    nuclei INTEGER NOT NULL, crc32 INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class PartRecord:
    """One finished part: its file, how many tiles and nuclei it holds, its checksum."""

    number: int
    file: str
    tiles: int
    nuclei: int
    crc32: int


class Journal(Closing):
    """Finished parts of one run, in SQLite; one writer.

    Parameters
    ----------
    path
        The database; made if absent.
    fingerprint
        Of everything that the result depends on. A journal of another fingerprint is emptied,
        a damaged one begun again.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        try:
            self._open(path, fingerprint)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            # Damaged: what it vouched for is computed again.
            self._connection.close()
            path.unlink()
            self._open(path, fingerprint)

    def _open(self, path: Path, fingerprint: str) -> None:
        self._connection = sqlite3.connect(path)
        # A rollback journal, unlike WAL, works on network disks.
        self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._connection:
            self._connection.executescript(_SCHEMA)
            with closing(self._connection.execute("SELECT fingerprint FROM run")) as rows:
                known = [row[0] for row in rows]
            if known != [fingerprint]:
                self._connection.execute("DELETE FROM part")
                self._connection.execute("DELETE FROM run")
                self._connection.execute("INSERT INTO run VALUES (?)", (fingerprint,))

    def add(self, record: PartRecord) -> None:
        """Record a finished part; durable when the call returns."""
        with self._connection:
            self._connection.execute(
                "INSERT INTO part VALUES (?, ?, ?, ?, ?)",
                (record.number, record.file, record.tiles, record.nuclei, record.crc32),
            )

    def parts(self) -> list[PartRecord]:
        """Return the finished parts by number."""
        rows = self._connection.execute("SELECT * FROM part ORDER BY number").fetchall()
        return [PartRecord(*row) for row in rows]

    def drop_from(self, number: int) -> None:
        """Forget a part and all later ones."""
        with self._connection:
            self._connection.execute("DELETE FROM part WHERE number >= ?", (number,))

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
