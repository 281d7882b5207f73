"""The register of an archive: which slide has which name, for good."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsi_engine.archive.inputs import ListedSlide, SlideJob
from wsi_engine.archive.names import candidates, folder_name, is_url
from wsi_engine.errors import OutputError, ResultError
from wsi_engine.results.folder import has_result
from wsi_engine.results.layout import COHORT_FILES
from wsi_engine.results.record import read_record
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.store.claim import Claim
from wsi_engine.writing import atomic_path, clear_write_errors

FOLDER = ".archive"
"""In the folder of results: what belongs to the archive and to no slide."""

OWN_NAMES = frozenset({"archive.sqlite", "summary.csv", *COHORT_FILES})
"""Files that commands write beside the folders of slides."""

_LONGEST_WAIT_S = 600


class Register:
    """Names of slides in ``OUT/.archive/slides.json``.

    A slide is given its name when it is first seen, and keeps it, whatever is found later: its
    stem, if no other slide in sight has it, or else the shortest trail of its path that is its
    own (`names.candidates`). All drivers enter their slides under one claim, so no two see
    different names.

    Parameters
    ----------
    output
        Folder of results.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self.path = output / FOLDER / "slides.json"

    def enter(self, slides: Iterable[ListedSlide]) -> list[SlideJob]:
        """Give every slide its name, and keep the names and facts.

        Raises
        ------
        ResultError
            When the register cannot be read.
        OutputError
            When it cannot be written.
        """
        slides = list(slides)
        with clear_write_errors(self._output), exclusive(self._output):
            known = self.entries()
            names = _Naming(self._output, known).names_of(slides)
            for slide in slides:
                entry = known.setdefault(names[slide.path], {"facts": {}})
                entry["path"] = slide.path
                if slide.facts:
                    entry["facts"] = dict(slide.facts)
            with atomic_path(self.path) as partial:
                partial.write_text(json.dumps({"slides": known}, indent=1), encoding="ascii")
        return _named(slides, names)

    def name(self, slides: Iterable[ListedSlide]) -> list[SlideJob]:
        """Return every slide with the name that `enter` would give it; nothing is kept.

        Raises
        ------
        ResultError
            When the register cannot be read.
        """
        slides = list(slides)
        return _named(slides, _Naming(self._output, self.entries()).names_of(slides))

    def entries(self) -> dict[str, dict[str, Any]]:
        """Return path and facts of every slide by the name of its result."""
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))["slides"]
            for name, entry in entries.items():
                if name != folder_name(name) or not isinstance(entry["path"], str):
                    raise ResultError(f"{self.path}: {name!r} is no name of a slide")
                entry["facts"].items()
        except FileNotFoundError:
            return {}
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise ResultError(
                f"{self.path} cannot be read ({error!r}): without it, which slide has which name "
                "is not known; restore it, or use another output folder"
            ) from None
        return dict(entries)


def _named(slides: list[ListedSlide], names: dict[str, str]) -> list[SlideJob]:
    return [
        SlideJob(slide.path, names[slide.path], slide.overrides, slide.facts) for slide in slides
    ]


@contextmanager
def exclusive(output: Path) -> Iterator[None]:
    """Be the only one who writes what all drivers of an archive share; waits for others."""
    waited_from = time.monotonic()
    while (claim := Claim.take(output / FOLDER)) is None:
        if time.monotonic() - waited_from > _LONGEST_WAIT_S:
            raise OutputError(f"{output / FOLDER} has been in use by another run for ten minutes")
        time.sleep(0.05)
    with claim:
        yield


class _Naming:
    def __init__(self, output: Path, known: dict[str, dict[str, Any]]) -> None:
        self._output = output
        self._known = known
        # Some file systems take A and a for the same name.
        self._taken = {name.casefold() for name in known} | OWN_NAMES

    def names_of(self, slides: list[ListedSlide]) -> dict[str, str]:
        """Return the name of each slide by its path."""
        names = {entry["path"]: name for name, entry in self._known.items()}
        unnamed = {
            slide.path: _wished_and_candidates(slide) for slide in slides if slide.path not in names
        }
        while unnamed:
            by_name: dict[str, list[str]] = defaultdict(list)
            for path, wishes in unnamed.items():
                by_name[wishes[0].casefold()].append(path)
            for paths in by_name.values():
                chosen = [path for path in paths if self._is_free(unnamed[path][0], path)]
                for path in paths:
                    if chosen == [path] or len(unnamed[path]) == 1:
                        names[path] = unnamed.pop(path)[0]
                        self._taken.add(names[path].casefold())
                    else:
                        unnamed[path] = unnamed[path][1:]
        return names

    def _is_free(self, name: str, path: str) -> bool:
        if name.casefold() not in self._taken:
            result = self._output / name
            # A run of this slide alone may have been here before.
            return not has_result(result) or _is_of(result, path)
        held_by = self._known.get(name)
        # The slide was moved, or its disk is now mounted at another place.
        return (
            held_by is not None
            and not is_url(held_by["path"])
            and not Path(held_by["path"]).exists()
            and _is_of(self._output / name, path)
        )


def _wished_and_candidates(slide: ListedSlide) -> list[str]:
    wished = [folder_name(slide.name)] if slide.name is not None else []
    return [*wished, *candidates(slide.path)]


def _is_of(folder: Path, path: str) -> bool:
    """Whether a run was of the slide that is at a path now."""
    if is_url(path):
        return False
    try:
        return fingerprint(Path(path)) == read_record(folder).slide.fingerprint
    except (OSError, ResultError):
        return False
