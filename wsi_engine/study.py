"""The table of a study: a CSV with a row per slide, as people export it from anywhere."""

from __future__ import annotations

import codecs
import csv
import io
import re
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

    It is UTF-8, or UTF-16 as spreadsheets save "Unicode text". A first line ``sep=;`` counts, and
    columns at the end that are empty do not.

    Raises
    ------
    ManifestError
        When it is absent or no CSV, a column has no name of its own, or a row is too short.
    """
    text = _text_of(path)
    header, _, rest = text.partition("\n")
    stated = re.fullmatch(r"sep=(.)\r?", header)
    if stated:
        text = rest
    separator = stated[1] if stated else _separator_of(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        lines = [(reader.line_num, line) for line in reader if any(map(str.strip, line))]
    except csv.Error as error:
        raise ManifestError(f"{path.name}: line {reader.line_num}: {error}") from None
    names = [name.strip() for name in lines[0][1]] if lines else []
    while names and not names[-1] and not any("".join(line[len(names) - 1 :]) for _, line in lines):
        names.pop()  # spreadsheets write columns that once held something
        lines = [(number, line[: len(names)]) for number, line in lines]
    if len(set(names)) < len(names) or not all(names):
        raise ManifestError(
            f"{path.name}: each column needs a name of its own, in the first line of the file"
        )
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


def _separator_of(text: str) -> str:
    """Tell what separates values: what gives all lines as many, and the first line the most."""

    def parted(separator: str) -> tuple[bool, int]:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        try:
            counts = [len(line) for line in lines if any(map(str.strip, line))]
        except csv.Error:
            return False, 0
        return len(set(counts)) == 1 and counts[0] > 1, counts[0] if counts else 0

    return max(",;\t", key=parted)


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from None
    if content.startswith(b"PK\x03\x04"):
        raise ManifestError(f"{path.name} is a workbook: save it as CSV UTF-8 (comma delimited)")
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise ManifestError(
            f"{path.name} cannot be read as UTF-8 text: save it as CSV UTF-8 (comma delimited)"
        ) from None
    return text if "\n" in text else text.replace("\r", "\n")
