"""The objects of one version as columns, so that a million of them can be held and found."""

from __future__ import annotations

import pickle
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.closing import Closing
from wsi_engine.corrections.marks import look_text, notes_text
from wsi_engine.corrections.shapes import Geometries, overlaps
from wsi_engine.qupath.objects import PathObject

BATCH = 2_000
"""Objects that are looked at together."""
SAME_PLACE = 0.5
"""Objects in one place have an IoU that is larger; only one other can have it."""

Rows = npt.NDArray[np.int64]
Ids = npt.NDArray[np.bytes_]
"""UUIDs as 16 bytes, shape (n,)."""
NO_ID = bytes(16)

Item = TypeVar("Item")


class Snapshot(Closing):
    """One version of a set of objects; a context.

    Memory holds some fifty bytes of each object; the shapes are in a temporary file.

    Attributes
    ----------
    types, classes, names, looks, notes
        Types, class names and names of the objects, their locks and own colours, and their
        metadata, see `wsi_engine.corrections.marks`; text or ``None``.
    """

    def __init__(self) -> None:
        self.types, self.classes, self.names = Texts(), Texts(), Texts()
        self.looks, self.notes = Texts(), Texts()
        self._shapes, self._nuclei = ShapeFile(), ShapeFile()
        self._parts: list[Ids] = []
        self._ids: Ids = np.empty(0, "S16")
        self._order: Rows = np.empty(0, np.int64)
        self._tree: shapely.STRtree | None = None

    @classmethod
    def of(cls, objects: Iterable[PathObject]) -> Snapshot:
        """Take in objects as they come; children must have been flattened out."""
        snapshot = cls()
        for batch in batches(objects, BATCH):
            snapshot.extend(
                [item.id for item in batch],
                geometries([item.geometry for item in batch]),
                nuclei_of(batch),
                [item.object_type for item in batch],
                [item.class_name for item in batch],
                [item.name for item in batch],
                [look_text(item) for item in batch],
                [notes_text(item) for item in batch],
            )
        return snapshot.ready()

    def __len__(self) -> int:
        return len(self._ids)

    def extend(
        self,
        ids: Sequence[str | None],
        shapes: Geometries,
        nuclei: Geometries,
        types: Sequence[str | None],
        classes: Sequence[str | None],
        names: Sequence[str | None],
        looks: Sequence[str | None],
        notes: Sequence[str | None],
    ) -> None:
        """Append objects; ``nuclei`` are those of cells, empty for others."""
        self._parts.append(ids_as_bytes(ids))
        self._shapes.extend(shapes)
        self._nuclei.extend(nuclei)
        self.types.extend(types)
        self.classes.extend(classes)
        self.names.extend(names)
        self.looks.extend(looks)
        self.notes.extend(notes)

    def ready(self) -> Snapshot:
        """Close the snapshot to further objects; now they can be found."""
        self._ids = np.concatenate([self._ids, *self._parts])
        self._order = np.argsort(self._ids, kind="stable")
        self._parts = []
        return self

    def rows_of(self, ids: Ids) -> Rows:
        """Return the row of each id, shape (n,); the first of several, -1 where there is none."""
        if len(self) == 0:
            return np.full(len(ids), -1)
        at = np.searchsorted(self._ids, ids, sorter=self._order)
        rows = self._order[np.minimum(at, len(self) - 1)]
        known = (self._ids[rows] == ids) & (ids != NO_ID)
        return np.where(known, rows, -1)

    def ids_at(self, rows: Rows) -> list[str]:
        """Return the UUIDs at some rows that have one."""
        raw = self._ids[rows].tobytes()
        return [str(uuid.UUID(bytes=raw[k : k + 16])) for k in range(0, len(raw), 16)]

    def without_id(self) -> npt.NDArray[np.bool_]:
        """Mask of the objects that have no id, shape (n,)."""
        return np.asarray(self._ids == NO_ID)

    def shapes(self, rows: Rows) -> tuple[Geometries, Geometries]:
        """Return the shapes at some rows, and the nuclei of those that are cells."""
        return self._shapes.take(rows), self._nuclei.take(rows)

    def in_place_of(
        self,
        shapes: Geometries,
        types: Sequence[str],
        open_rows: npt.NDArray[np.bool_],
        *,
        each_once: bool = True,
    ) -> Rows:
        """Find the rows whose objects lie where some shapes lie.

        Parameters
        ----------
        shapes
            Shapes in QuPath pixels, shape (m,).
        types
            Types of the objects whose shapes these are; only rows of the same type are taken.
        open_rows
            Mask of the rows that may be taken, shape (n,), best pair first.
        each_once
            Whether a row is taken by one shape alone.

        Returns
        -------
        ndarray of int64, shape (m,)
            The row, -1 where none overlaps with an IoU above a half.
        """
        found = np.full(len(shapes), -1)
        mine, rows = self._rows_by_place().query(shapes)
        codes = np.array([self.types.code_of(text) for text in types], np.int32)
        fitting = open_rows[rows] & (self.types.codes[rows] == codes[mine])
        mine, rows = mine[fitting], rows[fitting]
        iou = overlaps(self._shapes.take(rows), shapes[mine])
        taken: set[int] = set()
        for k in np.argsort(-iou, kind="stable"):
            if not iou[k] > SAME_PLACE:  # nor NaN
                break
            if found[mine[k]] < 0 and not (each_once and rows[k] in taken):
                found[mine[k]] = rows[k]
                taken.add(int(rows[k]))
        return found

    def close(self) -> None:
        """Remove the temporary files."""
        self._shapes.close()
        self._nuclei.close()

    def _rows_by_place(self) -> shapely.STRtree:
        if self._tree is None:
            chunks = (np.arange(k, min(k + BATCH, len(self))) for k in range(0, len(self), BATCH))
            bounds = [shapely.bounds(self._shapes.take(rows)) for rows in chunks]
            corners = np.concatenate(bounds) if bounds else np.empty((0, 4))
            self._tree = shapely.STRtree(shapely.box(*corners.T))
        return self._tree


