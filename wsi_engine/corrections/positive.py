"""Giving the nuclei of a result QuPath's classes of intensity, as they stream by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from wsi_engine.corrections.corrector import CorrectedChunk
from wsi_engine.errors import ResultError
from wsi_engine.nuclei.positivity import Positivity
from wsi_engine.qupath.colours import Colour, ColourAlpha, class_colour, intensity_colour
from wsi_engine.qupath.intensity import base_of, derived, grade_of, is_ignored


class Intensities:
    """Makes ``Tumor: Positive`` of ``Tumor``, and ``Positive`` of no class, by thresholds.

    What has no measurement keeps its class without an intensity, and classes that end with ``*``
    stay, as in QuPath. An intensity that a person gave stays, too.

    Parameters
    ----------
    positivity
        The thresholds.

    Attributes
    ----------
    positivity
        The same.
    counts
        Number of nuclei of each class so far.
    """

    def __init__(self, positivity: Positivity) -> None:
        self.positivity = positivity
        self.counts: Counter[str | None] = Counter()

    def require_measured(self, measurements: Sequence[str], where: str) -> str:
        """Return the measurement as a table calls it.

        Raises
        ------
        ResultError
            When it lacks the measurement.
        """
        column = self.positivity.column_in(measurements)
        if column is None:
            stains = [name for name in measurements if name.endswith(": Mean")]
            raise ResultError(
                f"{where} has no measurement {self.positivity.measurement!r} to tell what is "
                f"positive (of means there are {', '.join(stains) or 'none'}): measure it with "
                "--stains, such as hdab, and the groups colour and ring of --measure"
            )
        return column

    def start(self, known: Sequence[str], measurements: Sequence[str], where: str) -> list[str]:
        """Get ready for nuclei of some classes, and return those that come in addition.

        Parameters
        ----------
        known
            Names of the classes that nuclei come with, by index.
        measurements
            Names of their columns.
        where
            Name of the result, for an error.
        """
        self._column = [*measurements].index(self.require_measured(measurements, where))
        bases = [
            base for base in dict.fromkeys(map(base_of, (None, *known))) if not is_ignored(base)
        ]
        all_derived = [derived(base, grade) for base in bases for grade in self.positivity.grades]
        more = [name for name in (*bases, *all_derived) if name is not None and name not in known]
        self._all: list[str | None] = [*known, *more, None]
        number = {name: k for k, name in enumerate(self._all)} | {None: -1}
        # A row for each class, the last for none; a column for each grade, the last for none.
        rows = []
        for name in (*known, None):
            base, grades = base_of(name), self.positivity.grades
            if is_ignored(base):
                rows.append([number[name]] * (len(grades) + 1))
            else:
                rows.append([*(number[derived(base, grade)] for grade in grades), number[base]])
        self._numbers = np.array(rows, np.int16)
        return more

    def colours(
        self, of_classes: Mapping[str, Colour | ColourAlpha]
    ) -> dict[str, Colour | ColourAlpha]:
        """Return the colours of all intensities beside those of the classes that they are of."""
        colours: dict[str, Colour | ColourAlpha] = {}
        for name in self._all:
            grade, base = grade_of(name), base_of(name)
            if name is not None and grade is not None and base is not None:
                red, green, blue = of_classes.get(base, class_colour(base))[:3]
                colours[name] = intensity_colour(grade, base, (red, green, blue))
        return colours

    def given(self, some: CorrectedChunk) -> CorrectedChunk:
        """Return nuclei with their intensities; call `start` before."""
        grades = self.positivity.grade(some.nuclei.measurements[:, self._column])
        classes = self._numbers[some.nuclei.classes, grades]
        for k, item in enumerate(some.items):
            if item is not None and grade_of(item.class_name) is not None:
                classes[k] = some.nuclei.classes[k]
        self.counts.update(self._all[k] for k in classes.tolist())
        return replace(some, nuclei=replace(some.nuclei, classes=classes))
