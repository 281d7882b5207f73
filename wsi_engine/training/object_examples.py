"""Nuclei whose class a person has given in QuPath: by itself, by a point, or by an area."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from scipy.spatial import KDTree

from wsi_engine.corrections.selection import CHECKED
from wsi_engine.corrections.sources import objects_of
from wsi_engine.models.regions.protocol import IGNORED
from wsi_engine.qupath.colours import Colour
from wsi_engine.qupath.features import PROBABILITY_NAME
from wsi_engine.qupath.intensity import base_of
from wsi_engine.qupath.nuclei import is_nucleus, nucleus_outline
from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.nucleus_table import polygons_of

log = logging.getLogger(__name__)

NEAREST = 16
"""So many nuclei around a point are asked whether it lies in them."""

OF_REGIONS = ("Region*", CHECKED)
"""Classes of annotations that say where to look, and not what a nucleus is."""


@dataclass(frozen=True)
class Examples:
    """Nuclei of a result with the class that a person gave them; columns of equal length n.

    Attributes
    ----------
    rows
        int64, shape (n,): rows in the table of nuclei, rising.
    classes
        Name of the class of each.
    groups
        What each came from, as a number: nuclei of one area are of one group, all others stand
        for themselves.
    colours
        Colours of the classes in QuPath.
    contradicted
        Number of nuclei left out because they were given two classes.
    unmatched
        Number of points and nuclei in the files that lie on no nucleus of the result.
    """

    rows: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    groups: npt.NDArray[np.int64]
    colours: dict[str, Colour]
    contradicted: int
    unmatched: int


@dataclass
class _Given:
    """What was given by one kind of object: class and group by row; ``None`` for two classes."""

    found: dict[int, tuple[str | None, int]] = field(default_factory=dict)

    def add(self, rows: Iterable[int], name: str, group: int) -> None:
        for row in rows:
            earlier = self.found.get(row, (name, group))
            self.found[row] = earlier if earlier[0] == name else (None, group)


@dataclass
class _Drawn:
    """The objects of the files that give a class, by their kind."""

    nuclei: list[PathObject] = field(default_factory=list)
    points: list[PathObject] = field(default_factory=list)
    areas: list[PathObject] = field(default_factory=list)


def read_examples(paths: Sequence[Path], result: SlideResult) -> Examples:
    """Find the nuclei of a result to which files of QuPath give a class.

    A nucleus counts when it is locked, or of another class than what found or classified it says:
    of a class that the model does not know, or other than the most probable one where it carries
    probabilities. Points and unlocked areas with a class give it to the nuclei on which they lie,
    and whose anchors lie in them. What says it of fewer nuclei wins: a nucleus itself over a
    point, a point over an area. Classes that end with ``*`` are nobody's.

    Parameters
    ----------
    paths
        GeoJSON files, or folders of such.
    result
        The result of the slide on which they were drawn.

    Raises
    ------
    GeoJSONError
        When a file cannot be read.
    ResultError
        When the nuclei cannot be read.
    """
    facts = result.record.classifier
    known = result.record.model.classes if facts is None else facts.model_classes
    drawn = _Drawn()
    for path in paths:
        objects: Iterable[PathObject] = objects_of(path)
        if result.record.positivity is not None:
            objects = map(_without_intensity, objects)
        _sort(objects, known, drawn)
    places = _Places(result)
    itself, pointed, within = _Given(), _Given(), _Given()
    group = unmatched = 0
    rows = places.rows_of(drawn.nuclei)
    for item, row in zip(drawn.nuclei, rows, strict=True):
        group, unmatched = group + 1, unmatched + (row < 0)
        itself.add([row] if row >= 0 else [], str(item.class_name), group)
    for item in drawn.points:
        for row in places.under(shapely.get_coordinates(item.geometry)):
            group, unmatched = group + 1, unmatched + (row < 0)
            pointed.add([row] if row >= 0 else [], str(item.class_name), group)
    for item in drawn.areas:
        group += 1
        within.add(places.within(item.geometry), str(item.class_name), group)
    found = within.found | pointed.found | itself.found
    kept = {row: (name, of) for row, (name, of) in sorted(found.items()) if name is not None}
    givers = (*drawn.nuclei, *drawn.points, *drawn.areas)
    colours = {str(c): c.colour for item in givers if (c := item.classification) is not None}
    return Examples(
        rows=np.array([*kept], np.int64),
        classes=tuple(name for name, _ in kept.values()),
        groups=np.array([of for _, of in kept.values()], np.int64),
        colours={name: (c[0], c[1], c[2]) for name, c in colours.items()},
        contradicted=len(found) - len(kept),
        unmatched=unmatched,
    )


def _sort(objects: Iterable[PathObject], known: Sequence[str], drawn: _Drawn) -> None:
    """Put the objects that give a class where they belong."""
    for item in objects:
        name = item.class_name
        if name is None or name.endswith(IGNORED):
            continue
        if is_nucleus(item):
            if item.is_locked or name != _said_of(item, known):
                drawn.nuclei.append(item)
        elif item.object_type == "annotation":
            if item.geometry.geom_type in ("Point", "MultiPoint"):
                drawn.points.append(item)
            elif item.geometry.area > 0 and not item.is_locked and name not in OF_REGIONS:
                drawn.areas.append(item)


def _without_intensity(item: PathObject) -> PathObject:
    """Take ``Tumor: Positive``, of which thresholds have made the latter part, for ``Tumor``."""
    if item.classification is not None and is_nucleus(item):
        base = base_of(item.class_name)
        item.classification = None if base is None else PathClass.of(base)
    return item


def _said_of(item: PathObject, known: Sequence[str]) -> str | None:
    """Return the class that a classifier, or else the model, has given to a nucleus."""
    said = {
        name.removeprefix(PROBABILITY_NAME): value
        for name, value in item.measurements.items()
        if name.startswith(PROBABILITY_NAME)
    }
    if said:
        return max(said, key=lambda name: said[name])
    return item.class_name if item.class_name in known else None


class _Places:
    """The nuclei of a result by id and by place; memory: 16 bytes of anchor for each."""

    def __init__(self, result: SlideResult) -> None:
        self._result = result
        self._anchors = result.anchors
        self._tree = KDTree(self._anchors) if len(self._anchors) else None

    def rows_of(self, items: Sequence[PathObject]) -> list[int]:
        """Return the rows of nuclei by id, else by place; -1 for none."""
        if not items:
            return []
        ids = pa.array([item.id for item in items], pa.string())
        there = self._result.table.column("id").combine_chunks()
        rows = pc.fill_null(pc.index_in(ids, there, skip_nulls=True), -1).to_numpy().astype(int)
        lost = np.flatnonzero(rows < 0).tolist()
        inside = [shapely.point_on_surface(nucleus_outline(items[k])) for k in lost]
        rows[lost] = self.under(shapely.get_coordinates(inside))
        return [int(row) for row in rows]

    def under(self, points: npt.NDArray[np.float64]) -> list[int]:
        """Return the rows of the nuclei that cover points, shape (p, 2); -1 for none."""
        found = np.full(len(points), -1)
        if self._tree is None or len(points) == 0:
            return [int(row) for row in found]
        count = min(NEAREST, len(self._anchors))
        _, near = self._tree.query(points, k=[*range(1, count + 1)])
        rows, place = np.unique(near, return_inverse=True)
        polygons = polygons_of(self._result.table.take(rows.tolist(), ["geometry"]))
        covering = shapely.intersects_xy(
            polygons[place.reshape(near.shape)], points[:, :1], points[:, 1:]
        )
        hit = covering.any(axis=1)
        found[hit] = near[hit, covering[hit].argmax(axis=1)]
        return [int(row) for row in found]

    def within(self, area: shapely.Geometry) -> list[int]:
        """Return the rows of the nuclei whose anchors lie in an area."""
        area = shapely.make_valid(area)
        shapely.prepare(area)
        x, y = self._anchors.T
        return [int(row) for row in np.flatnonzero(shapely.intersects_xy(area, x, y))]
