"""From what a user names (files, folders, patterns, URLs, a manifest) to a list of slides."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from wsi_engine.archive.names import is_url
from wsi_engine.archive.remote import file_system, is_slide_folder_there
from wsi_engine.errors import SettingsError, SlideError
from wsi_engine.results.layout import RECORD
from wsi_engine.slide.beside_slides import holds_no_slides, slides_among
from wsi_engine.slide.finding import find_slides
from wsi_engine.slide.readers import has_slide_suffix
from wsi_engine.slide.slide_files import slide_files

T = TypeVar("T")


@dataclass(frozen=True)
class ListedSlide:
    """A slide that somebody wants done.

    Attributes
    ----------
    path
        Absolute path without symbolic links, or a URL; no two slides have the same.
    name
        Name that somebody wishes for the folder of its result.
    overrides
        Settings for this slide alone, fields of ``RunSettings``.
    facts
        Facts that a study knows of the slide: patient, group…
    """

    path: str
    name: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SlideJob:
    """A slide and the name of the folder that gets its result; else as in `ListedSlide`."""

    path: str
    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_remote(self) -> bool:
        """Whether the path is a URL."""
        return is_url(self.path)

    @property
    def file_name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.path).name if self.is_remote else Path(self.path).name


def list_slides(
    inputs: Iterable[str],
    manifest: Iterable[ListedSlide] = (),
    leave_out: Path | None = None,
) -> list[ListedSlide]:
    """Return every slide once: those of the manifest, then those that inputs name besides.

    Raises
    ------
    SlideError
        When an input names nothing, or a URL cannot be looked at.
    """
    listed = {slide.path: slide for slide in manifest}
    for name in inputs:
        paths = (
            _find_remote(name)
            if is_url(name)
            else find_slides([name], leave_out, closed_by=(RECORD,))
        )
        for path in paths:
            text = path if isinstance(path, str) else _real_path(path)
            listed.setdefault(text, ListedSlide(text, _wished_name(path, text)))
    return list(listed.values())


def parse_share(text: str) -> tuple[int, int]:
    """Read ``k/n``, k from 1 to n.

    Raises
    ------
    SettingsError
        When it is no share.
    """
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise SettingsError(f"--share {text}: give k/n, such as 1/8 for the first of eight shares")


def share_first(slides: list[T], share: tuple[int, int]) -> list[T]:
    """Put one of n equal shares before the others, which follow in turn.

    So drivers that are started with different shares begin far from each other, and yet no
    slide depends on one of them.
    """
    number, shares = share
    parts = [slides[k::shares] for k in range(shares)]
    return [job for k in range(shares) for job in parts[(number - 1 + k) % shares]]


def _real_path(path: Path) -> str:
    """Follow symbolic links, but not where the other files of the slide lie beside the link."""
    real = os.path.realpath(path)
    if path.is_symlink() and len(slide_files(path)) > len(slide_files(Path(real))):
        return str(Path(os.path.realpath(path.parent), path.name))
    return real


def _wished_name(path: Path | str, real: str) -> str | None:
    """Keep the name of a symbolic link, which people chose, where it is not the file's own."""
    if isinstance(path, str) or path.stem == Path(real).stem:
        return None
    return path.stem


def _slides_below(system: Any, paths: list[str]) -> list[str]:
    """Choose the slides among all files below a folder, as a search of this machine does."""
    by_folder: dict[PurePosixPath, list[str]] = defaultdict(list)
    for path in map(PurePosixPath, paths):
        by_folder[path.parent].append(path.name)
    closed = {folder for folder, names in by_folder.items() if holds_no_slides(names, (RECORD,))}
    tops = (folder for folder in closed if closed.isdisjoint(folder.parents))
    folders = [str(folder) for folder in tops if is_slide_folder_there(system, str(folder))]
    return folders + [
        str(folder / name)
        for folder, names in by_folder.items()
        if closed.isdisjoint((folder, *folder.parents))
        for name in slides_among(list(filter(has_slide_suffix, names)))
    ]


def _find_remote(url: str) -> list[str]:
    system, path = file_system(url)
    try:
        if "*" in url:
            found = [str(name) for name in system.glob(path)]
        elif system.isdir(path) and not is_slide_folder_there(system, path):
            found = _slides_below(system, [str(name) for name in system.find(path)])
        else:
            found = [path]
    # Every file system has errors of its own.
    except Exception as error:
        raise SlideError(f"{url} cannot be looked at: {error}") from None
    if not found:
        raise SlideError(f"no slide in {url}")
    return [str(system.unstrip_protocol(name)) for name in sorted(found)]
