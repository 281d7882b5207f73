"""From what a user names (files, folders, patterns) to slides."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from wsi_engine.errors import SlideError

SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".czi"}
    | {".dcm", ".png", ".jpg", ".jpeg", ".bmp"}
)
"""What a folder is searched for."""


def find_slides(inputs: Iterable[str]) -> list[Path]:
    """Expand files, folders (searched to any depth) and glob patterns.

    Returns
    -------
    list of Path
        In the order given, each once; the content of folders and patterns sorted.

    Raises
    ------
    SlideError
        When an input names nothing, or two slides would share one result folder.
    """
    found: dict[Path, None] = {}
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            slides = sorted(p for p in path.rglob("*") if p.suffix.lower() in SLIDE_SUFFIXES)
        elif path.exists():
            slides = [path]
        else:
            slides = sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207, may be absolute
        if not slides:
            raise SlideError(
                f"{name}: no such file" if not path.is_dir() else f"no slide in {name}"
            )
        found |= dict.fromkeys(slides)
    by_stem: dict[str, Path] = {}
    for slide in found:
        other = by_stem.setdefault(slide.stem, slide)
        if other != slide:
            raise SlideError(
                f"{other} and {slide} would both write to {slide.stem}/: run them into different "
                "output folders"
            )
    return list(found)