class Texts:
    """A column of texts of which many are the same."""

    def __init__(self) -> None:
        self._code: dict[str | None, int] = {None: -1}
        self._parts: list[npt.NDArray[np.int32]] = []
        self._codes = np.empty(0, np.int32)

    def extend(self, texts: Sequence[str | None]) -> None:
        """Append texts."""
        for text in dict.fromkeys(texts):
            self._code.setdefault(text, len(self._code) - 1)
        self._parts.append(np.array([self._code[text] for text in texts], np.int32))

    @property
    def codes(self) -> npt.NDArray[np.int32]:
        """Which text each is, -1 for ``None``, shape (n,)."""
        if self._parts:
            self._codes = np.concatenate([self._codes, *self._parts])
            self._parts = []
        return self._codes

    def code_of(self, text: str | None) -> int:
        """Return the code of a text; one that no row has if it is new."""
        return self._code.get(text, len(self._code))

    def counts(self) -> Counter[str]:
        """Count each text that is there."""
        number = np.bincount(self.codes[self.codes >= 0], minlength=len(self._code) - 1)
        texts = (text for text in self._code if text is not None)
        return Counter(dict(zip(texts, number.tolist(), strict=True)))

    def among(self, texts: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Mask of the rows that have one of some texts, shape (n,)."""
        return np.isin(self.codes, [self.code_of(text) for text in texts])

    def at(self, rows: Rows) -> list[str | None]:
        """Return the texts at some rows."""
        texts: list[str | None] = [text for text in self._code if text is not None]
        texts.append(None)  # what index -1 means
        return [texts[code] for code in self.codes[rows]]


class ShapeFile(Closing):
    """Geometries in a temporary file; memory holds eight bytes for each."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="wsi-engine-")  # noqa: SIM115 (closed below)
        self._parts: list[Rows] = []
        self._ends = np.zeros(1, np.int64)

    def extend(self, shapes: Geometries) -> None:
        """Append geometries; empty ones take no room."""
        blobs = np.where(shapely.is_empty(shapes), b"", shapely.to_wkb(shapes)).tolist()
        self._file.writelines(blobs)
        self._parts.append(np.array([len(blob) for blob in blobs], np.int64))

    def take(self, rows: Rows) -> Geometries:
        """Read geometries; the empty ones come as empty collections."""
        if self._parts:
            ends = self._ends[-1] + np.cumsum(np.concatenate(self._parts))
            self._ends = np.concatenate([self._ends, ends])
            self._parts = []
            self._file.flush()
        blobs = []
        for start, stop in zip(
            self._ends[rows].tolist(), self._ends[rows + 1].tolist(), strict=True
        ):
            if start < stop:
                self._file.seek(start)
            blobs.append(self._file.read(stop - start) or EMPTY_WKB)
        return np.asarray(shapely.from_wkb(np.array(blobs, object))).reshape(len(rows))

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


class Spool(Closing):
    """Objects that wait in a temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="wsi-engine-")  # noqa: SIM115 (closed below)
        self._count = 0

    def put(self, items: list[PathObject]) -> None:
        """Append a batch of objects."""
        if items:
            pickle.dump(items, self._file, pickle.HIGHEST_PROTOCOL)
            self._count += 1

    def batches(self) -> Iterator[list[PathObject]]:
        """Yield the batches from the first on."""
        self._file.seek(0)
        for _ in range(self._count):
            yield pickle.load(self._file)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


EMPTY_WKB: bytes = shapely.to_wkb(shapely.GeometryCollection())


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Cut a stream into lists of some length, the last of what is left."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def geometries(shapes: Sequence[shapely.Geometry]) -> Geometries:
    """Put geometries into an array."""
    column = np.empty(len(shapes), object)
    column[:] = shapes
    return column


def nuclei_of(objects: Sequence[PathObject]) -> Geometries:
    """Return the nuclei of cells, and empty collections for objects that have none."""
    empty = shapely.GeometryCollection()
    return geometries([empty if o.nucleus is None else o.nucleus.geometry for o in objects])


def ids_as_bytes(ids: Sequence[str | None]) -> Ids:
    """Return UUIDs as 16 bytes each; zeros where there is none."""
    raw = [NO_ID if text is None else bytes.fromhex(text.replace("-", "")) for text in ids]
    return np.array(raw, "S16")
