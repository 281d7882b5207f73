"""Giving the nuclei of a result the classes of an object classifier, as they stream by."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wsi_engine.corrections.corrector import CorrectedChunk
from wsi_engine.errors import ResultError

if TYPE_CHECKING:
    from wsi_engine.corrections.record import Corrections
    from wsi_engine.models.objects.classifier import ObjectClassifier

MOST_DOUBTFUL = 50


@dataclass(frozen=True, order=True)
class Doubt:
    """A nucleus of which a classifier is not sure; the larger, the surer.

    Attributes
    ----------
    margin
        By how much the first class is more probable than the second.
    id
        The id of the nucleus.
    anchor
        QuPath pixels.
    classes
        The two.
    """

    margin: float
    id: str
    anchor: tuple[float, float]
    classes: tuple[str, str]


class Classes:
    """Gives nuclei the classes of a classifier, but for those to which a person gave one.

    Parameters
    ----------
    classifier
        The classifier.
    corrections
        What a person decided, which wins.

    Attributes
    ----------
    classifier, names, colours
        The classifier, its classes, and their colours.
    counts
        Number of nuclei of each class so far; of ``None``, those of which too little is measured.
    """

    def __init__(self, classifier: ObjectClassifier, corrections: Corrections) -> None:
        self.classifier = classifier
        self.names = classifier.classes
        self.colours = dict(zip(classifier.classes, classifier.colours, strict=True))
        self.counts: Counter[str | None] = Counter()
        every = (*self.names, *corrections.new_classes(self.names))
        self._all: list[str | None] = [*every, None]
        self._number = {name: k for k, name in enumerate(every)}
        self._doubts: list[tuple[float, Doubt]] = []

    def require_measured(self, measurements: Sequence[str], where: str) -> None:
        """Raise `ResultError` if a result lacks a measurement that the classifier looks at."""
        lacking = [name for name in self.classifier.measurements if name not in measurements]
        if lacking:
            raise ResultError(
                f"{where} lacks {len(lacking)} measurement(s) that the classifier looks at, such "
                f"as {lacking[0]!r}: run the slide with the groups of --measure that it was "
                "trained on, or train one on what is measured"
            )

    def given(self, some: CorrectedChunk, measurements: Sequence[str]) -> CorrectedChunk:
        """Return nuclei with their classes and probabilities.

        Parameters
        ----------
        some
            The nuclei.
        measurements
            Names of their columns.
        """
        columns = [measurements.index(name) for name in self.classifier.measurements]
        said = self.classifier.probabilities(some.nuclei.measurements[:, columns])
        unknown = np.asarray(np.isnan(said).any(axis=1), bool)
        classes = np.where(unknown, -1, np.nan_to_num(said).argmax(axis=1)).astype(np.int16)
        given = {
            k: self._number[item.class_name]
            for k, item in enumerate(some.items)
            if item is not None and item.class_name is not None
        }
        classes[[*given]] = [*given.values()]
        self.counts.update(self._all[k] for k in classes.tolist())
        doubtable = np.setdiff1d(np.flatnonzero(~unknown), [*given])
        self._note_doubts(some, said, doubtable)
        nuclei = replace(some.nuclei, classes=classes, probabilities=said)
        return replace(some, nuclei=nuclei)

    @property
    def doubtful(self) -> list[Doubt]:
        """The nuclei of which the classifier is least sure, the least sure first."""
        return sorted(doubt for _, doubt in self._doubts)

    def _note_doubts(
        self,
        some: CorrectedChunk,
        said: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
    ) -> None:
        first_two = np.argsort(-said[rows], axis=1, kind="stable")[:, :2]
        ranked = np.take_along_axis(said[rows], first_two, axis=1).astype(np.float64)
        margins = ranked[:, 0] - ranked[:, 1]
        for n in np.argsort(margins, kind="stable")[:MOST_DOUBTFUL]:
            k = int(rows[n])
            x, y = some.nuclei.anchors[k].tolist()
            first, second = (self.names[c] for c in first_two[n])
            doubt = Doubt(float(margins[n]), some.ids[k], (x, y), (first, second))
            heapq.heappush(self._doubts, (-doubt.margin, doubt))
            if len(self._doubts) > MOST_DOUBTFUL:
                heapq.heappop(self._doubts)
