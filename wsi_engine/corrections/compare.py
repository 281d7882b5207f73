"""What became of each object from one version to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_engine.corrections.marks import look_text, notes_text
from wsi_engine.corrections.shapes import overlaps, same_shapes
from wsi_engine.corrections.snapshot import (
    BATCH,
    Rows,
    Snapshot,
    Spool,
    batches,
    geometries,
    ids_as_bytes,
    nuclei_of,
)
from wsi_engine.qupath.objects import PathObject

ADDED, DELETED, RECLASSIFIED, RESHAPED, RENAMED, MARKED = KINDS = (
    *("added", "deleted"),
    *("reclassified", "reshaped", "renamed", "marked"),
)
NUCLEI = ("detection", "cell")
"""Types of objects of which two are never in one place."""

AsGiven = Callable[[Sequence[PathObject], Rows], list[PathObject]]


@dataclass(frozen=True, slots=True)
class Change:
    """One object that is not as it was.

    Attributes
    ----------
    item
        The new version.
    row
        Row of the old version in its snapshot, -1 where there is none.
    kinds
        ``added`` alone, or some of ``reclassified``, ``reshaped``, ``renamed``, ``marked``: with
        another lock, own colour or metadata.
    old_class
        Name of the class before.
    iou
        IoU of the old shape and the new; 1 where they are the same, NaN without an area.
    """

    item: PathObject
    row: int
    kinds: tuple[str, ...]
    old_class: str | None = None
    iou: float = 1.0


class Comparison:
    """Compares a stream of objects with the snapshot of an earlier version.

    Objects are the same when they have the same UUID. One that has none, in either version, and
    a nucleus of an unknown UUID, is the same as one of its type that lies in its place (IoU above
    a half): QuPath gives new UUIDs to what is brought in twice. Of two nuclei in the place of one,
    that with the known UUID counts, unless it alone is as it was.

    Metadata that an object has no more are not compared: QuPath before 0.6 loses them.

    Parameters
    ----------
    old
        The earlier version.
    as_given
        Makes of new objects, with their old rows, what is compared and yielded of them; without
        it, they are as they are.

    Attributes
    ----------
    unchanged
        Objects that are as they were.
    duplicates
        Objects whose id an earlier one of the new version has; they are passed over.
    by_place
        Nuclei of an unknown UUID that were known by their place.
    overlapping
        Nuclei among them that are passed over, because the one in their place is there already.
    reclassified
        How often one class became another.
    types
        Number of objects of each type in the new version.
    """

    def __init__(self, old: Snapshot, as_given: AsGiven | None = None) -> None:
        self.unchanged = 0
        self.duplicates = 0
        self.by_place = 0
        self.overlapping = 0
        self.reclassified: Counter[tuple[str | None, str | None]] = Counter()
        self.types: Counter[str] = Counter()
        self._old = old
        self._as_given = as_given
        self._seen = np.zeros(len(old), bool)
        self._changed = np.zeros(len(old), bool)
        self._nameless = old.without_id()
        self._new_ids: set[str] = set()

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Mask of the old objects that the new version has not; true of all at first."""
        return ~self._seen

    def changes(self, objects: Iterable[PathObject]) -> Iterator[Change]:
        """Yield what is added or changed: first what is known by its UUID, then the rest.

        Parameters
        ----------
        objects
            The new version; children must have been flattened out.
        """
        with Spool(named=False) as nameless, Spool(named=True) as renamed:
            for batch in batches(objects, BATCH):
                rows, repeated = self._known(batch)
                self.duplicates += int(repeated.sum())
                self.types.update(batch[k].object_type for k in np.flatnonzero(~repeated))
                known = np.flatnonzero((rows >= 0) & ~repeated)
                yield from self._judged([batch[k] for k in known], rows[known])
                rest = [batch[k] for k in np.flatnonzero((rows < 0) & ~repeated)]
                nameless.put([item for item in rest if item.id is None])
                renamed.put([item for item in rest if item.id is not None])
            # Only now is known which of the old objects are there no more.
            for waiting in (nameless, renamed):
                for batch in waiting.batches():
                    yield from self._placed(batch)

    def _known(self, batch: list[PathObject]) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Find the old row of each object by its id, and which objects repeat an id."""
        rows = self._old.rows_of(ids_as_bytes([item.id for item in batch]))
        repeated = np.zeros(len(batch), bool)
        for k, item in enumerate(batch):
            if item.id is None:
                continue
            if rows[k] >= 0:
                repeated[k] = self._seen[rows[k]]
                self._seen[rows[k]] = True
            else:
                repeated[k] = item.id in self._new_ids
                self._new_ids.add(item.id)
        return rows, repeated

    def _placed(self, items: list[PathObject]) -> Iterator[Change]:
        """Judge objects whose id is not known by the place in which they lie."""
        has_id = np.array([item.id is not None for item in items], bool)
        is_nucleus = np.array([item.object_type in NUCLEI for item in items], bool)
        rows = np.full(len(items), -1)
        self._find(items, rows, has_id, ~self._seen & self._nameless)
        self._find(items, rows, ~has_id | is_nucleus, ~self._seen)
        self._seen[rows[rows >= 0]] = True
        renamed = rows[has_id & (rows >= 0)]
        self.by_place += int((~self._nameless[renamed]).sum())
        # Of the others, some may lie on a nucleus that is there already.
        over = np.full(len(items), -1)
        self._find(items, over, has_id & is_nucleus & (rows < 0), self._seen, each_once=False)
        first = np.flatnonzero(over < 0)
        yield from self._judged([items[k] for k in first], rows[first])
        for k in np.flatnonzero(over >= 0):
            yield from self._judged_second(items[k], int(over[k]))

    def _judged_second(self, item: PathObject, row: int) -> Iterator[Change]:
        """Judge a nucleus in the place of one that is there already."""
        self.by_place += 1
        changes: list[Change] = []
        if not self._changed[row]:
            # The one that is there was counted as unchanged.
            changes.extend(self._judged([item], np.array([row])))
            self.unchanged -= 1
        self.overlapping += not changes
        yield from changes

    def _find(
        self,
        items: list[PathObject],
        rows: Rows,
        wanted: npt.NDArray[np.bool_],
        open_rows: npt.NDArray[np.bool_],
        *,
        each_once: bool = True,
    ) -> None:
        """Give the wanted objects that have no row yet one of the open rows, by their place."""
        chosen = np.flatnonzero(wanted & (rows < 0))
        if len(chosen) and open_rows.any():
            rows[chosen] = self._old.in_place_of(
                geometries([items[k].geometry for k in chosen]),
                [items[k].object_type for k in chosen],
                open_rows,
                each_once=each_once,
            )

    def _judged(self, items: list[PathObject], rows: Rows) -> Iterator[Change]:
        if self._as_given is not None:
            items = self._as_given(items, rows)
        known = np.flatnonzero(rows >= 0)
        iou = self._ious([items[k] for k in known], rows[known])
        classes = self._old.classes.at(rows[known])
        names = self._old.names.at(rows[known])
        looks = self._old.looks.at(rows[known])
        notes = self._old.notes.at(rows[known])
        old = {
            int(k): (classes[n], names[n], (looks[n], notes[n]), iou[n])
            for n, k in enumerate(known)
        }
        for k, item in enumerate(items):
            if k not in old:
                yield Change(item, -1, (ADDED,))
                continue
            old_class, old_name, old_marks, overlap = old[k]
            kinds = []
            if item.class_name != old_class:
                kinds.append(RECLASSIFIED)
                self.reclassified[old_class, item.class_name] += 1
            if overlap != 1:  # NaN is not, either
                kinds.append(RESHAPED)
            if item.name != old_name:
                kinds.append(RENAMED)
            marks = look_text(item), notes_text(item) or old_marks[1]
            if marks != old_marks:
                kinds.append(MARKED)
            if kinds:
                self._changed[rows[k]] = True
                yield Change(item, int(rows[k]), tuple(kinds), old_class, float(overlap))
            else:
                self.unchanged += 1

    def _ious(self, items: list[PathObject], rows: Rows) -> npt.NDArray[np.float64]:
        """IoU of old and new, of a cell's boundary or its nucleus, the smaller; 1 if the same."""
        iou = np.ones(len(items))
        old_shapes, old_nuclei = self._old.shapes(rows)
        versions = (
            (old_shapes, geometries([item.geometry for item in items])),
            (old_nuclei, nuclei_of(items)),
        )
        for old, new in versions:
            moved = ~same_shapes(old, new)
            # A shape that is not the same must not round up to an IoU of 1.
            apart = np.minimum(overlaps(old[moved], new[moved]), np.nextafter(1, 0))
            iou[moved] = np.minimum(iou[moved], apart)
        return iou
