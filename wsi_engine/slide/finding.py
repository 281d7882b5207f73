"""From what a user names (files, folders, patterns) to slides."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from wsi_engine.errors import SlideError
from wsi_engine.slide.readers import has_slide_suffix, is_slide_folder

log = logging.getLogger(__name__)


def find_slides(inputs: Iterable[str], leave_out: Path | None = None) -> list[Path]:
    """Expand files, folders (searched to any depth) and glob patterns.

    A folder that a reader takes for a slide is one, and is not searched.

    Parameters
    ----------
    inputs
        Names of files and folders, or patterns with ``*``, ``?`` and ``**``.
    leave_out
        A folder that is not searched: that of the results may lie among the slides.

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
            slides = sorted(_slides_in(path, leave_out))
        elif path.exists():
            slides = [path]
        else:
            slides = sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207, may be absolute
        if not slides:
            raise SlideError(
                f"{name}: no such file" if not path.is_dir() else f"no slide in {name}"
            )
        for slide in slides:
            found.setdefault(os.path.realpath(slide), slide)
    return list(found.values())


def _slides_in(top: Path, leave_out: Path | None) -> Iterator[Path]:
    """Walk a folder, through symbolic links, but into no folder twice; hidden ones are not seen."""
    seen = {_identity(leave_out)} if leave_out is not None and leave_out.exists() else set()
    for folder, below, files in os.walk(top, onerror=_warn, followlinks=True):
        here = _identity(Path(folder))
        if here in seen:
            below.clear()
            continue
        seen.add(here)
        below[:] = sorted(name for name in below if not name.startswith("."))
        slides = [name for name in below if is_slide_folder(Path(folder, name))]
        below[:] = [name for name in below if name not in slides]
        slides += [name for name in files if not name.startswith(".") and has_slide_suffix(name)]
        yield from (Path(folder, name) for name in slides)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _warn(error: OSError) -> None:
    log.warning("%s cannot be searched for slides: %s", error.filename, error.strerror)
