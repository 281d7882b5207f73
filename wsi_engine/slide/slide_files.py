"""The files that one slide is made of, whichever of them was named."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path
from typing import NamedTuple

from wsi_engine.slide.dicom_header import DicomHeader, read_header

INDEXED_SUFFIXES = frozenset({".vms", ".vmu"})
"""Hamamatsu's formats of an index file that names the others."""

FOLDERS_BESIDE = {".mrxs": "{stem}", ".i2syntax": "{stem}", ".vsi": "_{stem}_"}
"""Formats whose pixels lie in a folder beside the file: of 3DHISTECH, and, read by other packages,
of Philips and Olympus. A single file of such a format has no folder."""

DICOM_SUFFIXES = frozenset({"", ".dcm", ".dicom", ".dic"})
"""What DICOM files end in, or else in a number: many are called by a UID."""

_LARGEST_INDEX = 1 << 20


class SlideFile(NamedTuple):
    """One file of a slide, under a label that does not depend on the name of the slide."""

    label: str
    path: Path


def slide_files(path: Path) -> list[SlideFile]:
    """Return the files of a slide, in an order that does not depend on which one was named.

    A DICOM slide is the whole slide images of one series in a folder; its labels are their UIDs.
    MIRAX and its like have a folder of the slide's name; VMS and VMU name their files. Any other
    file is a slide by itself, and a folder that is one counts as its files.

    Raises
    ------
    OSError
        When files cannot be listed.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return _files_below(path, path)
    beside = folder_beside(path)
    if beside is not None:
        return [SlideFile("", path), *(_files_below(beside, beside) if beside.is_dir() else ())]
    if suffix in INDEXED_SUFFIXES:
        named = named_in_index(_beginning(path))
        beside_it = (path.with_name(name) for name in sorted(named) if name != path.name)
        return [SlideFile("", path), *(SlideFile(p.name, p) for p in beside_it if p.is_file())]
    series = dicom_series(path)
    if series:
        return sorted(SlideFile(header.sop_instance, file) for file, header in series)
    return [SlideFile("", path)]


def folder_beside(path: Path) -> Path | None:
    """Return where a slide has its pixels if it has a folder; ``None`` for other formats.

    Examples
    --------
    >>> folder_beside(Path("case.vsi")), folder_beside(Path("case.svs"))
    (PosixPath('_case_'), None)
    """
    name = FOLDERS_BESIDE.get(path.suffix.lower())
    return path.with_name(name.format(stem=path.stem)) if name else None


def main_file(path: Path) -> Path:
    """Return the file under which a slide is known: of a DICOM series, that of the finest level.

    Whatever is no part of a slide of several files is returned as it is.
    """
    if not path.is_file():
        return path
    series = dicom_series(path)
    return series[0][0] if series else path


def dicom_series(path: Path) -> list[tuple[Path, DicomHeader]]:
    """Return the images of slides beside a DICOM file that are of its series, finest level first.

    Empty where the file is no DICOM image of a slide, or cannot be read.
    """
    own = dicom_header(path)
    if own is None or not own.is_whole_slide or not own.series:
        return []
    found = []
    for file in path.parent.iterdir():
        header = dicom_header(file) if file.is_file() else None
        if header is not None and header.is_whole_slide and header.series == own.series:
            found.append((file, header))
    return sorted(found, key=_by_level)


def named_in_index(index: bytes) -> set[str]:
    """Return the names of files that an index file gives."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    try:
        parser.read_string(index.decode("utf-8", errors="replace"))
    except configparser.Error:
        return set()  # whoever opens the slide says that it is damaged
    values = [value for section in parser.sections() for value in parser[section].values()]
    return {re.split(r"[/\\]", value.strip())[-1] for value in values if value}


def dicom_header(path: Path) -> DicomHeader | None:
    """Return the header of a file that by its name may be DICOM; ``None`` if it is none."""
    suffix = path.suffix.lower()
    if suffix not in DICOM_SUFFIXES and not suffix[1:].isdecimal():
        return None
    try:
        return read_header(path)
    except OSError:
        return None


def _by_level(member: tuple[Path, DicomHeader]) -> tuple[bool, int, str]:
    file, header = member
    return not header.has_levels, -header.columns * header.rows, file.name


def _files_below(folder: Path, top: Path) -> list[SlideFile]:
    """Return the files of a folder at any depth, named from its top with ``/``."""
    found = []
    for place, below, names in os.walk(folder, onerror=_raise):
        below.sort()
        for name in sorted(names):
            file = Path(place, name)
            found.append(SlideFile(file.relative_to(top).as_posix(), file))
    return found


def _raise(error: OSError) -> None:
    raise error


def _beginning(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_LARGEST_INDEX)
