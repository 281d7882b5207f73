"""What a region is in a QuPath file, and which regions bound the work.

An annotation is one, and so is a TMA core, if it has an area; so is a tile where a file holds
neither. Its id is its own, else that of its place, which is the same wherever the file is read and
wherever in the file it stands.
"""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.errors import RegionError
from wsi_engine.nuclei.identity import ENGINE_NAMESPACE
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.problems import Problem
from wsi_engine.qupath.reader import iter_objects

log = logging.getLogger(__name__)

IGNORED = "Ignore*"
"""QuPath's own class of areas in which nothing counts."""


@dataclass(frozen=True)
class Regions:
    """Regions that bound the work, and those that are cut out of it.

    Attributes
    ----------
    source
        Name of the file they were read from.
    wanted
        Regions with an area and a UUID, the smallest first. Empty where only cuts were asked
        for: then all the rest of the slide is wanted.
    excluded
        Regions likewise. What lies in one of them is not wanted, whatever else it lies in.
    missing
        Wanted cores of a tissue microarray that hold no tissue: nothing is looked for in them.
    """

    source: str
    wanted: tuple[PathObject, ...]
    excluded: tuple[PathObject, ...]
    missing: tuple[PathObject, ...] = ()

    def within(self, slide: shapely.Geometry) -> shapely.Geometry:
        """Return the part of a slide that is wanted, in QuPath pixels.

        Raises
        ------
        RegionError
            When there is none.
        """
        area = slide
        if self.wanted:
            area = shapely.intersection(slide, shapely.union_all(_shapes(self.wanted)))
            if area.area == 0:
                _, _, width, height = slide.bounds
                raise RegionError(
                    f"{self.source}: the region lies outside the slide ({width:g} x {height:g} px)"
                )
        area = shapely.difference(area, shapely.union_all(_shapes(self.excluded)))
        if area.area == 0:
            raise RegionError(f"{self.source}: the excluded areas leave nothing to work on")
        return area

    def holding(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Find the smallest of the wanted annotations that holds each point.

        Parameters
        ----------
        points
            Positions in QuPath pixels, float64, shape (n, 2).

        Returns
        -------
        ndarray of int64, shape (n,)
            Index into ``wanted``, -1 where none holds the point.
        """
        held = np.full(len(points), -1)
        if not self.wanted or len(points) == 0:
            return held
        of_point, of_region = self._boxes.query(shapely.points(points))
        for k in np.unique(of_region):
            near = of_point[of_region == k]
            near = near[held[near] < 0]
            inside = shapely.intersects_xy(self.wanted[k].geometry, *points[near].T)
            held[near[inside]] = k
        return held

    @cached_property
    def _boxes(self) -> shapely.STRtree:
        shapes = _shapes(self.wanted)
        shapely.prepare(shapes)
        return shapely.STRtree(shapely.box(*shapely.bounds(shapes).T))


def read_annotations(
    path: str | Path, problems: list[Problem] | None = None
) -> dict[int, PathObject]:
    """Read the regions of a GeoJSON file: all annotations and TMA cores that have an area.

    Those nested in others are regions, too, each for itself. Points and lines are passed over
    with a warning, all other objects without. Tiles are regions where there is nothing else.

    Parameters
    ----------
    path
        Written by QuPath, or by anything else in its dialect.
    problems
        Takes what could not be read, or only by guessing.

    Returns
    -------
    dict
        Regions by their number among the objects of their kind, from 1, in their order. Each
        has an id: its own, or else one that its shape gives. Of several with one shape and no
        id the first has that of the shape, and each other one that follows from it.

    Raises
    ------
    GeoJSONError
        When the file cannot be read.
    """
    annotations = _annotations(path, problems)
    areas = {k: item for k, item in enumerate(annotations, 1) if item.geometry.area > 0}
    if len(areas) < len(annotations):
        log.warning(
            "%s: %d annotations are points or lines, which have no area: they are passed over",
            Path(path).name,
            len(annotations) - len(areas),
        )
    taken = {item.id for item in areas.values()}
    for number, item in areas.items():
        identity = item.id
        if identity is None:
            identity = _id_by_shape(item.geometry)
            while identity in taken:
                identity = str(uuid.uuid5(ENGINE_NAMESPACE, f"region {identity}"))
            taken.add(identity)
        areas[number] = replace(item, id=identity, children=[])
    return areas


def read_bounds_of_work(
    path: str | Path, roi_class: Sequence[str] = (), exclude_class: Sequence[str] = ()
) -> Regions:
    """Read which regions of a GeoJSON file bound the work, and which are cut out of it.

    Parameters
    ----------
    path
        File of regions, as for `read_annotations`.
    roi_class
        Classes of the annotations that are wanted; none for all that are not excluded. A class
        stands for those derived from it, too: ``Tumor`` for ``Tumor: Positive``.
    exclude_class
        Classes of the annotations that are cut out, as those of `IGNORED` are unless they are
        wanted. That none has such a class is a warning: not every slide has its necrosis.

    Raises
    ------
    GeoJSONError
        When the file cannot be read.
    RegionError
        When no annotation is left to work in.
    """
    name = Path(path).name
    problems: list[Problem] = []
    annotations = [*read_annotations(path, problems).values()]
    for problem in problems:
        if problem.skipped:
            raise RegionError(f"{problem}; without it the area would be another: mend the file")
    return choose_bounds_of_work(annotations, name, roi_class, exclude_class)


def choose_bounds_of_work(
    annotations: Sequence[PathObject],
    source: str,
    roi_class: Sequence[str] = (),
    exclude_class: Sequence[str] = (),
) -> Regions:
    """Say which regions bound the work, and which are cut out of it.

    Parameters
    ----------
    annotations
        Regions as `read_annotations` gives them.
    source
        What errors call the place that they come from.
    roi_class, exclude_class
        As in `read_bounds_of_work`.

    Raises
    ------
    RegionError
        When none is left to work in.
    """
    cut_out = [*exclude_class, *(() if IGNORED in roi_class else (IGNORED,))]
    excluded = [item for item in annotations if item.is_of_class(cut_out)]
    chosen = [item for item in annotations if not item.is_of_class(cut_out)]
    if roi_class:
        chosen = [item for item in chosen if item.is_of_class(roi_class)]
    wanted = [item for item in chosen if not item.is_missing]
    missing = [item for item in chosen if item.is_missing]
    if exclude_class and not any(item.is_of_class(exclude_class) for item in excluded):
        log.warning(
            "%s: nothing is cut out: %s", source, _no_such_class(exclude_class, annotations)
        )
    if missing and not wanted:
        raise RegionError(f"{source}: every core is marked as missing: give those that hold tissue")
    if roi_class and not wanted:
        raise RegionError(f"{source}: {_no_such_class(roi_class, annotations)}")
    if not wanted and not excluded:
        raise RegionError(f"{source} holds no annotation with an area: draw one in QuPath")
    return Regions(source, *map(_smallest_first, (wanted, excluded, missing)))


def _annotations(path: str | Path, problems: list[Problem] | None) -> list[PathObject]:
    """Read annotations and cores; tiles, such as other programs write, where there are none."""
    drawn: list[PathObject] = []
    tiles: list[PathObject] = []
    for top in iter_objects(path, problems=problems):
        for item in top.flattened():
            if item.object_type in ("annotation", "tmaCore"):
                drawn.append(item)
                tiles.clear()
            elif item.object_type == "tile" and not drawn:
                tiles.append(item)
    return drawn or tiles


def _no_such_class(wanted: Sequence[str], annotations: Sequence[PathObject]) -> str:
    there = Counter(item.class_name or "no class" for item in annotations)
    found = ", ".join(f"{name} ({count})" for name, count in sorted(there.items()))
    asked = " or ".join(repr(name) for name in wanted)
    there_are = f"there are {found}" if found else "there are no annotations with one"
    return f"no annotation with an area is of class {asked}; {there_are}"


def _smallest_first(annotations: Sequence[PathObject]) -> tuple[PathObject, ...]:
    return tuple(sorted(annotations, key=lambda item: (item.geometry.area, item.id)))


def _id_by_shape(geometry: shapely.Geometry) -> str:
    return str(uuid.uuid5(ENGINE_NAMESPACE, f"region {shapely.to_wkb(geometry, hex=True)}"))


def _shapes(annotations: Sequence[PathObject]) -> npt.NDArray[np.object_]:
    return np.array([item.geometry for item in annotations], object)
