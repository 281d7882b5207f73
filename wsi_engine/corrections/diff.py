"""What differs between two versions of a slide's objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wsi_engine.corrections.compare import (
    DELETED,
    KINDS,
    RECLASSIFIED,
    RESHAPED,
    Change,
    Comparison,
)
from wsi_engine.corrections.snapshot import Snapshot
from wsi_engine.corrections.sources import objects_of
from wsi_engine.qupath.objects import PathObject, object_feature
from wsi_engine.qupath.writer import GeoJSONWriter
from wsi_engine.results.layout import RECORD
from wsi_engine.writing import atomic_path, clear_write_errors

DRAWN = ("annotation", "tmaCore")
"""Types of objects that bound nuclei, and are none."""

Write = Callable[[Iterable[str], PathObject], None]


@dataclass(frozen=True)
class Diff:
    """How two versions differ.

    Attributes
    ----------
    counts
        Nuclei, and other detections, that are ``added``, ``deleted``, ``reclassified``,
        ``reshaped``, ``renamed``, ``marked`` (with another lock, own colour or metadata); one
        that is changed in several ways counts in each.
    annotations
        The same of annotations and TMA cores. Tissue and regions of a result that the new version
        lacks are not deleted: who exports nuclei need not have brought them in.
    unchanged
        Objects that are as they were.
    reclassified
        How often one class (``None`` for no class) became another.
    mean_iou
        Mean IoU of the old and the new shape of those that were reshaped; NaN if none were.
    duplicates
        Objects passed over because an earlier one has their id.
    not_compared
        Number of objects by type, of types that one of the versions lacks altogether, as when
        the detections alone were exported.
    by_place
        Nuclei of an unknown UUID that were known by their place.
    overlapping
        Nuclei among them that were passed over, because the one in their place is there already.
    """

    counts: dict[str, int]
    annotations: dict[str, int]
    unchanged: int
    reclassified: Counter[tuple[str | None, str | None]]
    mean_iou: float
    duplicates: int
    not_compared: dict[str, int]
    by_place: int
    overlapping: int


def diff(old: str | Path, new: str | Path, write: str | Path | None = None) -> Diff:
    """Compare two versions of a slide's objects.

    Parameters
    ----------
    old, new
        Each a GeoJSON file, the result folder of a slide, or a folder of GeoJSON files.
    write
        Folder that gets a GeoJSON file for each kind of change, for a look in QuPath: the new
        version of the objects, and the old one of those that were deleted.

    Returns
    -------
    Diff
        Number of nuclei, and of annotations, that were added, deleted or changed.

    Raises
    ------
    GeoJSONError
        When a file cannot be read.
    OutputError
        When a file cannot be written.

    Notes
    -----
    Objects are the same when they have the same UUID. One without, in either version, and a
    nucleus of an unknown UUID, is the same as one of its type that lies in its place, with an IoU
    above a half. Shapes are the same within QuPath's rounding; measurements are not compared, nor
    metadata that the new version lacks. Memory grows by some sixty bytes for each old object:
    their shapes wait in a temporary file.

    Examples
    --------
    >>> import wsi_engine as we
    >>> nuclei = we.read_objects("results/slide/nuclei.geojson.gz")
    >>> _ = we.write_objects("corrected.geojson", nuclei[5:])  # as if five were deleted in QuPath
    >>> changes = we.diff("results/slide", "corrected.geojson")
    >>> changes.counts["deleted"], changes.unchanged == len(nuclei) - 5
    (5, True)
    """
    old, new = Path(old), Path(new)
    counts, annotations = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    ious: list[float] = []
    with _group_files(None if write is None else Path(write)) as put, ExitStack() as stack:
        snapshot = stack.enter_context(Snapshot.of(objects_of(old)))
        old_types = snapshot.types.counts()
        comparison = Comparison(snapshot)
        for change in comparison.changes(objects_of(new)):
            if old_types and change.item.object_type not in old_types:
                continue
            for kind in change.kinds:
                (annotations if change.item.object_type in DRAWN else counts)[kind] += 1
            if RESHAPED in change.kinds:
                ious.append(change.iou)
            put(change.kinds, _explained(change))
        missing = comparison.missing
        if comparison.types:
            missing &= snapshot.types.among(comparison.types)
        are_drawn = snapshot.types.among(DRAWN)
        if (old / RECORD).exists():
            missing &= ~are_drawn
        counts[DELETED] = int((missing & ~are_drawn).sum())
        annotations[DELETED] = int((missing & are_drawn).sum())
        if write is not None and missing.any():
            for is_missing, item in zip(missing, objects_of(old, quietly=True), strict=True):
                if is_missing:
                    put((DELETED,), replace(item, children=[]))
    return Diff(
        counts=counts,
        annotations=annotations,
        unchanged=comparison.unchanged,
        reclassified=comparison.reclassified,
        mean_iou=float(np.nanmean(ious)) if ious else float("nan"),
        duplicates=comparison.duplicates,
        not_compared=_in_one_alone(old_types, comparison.types),
        by_place=comparison.by_place,
        overlapping=comparison.overlapping,
    )


def _in_one_alone(old: Counter[str], new: Counter[str]) -> dict[str, int]:
    """Count the objects of types that one version lacks, unless that one is empty."""
    if not old or not new:
        return {}
    return {kind: count for kind, count in sorted((old | new).items()) if not old[kind] * new[kind]}


def _explained(change: Change) -> PathObject:
    """Add to an object how it was before, to be seen in QuPath."""
    item = replace(change.item, children=[])
    if RECLASSIFIED in change.kinds:
        item.metadata = item.metadata | {"Class before": change.old_class or "none"}
    if RESHAPED in change.kinds:
        item.measurements = item.measurements | {"IoU with before": change.iou}
    return item


@contextmanager
def _group_files(folder: Path | None) -> Iterator[Write]:
    """Open a file for each kind of change; all of them appear at the end, or none."""
    if folder is None:
        yield lambda kinds, item: None
        return
    with clear_write_errors(folder), ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        writers = {}
        for kind in KINDS:
            partial = stack.enter_context(atomic_path(folder / f"{kind}.geojson"))
            writers[kind] = stack.enter_context(GeoJSONWriter(partial))

        def put(kinds: Iterable[str], item: PathObject) -> None:
            feature = object_feature(item)
            for kind in kinds:
                writers[kind].write([feature])

        yield put
