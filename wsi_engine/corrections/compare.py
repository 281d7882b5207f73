"""What became of each object from one version to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_engine.corrections.shapes import overlaps, same_shapes
from wsi_engine.corrections.snapshot import (
    BATCH,
    Rows,
    Snapshot,
    batches,
    geometries,
    ids_as_bytes,
    nuclei_of,
)
from wsi_engine.qupath.objects import PathObject

ADDED, DELETED, RECLASSIFIED, RESHAPED, RENAMED = KINDS = (
    *("added", "deleted"),
    *("reclassified", "reshaped", "renamed"),
)


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
        ``added`` alone, or some of ``reclassified``, ``reshaped``, ``renamed``.
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

    Objects are the same when they have the same UUID. One that has none, in either version, is
    the same as one of its type that lies in its place (IoU above a half).

    Parameters
    ----------
    old
        The earlier version.

    Attributes
    ----------
    unchanged
        Objects that are as they were.
    duplicates
        Objects whose id an earlier one of the new version has; they are passed over.
    reclassified
        How often one class became another.
    types
        Number of objects of each type in the new version.
    """

    def __init__(self, old: Snapshot) -> None:
        self.unchanged = 0
        self.duplicates = 0
        self.reclassified: Counter[tuple[str | None, str | None]] = Counter()
        self.types: Counter[str] = Counter()
        self._old = old
        self._seen = np.zeros(len(old), bool)
        self._nameless = old.without_id()
        self._new_ids: set[str] = set()
        self._taken_by_place: set[int] = set()

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Mask of the old objects that the new version has not; true of all at first."""
        return ~self._seen

    def changes(self, objects: Iterable[PathObject]) -> Iterator[Change]:
        """Yield what is added or changed, in the order of the new version.

        Parameters
        ----------
        objects
            The new version; children must have been flattened out.
        """
        for batch in batches(objects, BATCH):
            rows, repeated = self._matched(batch)
            fresh = [k for k in range(len(batch)) if not repeated[k]]
            self.duplicates += len(batch) - len(fresh)
            items = [batch[k] for k in fresh]
            self.types.update(item.object_type for item in items)
            yield from self._judged(items, rows[fresh])

    def _matched(self, batch: list[PathObject]) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Find the old row of each object, and which objects repeat an id."""
        rows = self._old.rows_of(ids_as_bytes([item.id for item in batch]))
        repeated = np.zeros(len(batch), bool)
        for k, item in enumerate(batch):
            if item.id is None:
                continue
            if rows[k] >= 0:
                repeated[k] = self._seen[rows[k]] and int(rows[k]) not in self._taken_by_place
                self._taken_by_place.discard(int(rows[k]))
                self._seen[rows[k]] = True
            else:
                repeated[k] = item.id in self._new_ids
                self._new_ids.add(item.id)
        lost = [k for k, item in enumerate(batch) if rows[k] < 0 and not repeated[k]]
        for without_id in (True, False):
            wanted = [k for k in lost if (batch[k].id is None) == without_id]
            open_rows = ~self._seen if without_id else ~self._seen & self._nameless
            if wanted and open_rows.any():
                rows[wanted] = self._old.in_place_of(
                    geometries([batch[k].geometry for k in wanted]),
                    [batch[k].object_type for k in wanted],
                    open_rows,
                )
                taken = rows[wanted][rows[wanted] >= 0]
                self._seen[taken] = True
                self._taken_by_place.update(taken.tolist())
        return rows, repeated

    def _judged(self, items: list[PathObject], rows: Rows) -> Iterator[Change]:
        known = np.flatnonzero(rows >= 0)
        iou = self._ious([items[k] for k in known], rows[known])
        classes = self._old.classes.at(rows[known])
        names = self._old.names.at(rows[known])
        old = {int(k): (classes[n], names[n], iou[n]) for n, k in enumerate(known)}
        for k, item in enumerate(items):
            if k not in old:
                yield Change(item, -1, (ADDED,))
                continue
            old_class, old_name, overlap = old[k]
            kinds = []
            if item.class_name != old_class:
                kinds.append(RECLASSIFIED)
                self.reclassified[old_class, item.class_name] += 1
            if overlap != 1:  # NaN is not, either
                kinds.append(RESHAPED)
            if item.name != old_name:
                kinds.append(RENAMED)
            if kinds:
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
