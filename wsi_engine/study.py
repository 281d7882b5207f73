"""The table of a study: a CSV with a row per slide, as people export it from anywhere."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from wsi_engine.errors import ManifestError


@dataclass(frozen=True)
class StudyTable:
    """A table as it was written.

    Attributes
    ----------
    path
        Path of the file that was read.
    columns
        Names of the columns, each once.
    rows
        Line in the file, and a value per column; ``None`` where the cell is empty.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str | None]], ...]


def read_study(path: Path) -> StudyTable:
    """Read a table separated by commas, semicolons or tabs, with names in the first line.

    Raises
    ------
    ManifestError
        When it is absent or no CSV, a column has no name of its own, or a row is too short.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as UTF-8 text: {error}") from None
    header = text.split("\n", 1)[0]
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        lines = [(reader.line_num, line) for line in reader if any(line)]
    except csv.Error as error:
        raise ManifestError(f"{path.name}: line {reader.line_num}: {error}") from None
    names = [name.strip() for name in lines[0][1]] if lines else []
    if len(set(names)) < len(names) or not all(names):
        raise ManifestError(f"{path.name}: each column needs a name of its own")
    for number, line in lines[1:]:
        if len(line) != len(names):
            raise ManifestError(
                f"{path.name}: line {number} has {len(line)} values, the header {len(names)}"
            )
    rows = tuple(
        (number, dict(zip(names, [value.strip() or None for value in line], strict=True)))
        for number, line in lines[1:]
    )
    return StudyTable(path, tuple(names), rows)
