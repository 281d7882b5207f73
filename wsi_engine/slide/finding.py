"""From what a user names (files, folders, patterns) to slides."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from wsi_engine.errors import SlideError
from wsi_engine.slide.beside_slides import (
    QUPATH_FOLDERS,
    holds_no_slides,
    is_associated,
    is_picture,
    is_qupath_project,
    parts_in,
    slides_among,
)
from wsi_engine.slide.readers import has_slide_suffix, is_slide_folder
from wsi_engine.slide.slide_files import main_file

log = logging.getLogger(__name__)


def find_slides(
    inputs: Iterable[str], leave_out: Path | None = None, closed_by: Collection[str] = ()
) -> list[Path]:
    """Expand files, folders (searched to any depth) and glob patterns.

    A folder that a reader takes for a slide is one, and is not searched. A search takes no
    pictures for slides that lie beside slides or are named as labels, macros and thumbnails are;
    a file that is named is taken as it is. A slide of several files is found once, whichever of
    them are named.

    Parameters
    ----------
    inputs
        Names of files and folders, or patterns with ``*``, ``?`` and ``**``.
    leave_out
        A folder that is not searched: that of the results may lie among the slides.
    closed_by
        Names of files in lower case; a folder that has one of them is not searched, either.

    Returns
    -------
    list of Path
        Slides in the order given; the content of folders and patterns sorted. A file that has
        several names, by symbolic links, is given once, by the first.

    Raises
    ------
    SlideError
        When an input names nothing.
    """
    found: dict[str, Path] = {}
    for name in inputs:
        path = Path(name)
        if path.is_dir() and not is_slide_folder(path):
            slides = sorted(_slides_in(path, leave_out, closed_by))
        elif path.exists():
            slides = [path]
        else:
            matches = map(Path, sorted(glob.glob(name, recursive=True)))  # noqa: PTH207, may be absolute
            slides = [path for path in matches if not _is_beside_slide(path)]
        if not slides:
            raise SlideError(
                f"{name}: no such file" if not path.is_dir() else f"no slide in {name}"
            )
        for slide in map(main_file, slides):
            found.setdefault(os.path.realpath(slide), slide)
    return list(found.values())


def _slides_in(top: Path, leave_out: Path | None, closed_by: Collection[str]) -> Iterator[Path]:
    """Walk a folder, through symbolic links, but into no folder twice; hidden ones are not seen."""
    seen = {_identity(leave_out)} if leave_out is not None and leave_out.exists() else set()
    for folder, below, files in os.walk(top, onerror=_warn, followlinks=True):
        here = _identity(Path(folder))
        if here in seen:
            below.clear()
            continue
        seen.add(here)
        if holds_no_slides(files, closed_by):
            below.clear()
            continue
        files = [name for name in files if not name.startswith(".")]
        parts = parts_in(Path(folder), files)
        if is_qupath_project(files):
            parts |= QUPATH_FOLDERS
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in parts)
        slides = [name for name in below if is_slide_folder(Path(folder, name))]
        below[:] = [name for name in below if name not in slides]
        named = [name for name in files if has_slide_suffix(name) and name not in parts]
        whole = slides_among(named)
        if Path(folder) != top and is_associated(Path(folder).name):
            whole = [name for name in whole if not is_picture(name)]
        if len(whole) < len(named):
            log.warning(
                "%s: %d pictures are taken for labels or the like, not for slides; name those that "
                "are slides",
                folder,
                len(named) - len(whole),
            )
        yield from (Path(folder, name) for name in (*slides, *whole))


def _is_beside_slide(path: Path) -> bool:
    """Whether a picture that a pattern matches is the label or the like of a slide."""
    return is_picture(path.name) and is_associated(path.name)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _warn(error: OSError) -> None:
    log.warning("%s cannot be searched for slides: %s", error.filename, error.strerror)
