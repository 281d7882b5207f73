"""Which intensities in an exported file a person gave, and which are those of thresholds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from wsi_engine.corrections.snapshot import BATCH, Rows, Snapshot, batches, ids_as_bytes
from wsi_engine.nuclei.positivity import Positivity
from wsi_engine.qupath.colours import Colour, ColourAlpha
from wsi_engine.qupath.intensity import base_of, grade_of, is_ignored
from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.results.nucleus_table import GeoParquetReader


class ExportedIntensities:
    """Takes away from exported nuclei the intensities that thresholds gave them.

    An intensity is that of thresholds if it is what these say of the nucleus' measurement. The
    measurement is that of the result or, of a nucleus that has lost it there by a new outline,
    that in the file. An intensity that corrections hold already is a person's.

    Parameters
    ----------
    thresholds
        Those of the result, and then those that it had before; none for a result without.
    table
        The nuclei of the result.
    snapshot
        The same, with those intensities alone that corrections hold.
    colours
        Colours of classes.

    Attributes
    ----------
    thresholds
        Those that the nuclei of the file have their intensities from; ``None`` without any.
    """

    def __init__(
        self,
        thresholds: Sequence[Positivity],
        table: GeoParquetReader,
        snapshot: Snapshot,
        colours: Mapping[str, Colour | ColourAlpha],
    ) -> None:
        self.thresholds = thresholds[0] if thresholds else None
        self._snapshot = snapshot
        self._colours = colours
        columns = {one: one.column_in(table.measurements) for one in thresholds}
        self._values = {
            one: table.column(column).to_numpy()
            for one, column in columns.items()
            if column is not None
        }
        self._own_columns: dict[tuple[Positivity, tuple[str, ...]], str | None] = {}

    def find_thresholds(self, objects: Iterable[PathObject]) -> None:
        """Settle on the thresholds with which most objects agree, the earliest named of several."""
        votes: Counter[Positivity] = Counter()
        graded = (item for item in objects if grade_of(item.class_name) is not None)
        for batch in batches(graded, BATCH):
            rows = self._snapshot.rows_of(ids_as_bytes([item.id for item in batch]))
            for one in self._values:
                votes[one] += sum(self._are_of(one, batch, rows))
        self.thresholds = max(self._values, key=lambda one: votes[one], default=self.thresholds)

    def given(self, items: Sequence[PathObject], rows: Rows) -> list[PathObject]:
        """Return objects with those intensities alone that a person gave.

        Parameters
        ----------
        items
            Objects of the file.
        rows
            Row of each in the result, -1 for one that is not there: it keeps what it has.
        """
        if self.thresholds not in self._values:
            return [*items]
        held = self._snapshot.classes.at(rows)
        are_of = self._are_of(self.thresholds, items, rows)
        return [
            self._without_grade(item)
            if is_of and row >= 0 and item.class_name != class_name
            else item
            for item, row, class_name, is_of in zip(items, rows, held, are_of, strict=True)
        ]

    def _are_of(
        self, thresholds: Positivity, items: Sequence[PathObject], rows: Rows
    ) -> list[bool]:
        """Say of each object whether thresholds give it the intensity that it has."""
        grades = (*thresholds.grades, None)
        said = thresholds.grade(self._values_of(thresholds, items, rows)).tolist()
        return [
            grade is not None
            and grade_of(item.class_name) == grade
            and not is_ignored(base_of(item.class_name))
            for item, grade in zip(items, (grades[k] for k in said), strict=True)
        ]

    def _values_of(
        self, thresholds: Positivity, items: Sequence[PathObject], rows: Rows
    ) -> npt.NDArray[np.float32]:
        values = np.full(len(items), np.nan, np.float32)
        values[rows >= 0] = self._values[thresholds][rows[rows >= 0]]
        for k in np.flatnonzero(np.isnan(values)).tolist():
            key = thresholds, tuple(items[k].measurements)
            if key not in self._own_columns:
                self._own_columns[key] = thresholds.column_in(key[1])
            column = self._own_columns[key]
            if column is not None:
                values[k] = items[k].measurements[column]
        return values

    def _without_grade(self, item: PathObject) -> PathObject:
        base = base_of(item.class_name)
        if base is None:
            return replace(item, classification=None)
        plain = PathClass.of(base)
        return replace(
            item, classification=replace(plain, colour=self._colours.get(base, plain.colour))
        )
