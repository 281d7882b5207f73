"""Reading the objects of a GeoJSON file, all at once or as a stream."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from wsi_engine.errors import GeoJSONError
from wsi_engine.qupath.containers import is_archive, open_parts
from wsi_engine.qupath.json_stream import FeatureStream
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.parsing import OnProblem, parse_block
from wsi_engine.qupath.problems import Problem

log = logging.getLogger(__name__)


class PathObjects(list[PathObject]):
    """Objects in the order of their file, children within their parents.

    Attributes
    ----------
    problems
        What could not be read, or only by guessing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[Problem] = []


def read_objects(path: str | Path, *, strict: bool = False) -> PathObjects:
    """Read the objects of a GeoJSON file: plain, gzipped, or those of a zip archive.

    All that QuPath has exported since 0.2 is read, and so are files that QuPath itself refuses
    for a single feature: that is left out, or read where its meaning is beyond doubt, and
    becomes one of the ``problems``; a warning tells of them.

    Parameters
    ----------
    path
        A FeatureCollection, a bare array of features, a single feature or a bare geometry.
    strict
        Make the first problem an error.

    Returns
    -------
    PathObjects
        List of the objects, whose ``problems`` say what could not be read.

    Raises
    ------
    GeoJSONError
        When the file is absent, truncated or no JSON; if strict, with the first problem.

    Examples
    --------
    >>> import wsi_engine as we
    >>> tissue = we.read_objects("results/slide/tissue.geojson")
    >>> {item.object_type for item in tissue}
    {'annotation'}
    >>> tissue.problems
    []
    """
    objects = PathObjects()
    objects.extend(iter_objects(path, strict=strict, problems=objects.problems))
    return objects


def iter_objects(
    path: str | Path, *, strict: bool = False, problems: list[Problem] | None = None
) -> Iterator[PathObject]:
    """Yield the objects of a GeoJSON file one after the other, as `read_objects` does.

    Memory depends on the largest feature and not on their number.

    Parameters
    ----------
    path, strict
        File and strictness, as for `read_objects`.
    problems
        List that takes the problems as they are met.

    Yields
    ------
    PathObject
        One object with its children, in the order of the file.

    Raises
    ------
    GeoJSONError
        When `read_objects` raises it; what comes before a truncation was yielded.

    Examples
    --------
    >>> import wsi_engine as we
    >>> first = next(we.iter_objects("results/slide/nuclei.geojson.gz"))
    >>> first.object_type
    'detection'
    """
    met = _Problems(strict, problems)
    yield from _objects(Path(path), met)
    met.warn()


def iter_quietly(path: str | Path) -> Iterator[PathObject]:
    """Yield objects as `iter_objects` does, without a warning: for the first of two passes."""
    return _objects(Path(path), _Problems(strict=False, kept=None))


def _objects(path: Path, met: _Problems) -> Iterator[PathObject]:
    archive = is_archive(path)
    parts = 0
    for part in open_parts(path):
        parts += 1
        features = FeatureStream(part.stream, part.name)
        empty = True
        try:
            for block in features.blocks():
                empty = False
                yield from parse_block(
                    block, part.name, met.add, in_collection=features.in_collection
                )
        except GeoJSONError as error:
            if met.strict or not archive:
                raise
            met.add(Problem(part.name, None, None, str(error), skipped=True))
        for reason in features.problems:
            met.add(Problem(part.name, None, None, reason, skipped=empty))
    if not parts:
        reason = "it holds no entry that ends in .geojson or .json"
        met.add(Problem(path.name, None, None, reason, skipped=True))


class _Problems:
    def __init__(self, strict: bool, kept: list[Problem] | None) -> None:
        self.strict = strict
        self._kept = kept
        self._first: Problem | None = None
        self._count = 0

    @property
    def add(self) -> OnProblem:
        return self._add

    def _add(self, problem: Problem) -> None:
        if self.strict:
            raise GeoJSONError(str(problem))
        if self._kept is not None:
            self._kept.append(problem)
        self._first = self._first or problem
        self._count += 1

    def warn(self) -> None:
        if self._first is not None:
            more = f" (and {self._count - 1} problems more)" if self._count > 1 else ""
            log.warning("%s%s", self._first, more)
