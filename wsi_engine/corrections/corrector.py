"""Bringing the nuclei of a slide into line with its corrections, as they stream by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.corrections.record import Corrections
from wsi_engine.corrections.shapes import Geometries, same_shapes
from wsi_engine.corrections.snapshot import geometries
from wsi_engine.nuclei.labels import ADDED, EDITED, ENGINE, Labels
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.regions import Regions
from wsi_engine.results.roi_labels import cores_around, held_by

MeasureAlone = Callable[[Geometries], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class CorrectedChunk:
    """Nuclei as they shall be; columns of equal length n.

    Attributes
    ----------
    ids, nuclei
        Nuclei that stay, with their ids.
    items
        The correction behind each, ``None`` where there is none.
    """

    ids: list[str]
    nuclei: Nuclei
    items: list[PathObject | None]


class Corrector:
    """Brings a stream of nuclei into line with corrections.

    Parameters
    ----------
    corrections
        Corrections to be made.
    classes
        Class names of the model by index; those that only corrections have are numbered after
        them.
    measure
        Measures new outlines, float32 (n, number of columns of the stream).
    drawn
        Ids of nuclei in the stream that a person drew. They are left out of it: those that
        still are to be come all together in `rest`.
    """

    def __init__(
        self,
        corrections: Corrections,
        classes: Sequence[str],
        measure: MeasureAlone,
        drawn: Collection[str] = (),
    ) -> None:
        self._corrections = corrections
        self._measure = measure
        self._left_out = corrections.deleted.union(drawn)
        self._model_classes = len(classes)
        all_classes = (*classes, *corrections.new_classes(classes))
        self._number: dict[str | None, int] = {name: k for k, name in enumerate(all_classes)}
        self._number[None] = -1
        self._met: set[str] = set()

    def corrected(self, ids: Sequence[str], nuclei: Nuclei) -> CorrectedChunk:
        """Leave out what is deleted, and give what is edited its shape and class.

        What is given stays as it is. A new shape brings a new anchor, its centroid, and
        measurements of its own.
        """
        self._met.update(self._corrections.deleted.intersection(ids))
        kept = np.array([k for k, i in enumerate(ids) if i not in self._left_out], int)
        ids = [ids[k] for k in kept]
        nuclei = nuclei.take(kept)
        items = [self._corrections.edited.get(identity) for identity in ids]
        edits = {k: item for k, item in enumerate(items) if item is not None}
        if edits:
            rows = np.array([*edits])
            self._met.update(ids[k] for k in edits)
            shapes = geometries([item.geometry for item in edits.values()])
            moved = ~same_shapes(nuclei.polygons[rows], shapes)
            reshaped, shapes = rows[moved], shapes[moved]
            nuclei = replace(
                nuclei,
                polygons=_with(nuclei.polygons, reshaped, shapes),
                anchors=_with(nuclei.anchors, reshaped, _anchors_of(shapes)),
                measurements=_with(nuclei.measurements, reshaped, self._measure(shapes)),
                classes=_with(nuclei.classes, rows, self._classes_of(edits.values())),
            )
        return CorrectedChunk(ids, nuclei, items)

    def rest(self) -> CorrectedChunk:
        """Return what a person drew, and edited nuclei that did not come in."""
        wanted = dict(self._corrections.added)
        wanted |= {i: o for i, o in self._corrections.edited.items() if i not in self._met}
        ids = sorted(wanted)
        items = [wanted[identity] for identity in ids]
        shapes = geometries([item.geometry for item in items])
        nuclei = Nuclei(
            polygons=shapes,
            anchors=_anchors_of(shapes),
            scores=np.full(len(ids), np.nan, np.float32),
            classes=self._classes_of(items),
            probabilities=np.full((len(ids), self._model_classes), np.nan, np.float32),
            owned=np.ones(len(ids), bool),
            measurements=self._measure(shapes),
        )
        return CorrectedChunk(ids, nuclei, [*items])

    @property
    def unmet(self) -> int:
        """Deletions and edits whose nucleus was not in the stream."""
        decided = self._corrections.deleted | self._corrections.edited.keys()
        return len(decided - self._met)

    def _classes_of(self, items: Iterable[PathObject]) -> npt.NDArray[np.int16]:
        return np.array([self._number[item.class_name] for item in items], np.int16)


def _with(
    column: npt.NDArray[Any], rows: npt.NDArray[np.int64], values: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Return a column with other values in some rows."""
    column = column.copy()
    column[rows] = values
    return column


def _anchors_of(shapes: Geometries) -> npt.NDArray[np.float64]:
    """Return the centroids of shapes, rounded to 0.01 px, shape (n, 2)."""
    return np.round(shapely.get_coordinates(shapely.centroid(shapes)).reshape(-1, 2), 2)


def labels_of(
    corrected: CorrectedChunk,
    added: Container[str],
    regions: Regions | None,
    origin: str = ENGINE,
) -> Labels:
    """Say where nuclei come from and in which regions they lie.

    Parameters
    ----------
    corrected
        The nuclei.
    added
        Ids of those that a person drew.
    regions
        Regions of interest, if there are any.
    origin
        What found those that no person touched.
    """
    items, held = corrected.items, held_by(regions, corrected.nuclei.anchors)
    return Labels(
        name=[None if item is None else item.name for item in items],
        source=[
            origin if item is None else ADDED if identity in added else EDITED
            for identity, item in zip(corrected.ids, items, strict=True)
        ],
        roi=[name for name, _ in held],
        roi_id=[identity for _, identity in held],
        notes=[{} if item is None else item.metadata for item in items],
        colours=[None if item is None else item.colour for item in items],
        locks=[item is not None and item.is_locked for item in items],
        cores=cores_around(regions, corrected.nuclei.anchors),
    )
