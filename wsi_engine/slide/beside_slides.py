"""What lies beside slides and is none: labels, macros, parts, results, projects."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePath

from wsi_engine.slide.ome_zarr.metadata import MARKERS
from wsi_engine.slide.slide_files import (
    INDEXED_SUFFIXES,
    dicom_header,
    folder_beside,
    main_file,
    named_in_index,
)

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

MIRAX_INDEX = "slidedat.ini"
"""A folder that has it is the data of a MIRAX slide beside it."""

QUPATH_FOLDERS = frozenset({"classifiers", "data", "scripts", "trash"})
"""Folders that QuPath makes beside a project file, with a thumbnail of each slide."""

_LONGEST_INDEX = 1 << 20

_WORDS = (
    r"(?:slide)?labels?|barcodes?|macros?|thumb(?:nail)?s?|overviews?|previews?|masks?|overlays?"
)
_ASSOCIATED = re.compile(rf"(?:.*[^a-z])?(?:{_WORDS})(?:[^a-z].*)?")


def is_associated(name: str) -> bool:
    """Tell whether a file or folder is named as an image that belongs to a slide is.

    Such images may show the name of a patient.

    Examples
    --------
    >>> is_associated("case1_label.png"), is_associated("Macro 2.jpg"), is_associated("case1.png")
    (True, True, False)
    """
    return _ASSOCIATED.fullmatch(slide_stem(name).lower()) is not None


def slide_stem(name: str) -> str:
    """Return the name of a slide's file without its suffix, ``.ome.tif`` as a whole.

    Examples
    --------
    >>> slide_stem("case1.ome.tif"), slide_stem("case1.v2.svs")
    ('case1', 'case1.v2')
    """
    stem = PurePath(name).stem
    return stem[: -len(".ome")] if stem.lower().endswith(".ome") else stem


def is_picture(name: str) -> bool:
    """Tell from a name whether a file may be a picture; a TIFF may be a slide as well."""
    return _suffix(name) in PICTURE_SUFFIXES | TIFF_SUFFIXES


def slides_among(names: Iterable[str]) -> list[str]:
    """Choose from the names in one folder that end as slides do those that are slides.

    Pictures are slides only where nothing else is: beside slides they are labels and the like,
    whatever they are called. So are those, and TIFFs, whose name says so, anywhere.
    """
    kept = [name for name in names if not (is_picture(name) and is_associated(name))]
    whole = [name for name in kept if _suffix(name) not in PICTURE_SUFFIXES]
    return whole or kept


def parts_in(folder: Path, names: Iterable[str]) -> set[str]:
    """Return the names of files and folders that are parts of slides, or objects beside them.

    These are what Hamamatsu's index files name, folders with the pixels of a slide beside them, all
    files of a DICOM series but one, and DICOM objects that are no images of slides.
    """
    parts: set[str] = set()
    for name in names:
        beside = folder_beside(folder / name)
        if beside is not None:
            # That of MIRAX is known by its index; without one a folder of that name holds slides.
            if _suffix(name) != ".mrxs":
                parts.add(beside.name)
        elif _suffix(name) in INDEXED_SUFFIXES:
            with (folder / name).open("rb") as stream:
                parts |= named_in_index(stream.read(_LONGEST_INDEX)) - {name}
        elif _is_part_of_dicom(folder / name):
            parts.add(name)
    return parts


def holds_no_slides(names: Iterable[str], closed_by: Collection[str] = ()) -> bool:
    """Tell from the names in a folder whether it is the data of a MIRAX slide, of Zarr, or closed.

    Parameters
    ----------
    names
        Names of the files.
    closed_by
        Names in lower case, such as that of the record of a result; a folder that has one of them
        has pictures, and no slides.
    """
    return any(name.lower() in (MIRAX_INDEX, *MARKERS, *closed_by) for name in names)


def is_qupath_project(names: Iterable[str]) -> bool:
    """Tell from the names in a folder whether it holds a project of QuPath."""
    return any(_suffix(name) == ".qpproj" for name in names)


def _is_part_of_dicom(path: Path) -> bool:
    header = dicom_header(path)
    return header is not None and (not header.has_levels or main_file(path) != path)


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()
