"""The readers of slides: those of this package, and those that other packages register."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import openslide

from wsi_engine.plugins import Plugins, plugins
from wsi_engine.slide.ome_zarr.reader import ZIP_SUFFIXES, is_ome_zarr, open_ome_zarr
from wsi_engine.slide.openslide_slide import OpenSlideSlide
from wsi_engine.slide.plain_image import PlainImage
from wsi_engine.slide.protocol import Slide
from wsi_engine.slide.tiff_slide import TiffSlide, is_read_here

log = logging.getLogger(__name__)

GROUP = "wsi_engine.readers"
"""Entry points of other packages; each is a `Reader` under its name."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One way to open slides.

    Attributes
    ----------
    name
        One word, that of the entry point; messages name it.
    can_open
        Tells whether a path that exists is a slide of its kind. It is asked of many files, so
        that it should look at the name, and at the first bytes or a single file if need be.
    open
        Opens a slide, as `Slide` describes it; ``info.path`` is the path it was given. Raises
        `SlideError` when it cannot.
    suffixes
        Endings of files that a search of folders takes for slides, in lower case: ``.svs``.
    takes_folders
        Whether ``can_open`` is asked of folders, too. One that it takes is one slide, and no
        search looks into it.
    """

    name: str
    can_open: Callable[[Path], bool]
    open: Callable[[Path], Slide]
    suffixes: frozenset[str] = frozenset()
    takes_folders: bool = False


def _is_known_to_openslide(path: Path) -> bool:
    try:
        return openslide.OpenSlide.detect_format(path) is not None
    except openslide.OpenSlideError:
        return False


def _is_tiff_of_its_own(path: Path) -> bool:
    """Whether a TIFF is generic, and `TiffSlide` reads more of it than OpenSlide."""
    try:
        vendor = openslide.OpenSlide.detect_format(path)
    except openslide.OpenSlideError:
        return False
    return vendor in (None, "generic-tiff") and is_read_here(path)


_PLAIN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})

OPENSLIDE = Reader(
    "openslide",
    _is_known_to_openslide,
    OpenSlideSlide,
    frozenset({".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide"})
    | {".bif", ".czi", ".dcm"},
)

TIFF = Reader("tiff", _is_tiff_of_its_own, TiffSlide)

OME_ZARR = Reader(
    "ome-zarr", is_ome_zarr, open_ome_zarr, frozenset(ZIP_SUFFIXES), takes_folders=True
)

PLAIN_IMAGE = Reader(
    "plain-image",
    lambda path: path.suffix.lower() in _PLAIN_SUFFIXES,
    PlainImage,
    _PLAIN_SUFFIXES,
)


_OWN = frozenset({TIFF.name, OPENSLIDE.name, OME_ZARR.name, PLAIN_IMAGE.name})


def readers() -> Iterator[Reader]:
    """Yield all readers in the order in which they are asked.

    First those that this package has for slides, so that no other changes how they are read:
    OpenSlide, but before it the one of tiled TIFFs that OpenSlide knows and does not read well,
    and that of OME-Zarr. Then those of other packages by name; plain images last, for a tiled TIFF
    of another kind is one as well.
    """
    yield TIFF
    yield OPENSLIDE
    yield OME_ZARR
    yield from _of_other_packages().found.values()
    yield PLAIN_IMAGE


def find_reader(path: Path) -> Reader | None:
    """Return the reader of a file or folder that exists; ``None`` if nobody takes it."""
    is_folder = path.is_dir()
    for reader in readers():
        if (reader.takes_folders or not is_folder) and _takes(reader, path):
            return reader
    return None


def is_slide_folder(path: Path) -> bool:
    """Tell whether a path is a folder that is one slide."""
    return path.is_dir() and find_reader(path) is not None


def has_slide_suffix(name: str) -> bool:
    """Tell whether a search of folders takes a file of that name for a slide."""
    return name.lower().endswith(_suffixes())


def may_be_slide(path: Path) -> bool:
    """Tell whether a search of folders takes a path for a slide."""
    return is_slide_folder(path) or has_slide_suffix(path.name)


def reader_basis(path: Path) -> dict[str, str]:
    """Describe who reads a slide, where that is not OpenSlide: by its version, if a package."""
    reader = find_reader(path) if path.exists() else None
    if reader is TIFF or reader is OME_ZARR:
        return {"reader": reader.name}
    if reader is None or reader in (OPENSLIDE, PLAIN_IMAGE):
        return {}
    return {"package of the reader": _of_other_packages().packages[reader.name]}


@cache
def _of_other_packages() -> Plugins[Reader]:
    others = plugins(GROUP, Reader, _OWN)
    for problem in others.problems.values():
        log.warning(problem)
    return others


@cache
def _suffixes() -> tuple[str, ...]:
    return tuple({suffix for reader in readers() for suffix in reader.suffixes})


def _takes(reader: Reader, path: Path) -> bool:
    try:
        return reader.can_open(path)
    # A package's mistake must not keep others from opening the slide.
    except Exception as error:
        log.warning("reader %r failed to look at %s: %r", reader.name, path, error)
        return False
