"""All outcomes in one place: ``archive.sqlite`` and ``summary.csv``, made anew from the folders.

They are views: the truth is ``run.json`` or ``failed.json`` of each slide, so that any number of
drivers on any machines can work side by side, and no database has two writers.
"""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, fields
from pathlib import Path

from wsi_engine.archive.outcome import done, result_of
from wsi_engine.archive.register import Register, exclusive
from wsi_engine.results.failure import read_failure
from wsi_engine.results.summary_row import COLUMNS, Row
from wsi_engine.writing import atomic_path, clear_write_errors

DATABASE, TABLE = "archive.sqlite", "summary.csv"


_TYPES = {"int | None": "INTEGER", "float | None": "REAL"}


def write_views(output: Path) -> None:
    """Write ``archive.sqlite`` and ``summary.csv`` from the folders as they are now.

    The database has a table ``slide`` with a row per slide, and ``fact`` with what the manifest
    says of them; the CSV has both in one.

    Raises
    ------
    OutputError
        When they cannot be written.
    """
    with clear_write_errors(output), exclusive(output):
        entries = Register(output).entries()
        rows = [
            summary_row(output / name, entry["path"]) for name, entry in sorted(entries.items())
        ]
        facts = {name: entry["facts"] for name, entry in entries.items()}
        with atomic_path(output / DATABASE) as partial:
            partial.write_bytes(_database(rows, facts))
        with atomic_path(output / TABLE) as partial:
            partial.write_text(_table(rows, facts), encoding="utf-8")


def summary_row(folder: Path, path: str) -> Row:
    """Sum up what is in the folder of a slide, whose file has a path."""
    path = _printable(path)
    record = result_of(folder)
    if record is not None:
        outcome = done(folder.name, record, computed=False)
        return Row(
            folder.name,
            path,
            "done",
            nuclei=outcome.nuclei,
            nuclei_per_mm2=record.nuclei.density_per_mm2,
            area_mm2=record.nuclei.area_mm2,
            tiles=outcome.tiles,
            seconds=outcome.seconds,
            damaged_regions=outcome.damaged,
            warnings=outcome.warnings,
            warning_texts=_printable("; ".join(record.warnings)) or None,
            finished=_printable(record.finished),
        )
    failure = read_failure(folder)
    if failure is None:
        return Row(folder.name, path, "left")
    return Row(
        folder.name,
        path,
        "failed",
        reason=_printable(failure.reason),
        error=_printable(failure.error),
        attempts=failure.attempts,
        finished=_printable(failure.when),
    )


def _database(rows: list[Row], facts: dict[str, dict[str, str]]) -> bytes:
    types = [f"{field.name} {_TYPES.get(str(field.type), 'TEXT')}" for field in fields(Row)]
    # In memory, as SQLite's locks do not work on every network disk.
    with closing(sqlite3.connect(":memory:")) as database, database:
        database.execute(f"CREATE TABLE slide ({', '.join(types)}, PRIMARY KEY (slide))")
        database.execute("CREATE TABLE fact (slide TEXT, name TEXT, value TEXT)")
        places = ", ".join("?" * len(COLUMNS))
        database.executemany(
            f"INSERT INTO slide VALUES ({places})", [tuple(asdict(row).values()) for row in rows]
        )
        database.executemany("INSERT INTO fact VALUES (?, ?, ?)", _long(facts))
        database.commit()
        return database.serialize()


def _table(rows: list[Row], facts: dict[str, dict[str, str]]) -> str:
    names = {name: None for _, name, _ in _long(facts) if name not in COLUMNS}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *names])
    for row in rows:
        writer.writerow([*asdict(row).values(), *[facts[row.slide].get(name) for name in names]])
    return text.getvalue()


def _long(facts: dict[str, dict[str, str]]) -> Iterator[tuple[str, str, str]]:
    for slide in sorted(facts):
        for name, value in facts[slide].items():
            yield slide, _printable(str(name)), _printable(str(value))


def _printable(text: str) -> str:
    """Show bytes of file names that are no text as QuPath and spreadsheets can read them."""
    return text.encode("utf-8", "backslashreplace").decode()
