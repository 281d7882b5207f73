"""What a file that was corrected in QuPath changes in the result that it came from."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import shapely

from wsi_engine.corrections.compare import Comparison
from wsi_engine.corrections.exported import ExportedIntensities
from wsi_engine.corrections.marks import look_text, notes_text
from wsi_engine.corrections.record import Corrections
from wsi_engine.corrections.selection import FLAT, NucleusSelection
from wsi_engine.corrections.shapes import overlaps
from wsi_engine.corrections.snapshot import SAME_PLACE, Snapshot, geometries
from wsi_engine.errors import CorrectionsError
from wsi_engine.nuclei.identity import namespace_of
from wsi_engine.nuclei.polygons import simplified_on_grid
from wsi_engine.nuclei.positivity import Positivity
from wsi_engine.qupath.colours import Colour, ColourAlpha
from wsi_engine.qupath.intensity import base_of, grade_of, is_ignored
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.problems import Problem
from wsi_engine.qupath.roi import ROI
from wsi_engine.results.nucleus_table import GeoParquetReader

MOST_OUTLINES = 100_000
"""Deleted nuclei beyond this number leave no outline: nobody has looked at each of so many."""


@dataclass(frozen=True)
class Changes:
    """What is other than in a result as it stands; nuclei by id.

    Attributes
    ----------
    lacking
        Ids of nuclei that the file has not.
    edited, added
        Nuclei as they shall be, without measurements.
    duplicates
        Objects passed over because an earlier one has their id.
    by_place
        Nuclei of an unknown id that were known by their place.
    overlapping
        Nuclei passed over because another one lies in their place.
    outlines
        Outlines that those which are lacking or edited have in the result, by id; of no more
        than `MOST_OUTLINES` that are lacking.
    thresholds
        Those that the nuclei of the file have their intensities from, if any.
    """

    lacking: tuple[str, ...]
    edited: dict[str, PathObject]
    added: dict[str, PathObject]
    duplicates: int
    by_place: int
    overlapping: int
    outlines: dict[str, shapely.Polygon]
    thresholds: Positivity | None


def find_changes(
    objects: Iterable[PathObject],
    selection: NucleusSelection,
    table: GeoParquetReader,
    earlier: Corrections,
    thresholds: Sequence[Positivity] = (),
    colours: Mapping[str, Colour | ColourAlpha] = MappingProxyType({}),
    first_pass: Callable[[], Iterable[PathObject]] = tuple,
) -> Changes:
    """Compare the nuclei of a corrected file with those of a result.

    Intensities that thresholds gave, in the file or the result, are nobody's change.

    Parameters
    ----------
    objects
        Objects of the file.
    selection
        Says which of them are nuclei, and counts those that are none.
    table
        The nuclei of the result.
    earlier
        The corrections in it.
    thresholds
        Those of the result, and then those that it had before.
    colours
        Colours of its classes.
    first_pass
        Reads the same objects, to find which of several thresholds are theirs.
    """
    edited: dict[str, PathObject] = {}
    added: dict[str, PathObject] = {}
    outlines: dict[str, shapely.Polygon] = {}
    before = earlier.edited | earlier.added
    with _snapshot(table, before, are_told=bool(thresholds)) as snapshot:
        colours = {**colours, **earlier.colours()}
        intensities = ExportedIntensities(thresholds, table, snapshot, colours)
        if len(thresholds) > 1:
            intensities.find_thresholds(first_pass())
        comparison = Comparison(snapshot, intensities.given)
        for change in comparison.changes(selection.nuclei(objects)):
            item = _on_grid(change.item)
            if item is None:
                selection.left_out[FLAT] += 1
            elif change.row >= 0:
                identity = snapshot.ids_at(np.array([change.row]))[0]
                if identity not in before:
                    outlines[identity] = snapshot.shapes(np.array([change.row]))[0][0]
                elif not item.metadata:
                    item = replace(item, metadata=before[identity].metadata)
                edited[identity] = replace(item, id=identity)
            else:
                identity = item.id or _id_by_shape(item.geometry, earlier)
                added[identity] = replace(item, id=identity)
        missing = np.flatnonzero(comparison.missing)
        lacking = snapshot.ids_at(missing)
        some = snapshot.shapes(missing[:MOST_OUTLINES])[0]
        outlines.update(zip(lacking, some.tolist(), strict=False))
    alone = _without_overlaps(added)
    return Changes(
        tuple(lacking),
        edited,
        alone,
        comparison.duplicates,
        comparison.by_place,
        comparison.overlapping + len(added) - len(alone),
        outlines,
        intensities.thresholds,
    )


def refuse_unreadable(problems: Sequence[Problem]) -> None:
    """Raise `CorrectionsError` if an object was skipped, whose nucleus would count as deleted."""
    skipped = [problem for problem in problems if problem.skipped]
    if skipped:
        raise CorrectionsError(
            f"{skipped[0]}, and its nucleus would count as deleted: mend the file, or keep all "
            "nuclei that it lacks with --partial"
        )


def _snapshot(
    table: GeoParquetReader, corrected: Mapping[str, PathObject], *, are_told: bool
) -> Snapshot:
    """Take in the nuclei of a result; where thresholds told them, without what these gave."""
    snapshot = Snapshot()
    for group in table.groups():
        names = group["name"].to_pylist() if "name" in group.column_names else [None] * len(group)
        ids = group["id"].to_pylist()
        items = [corrected.get(identity) for identity in ids]
        classes = group["class"].to_pylist()
        if are_told:
            classes = [_as_held(name, item) for name, item in zip(classes, items, strict=True)]
        snapshot.extend(
            ids,
            np.asarray(shapely.from_wkb(group["geometry"].to_numpy())),
            geometries([shapely.GeometryCollection()] * len(group)),
            ["detection"] * len(group),
            classes,
            names,
            [None if item is None else look_text(item) for item in items],
            [None if item is None else notes_text(item) for item in items],
        )
    return snapshot.ready()


def _as_held(name: str | None, item: PathObject | None) -> str | None:
    """Return a class with no intensity but one that corrections hold."""
    base = base_of(name)
    if is_ignored(base) or (item is not None and grade_of(item.class_name) is not None):
        return name
    return base


def _without_overlaps(added: dict[str, PathObject]) -> dict[str, PathObject]:
    """Leave out nuclei that lie in the place of an earlier one."""
    shapes = geometries([item.geometry for item in added.values()])
    later, earlier = shapely.STRtree(shapes).query(shapes)
    later, earlier = later[earlier < later], earlier[earlier < later]
    out: set[int] = set()
    for k in np.flatnonzero(overlaps(shapes[earlier], shapes[later]) > SAME_PLACE):
        if int(earlier[k]) not in out:
            out.add(int(later[k]))
    return {name: item for k, (name, item) in enumerate(added.items()) if k not in out}


def _on_grid(item: PathObject) -> PathObject | None:
    """Bring a nucleus onto the 0.01 px grid; what was measured on it elsewhere is dropped."""
    polygons, _ = simplified_on_grid(geometries([item.geometry]), 0.0)
    return replace(item, roi=ROI(polygons[0]), measurements={}) if len(polygons) else None


def _id_by_shape(shape: shapely.Geometry, corrections: Corrections) -> str:
    namespace = namespace_of(corrections.slide, corrections.model)
    return str(uuid.uuid5(namespace, f"added {shapely.to_wkb(shape, hex=True)}"))
