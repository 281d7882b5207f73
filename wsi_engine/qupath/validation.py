"""Saying what QuPath would do with a GeoJSON file, whatever is in it.

The file streams by; of what is found, all is counted and the first few are kept.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wsi_engine.errors import GeoJSONError
from wsi_engine.qupath.containers import begins_serialised, is_archive, open_parts
from wsi_engine.qupath.elements import HIERARCHY, ElementStream
from wsi_engine.qupath.json_stream import Readable
from wsi_engine.qupath.rules.classification import CLASSIFICATION, is_modern
from wsi_engine.qupath.rules.container import (
    DOCUMENT,
    ELEMENT,
    Document,
    Packing,
)
from wsi_engine.qupath.rules.feature import FEATURE, has_legacy_id, is_shapeless, object_type
from wsi_engine.qupath.rules.geometry import GEOMETRY, READABILITY
from wsi_engine.qupath.rules.measurements import MEASUREMENT
from wsi_engine.qupath.rules.properties import PROPERTY, children_member
from wsi_engine.qupath.rules.repetition import REPETITION
from wsi_engine.qupath.rules.rule import NEWEST, VERSIONS, Rule, Severity
from wsi_engine.qupath.rules.shape import SHAPE
from wsi_engine.qupath.rules.shape_columns import Shapes

EXAMPLES = 5
"""Findings of one rule that are kept."""

BATCH = 2000
"""Shapes that are looked at together."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of something: its document, its feature, and the id of that."""

    document: str
    index: int | None = None
    id: str | None = None

    @property
    def is_in_archive(self) -> bool:
        """Whether the document is an entry of an archive."""
        return "/" in self.document

    def __str__(self) -> str:
        if self.index is None:
            return self.document
        entry = f"{self.document}, " if self.is_in_archive else ""
        return f"{entry}feature {self.index}" + (f" ({self.id})" if self.id else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    rule: Rule[Any]
    place: Place
    detail: str


@dataclass(slots=True)
class Tally:
    """All findings of one rule: how many, and the first few."""

    rule: Rule[Any]
    count: int = 0
    examples: list[Finding] = field(default_factory=list)


class Report:
    """The answer to what QuPath would do with a file.

    Attributes
    ----------
    path
        The file.
    objects
        How many objects there are in it, children included.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects = 0
        self._tallies: dict[tuple[str, bool], Tally] = {}

    @property
    def tallies(self) -> list[Tally]:
        """All findings by rule, the worst first: worst in the newest QuPath, then in any."""
        return sorted(
            self._tallies.values(),
            key=lambda tally: (-tally.rule.severity(), -tally.rule.worst, tally.rule.id),
        )

    def tallies_in(self, version: str) -> list[Tally]:
        """Return the findings by rule that a version of QuPath minds, the worst there first."""
        minded = [tally for tally in self.tallies if tally.rule.severity(version) > Severity.FINE]
        return sorted(minded, key=lambda tally: -tally.rule.severity(version))

    @property
    def findings(self) -> list[Finding]:
        """The findings that were kept, at most `EXAMPLES` of each rule."""
        return [finding for tally in self.tallies for finding in tally.examples]

    def count(self, rule: str) -> int:
        """Return how often a rule was violated."""
        return sum(tally.count for (name, _), tally in self._tallies.items() if name == rule)

    def severity(self, version: str = NEWEST) -> Severity:
        """Return the worst that a version of QuPath makes of the file."""
        return max(
            (tally.rule.severity(version) for tally in self._tallies.values()),
            default=Severity.FINE,
        )

    def aborts(self, version: str = NEWEST) -> bool:
        """Tell whether a version of QuPath would import nothing at all."""
        return self.severity(version) == Severity.ABORTS

    def is_clean_in(self, version: str) -> bool:
        """Tell whether all arrives in a version of QuPath as it is."""
        return self.severity(version) <= Severity.ADVICE

    @property
    def is_clean(self) -> bool:
        """Whether all arrives in the newest QuPath as it is."""
        return self.is_clean_in(NEWEST)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "file": str(self.path),
            "objects": self.objects,
            "verdicts": {version: self.severity(version).name.lower() for version in VERSIONS},
            "findings": [
                {
                    "rule": tally.rule.id,
                    "severities": {
                        version: tally.rule.severity(version).name.lower() for version in VERSIONS
                    },
                    "effect": tally.rule.effect,
                    "advice": tally.rule.advice,
                    "count": tally.count,
                    "examples": [
                        {
                            "document": finding.place.document,
                            "feature": finding.place.index,
                            "id": finding.place.id,
                            "detail": finding.detail,
                        }
                        for finding in tally.examples
                    ],
                }
                for tally in self.tallies
            ],
        }

    def add(self, rule: Rule[Any], place: Place, detail: str) -> None:
        """Note a finding."""
        key = rule.id, place.is_in_archive
        tally = self._tallies.get(key)
        if tally is None:
            tally = Tally(rule.within_archive() if place.is_in_archive else rule)
            self._tallies[key] = tally
        tally.count += 1
        if len(tally.examples) < EXAMPLES:
            tally.examples.append(Finding(tally.rule, place, detail))


def validate(path: str | Path) -> Report:
    """Say what each version of QuPath would do with a file.

    Parameters
    ----------
    path
        GeoJSON, plain, gzipped or zipped. Whatever else it is, that is a finding.

    Raises
    ------
    GeoJSONError
        When there is no such file, or it may not be read.
    """
    path = Path(path)
    report = Report(path)
    examiner = _Examiner(report)
    zipped = is_archive(path)
    documents = 0
    try:
        with without_collector():
            for part in open_parts(path):
                examiner.examine(part.name, part.stream, None if zipped else _packing(path))
                documents += 1
    except GeoJSONError as error:
        if not zipped:
            raise
        examiner.conclude(Document(path.name, "zip", unreadable=str(error)))
    else:
        if zipped:
            problems = [] if documents else ["it is empty"]
            examiner.conclude(Document(path.name, "zip", problems=problems))
    return report


@contextmanager
def without_collector() -> Iterator[None]:
    """Stop the search for cyclic garbage: JSON has no cycles, and the search doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _packing(path: Path) -> Packing:
    with path.open("rb") as file:
        return "gzip" if file.read(2) == b"\x1f\x8b" else "plain"


class _Examiner:
    """Takes the documents of one file through all the rules."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._remembering = [(rule, rule.check()) for rule in REPETITION]
        self._pending: list[tuple[Place, str, dict[str, Any], bool]] = []

    def examine(self, name: str, stream: Readable, packing: Packing | None) -> None:
        """Look at one document."""
        document = Document(name, packing)
        try:
            document.is_data_file, stream = begins_serialised(stream)
        except GeoJSONError as error:
            document.unreadable = str(error)
        if not document.is_data_file and document.unreadable is None:
            self._look_at_elements(document, ElementStream(stream, name))
        self.conclude(document)

    def _look_at_elements(self, document: Document, elements: ElementStream) -> None:
        name = document.name
        before = self._report.objects
        try:
            for element in elements.parsed():
                if elements.problems and elements.problems[-1].startswith(HIERARCHY):
                    break
                place = Place(name, element.index, _id(element.value))
                self._note(place, ELEMENT.objections(element))
                if element.feature is not None:
                    self._feature(document, place, element.feature)
                    document.has_modern_ids |= not element.is_bare_geometry and not has_legacy_id(
                        element.feature
                    )
        except GeoJSONError as error:
            document.unreadable = str(error)
        except RecursionError:
            document.unreadable = f"{name} holds a feature that is nested too deeply"
        self._look_at_shapes()
        document.members = elements.members
        document.problems = elements.problems
        document.not_utf8 = elements.not_utf8
        document.objects = self._report.objects - before

    def conclude(self, document: Document) -> None:
        """Look at a document as a whole."""
        self._note(Place(document.name), DOCUMENT.objections(document))

    def _feature(self, document: Document, place: Place, feature: dict[str, Any]) -> None:
        self._report.objects += 1
        kind = object_type(feature)
        document.annotations += kind == "annotation"
        self._note(place, FEATURE.objections(feature))
        for remembering, check in self._remembering:
            detail = check(feature)
            if detail is not None:
                self._report.add(remembering, place, detail)
        for member in ("geometry", "nucleusGeometry"):
            geometry = feature.get(member)
            if isinstance(geometry, dict) and not is_shapeless(geometry):
                self._geometry(place, member, geometry, kind)
        properties = feature.get("properties")
        if not isinstance(properties, dict):
            return
        self._note(place, PROPERTY.objections(properties))
        if "classification" in properties:
            self._note(place, CLASSIFICATION.objections(properties["classification"]))
            document.has_modern_classes |= is_modern(properties["classification"])
        if "measurements" in properties:
            self._note(place, MEASUREMENT.objections(properties["measurements"]))
            document.is_modern |= isinstance(properties["measurements"], dict)
        document.is_modern |= properties.get("objectType", "annotation") != "annotation"
        children = children_member(properties)
        if isinstance(children, list):
            for child in children:
                if isinstance(child, dict):
                    self._feature(document, Place(place.document, place.index, _id(child)), child)

    def _note(self, place: Place, objections: Iterable[tuple[Rule[Any], str]]) -> None:
        for rule, detail in objections:
            self._report.add(rule, place, detail)

    def _geometry(self, place: Place, member: str, geometry: dict[str, Any], kind: str) -> None:
        unreadable = next(READABILITY.objections(geometry), None)
        if unreadable is not None:
            self._note(place, [unreadable])
            return
        self._note(place, GEOMETRY.objections(geometry))
        is_ellipse = geometry.get("isEllipse") is True or kind == "tmaCore"
        self._pending.append((place, member, geometry, is_ellipse))
        if len(self._pending) >= BATCH:
            self._look_at_shapes()

    def _look_at_shapes(self) -> None:
        if not self._pending:
            return
        places, members, geometries, is_ellipse = zip(*self._pending, strict=True)
        self._pending = []
        shapes = Shapes.of(geometries, is_ellipse)
        for rule in SHAPE:
            for k in np.flatnonzero(rule.check(shapes)):
                # A description takes a while, and of a million is not read.
                described = self._report.count(rule.id) < EXAMPLES
                detail = f"{members[k]} {shapes.described(int(k))}" if described else ""
                self._report.add(rule, places[k], detail)


def _id(value: Any) -> str | None:
    identity = value.get("id") if isinstance(value, dict) else None
    return identity if isinstance(identity, str) else None
