"""Regions of interest that a pathologist drew in QuPath."""

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
from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.qupath.reader import read_objects

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Regions:
    """Annotations that bound the work, and those that are cut out of it.

    Attributes
    ----------
    source
        Name of the file they were read from.
    wanted
        With an area and a UUID, the smallest first. Empty where only cuts were asked for: then
        all the rest of the slide is wanted.
    excluded
        Likewise. What lies in one of them is not wanted, whatever else it lies in.
    """

    source: str
    wanted: tuple[PathObject, ...]
    excluded: tuple[PathObject, ...]

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
            In QuPath pixels, shape (n, 2).

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


def read_regions(
    path: str | Path, roi_class: Sequence[str] = (), exclude_class: Sequence[str] = ()
) -> Regions:
    """Read the annotations of a GeoJSON file that bound the work.

    Parameters
    ----------
    path
        Written by QuPath, or by anything else in its dialect. Objects that are not annotations
        are passed over; so are, with a warning, points and lines, which have no area.
    roi_class
        Classes of the annotations that are wanted; none for all that are not excluded. A class
        stands for those derived from it, too: ``Tumor`` for ``Tumor: Positive``.
    exclude_class
        Classes of the annotations that are cut out. That none has such a class is a warning:
        not every slide has its necrosis.

    Raises
    ------
    GeoJSONError
        When the file cannot be read.
    RegionError
        When no annotation is left to work in.
    """
    name = Path(path).name
    read = read_objects(path)
    for problem in read.problems:
        if problem.skipped:
            raise RegionError(f"{problem}; without it the area would be another: mend the file")
    objects = (item for top in read for item in top.flattened())
    annotations = [item for item in objects if item.object_type == "annotation"]
    excluded = [item for item in annotations if is_of_class(item.classification, exclude_class)]
    wanted = [item for item in annotations if not is_of_class(item.classification, exclude_class)]
    if roi_class:
        wanted = [item for item in wanted if is_of_class(item.classification, roi_class)]
    if exclude_class and not excluded:
        log.warning("%s: nothing is cut out: %s", name, _no_such_class(exclude_class, annotations))
    if roi_class and not wanted:
        raise RegionError(f"{name}: {_no_such_class(roi_class, annotations)}")
    if not wanted and not excluded:
        raise RegionError(f"{name} holds no annotation with an area: draw one in QuPath")
    flat = [item for item in wanted + excluded if item.geometry.area == 0]
    if flat:
        log.warning(
            "%s: %d annotations are points or lines and cannot bound a region", name, len(flat)
        )
    regions = Regions(name, _with_area(wanted), _with_area(excluded))
    if wanted and not regions.wanted:
        raise RegionError(f"{name} holds no annotation with an area: draw one in QuPath")
    return regions


def is_of_class(classification: PathClass | None, wanted: Sequence[str]) -> bool:
    """Whether a classification is one of some classes, or derived from one."""
    if classification is None:
        return False
    stems = (PathClass.of(name).names for name in wanted)
    return any(classification.names[: len(stem)] == stem for stem in stems)


def _no_such_class(wanted: Sequence[str], annotations: Sequence[PathObject]) -> str:
    there = Counter(item.class_name or "no class" for item in annotations)
    found = ", ".join(f"{name} ({count})" for name, count in sorted(there.items()))
    asked = " or ".join(repr(name) for name in wanted)
    return f"no annotation is of class {asked}; there are {found or 'no annotations'}"


def _with_area(annotations: Sequence[PathObject]) -> tuple[PathObject, ...]:
    named = [
        replace(item, id=item.id or _id_by_shape(item.geometry), children=[])
        for item in annotations
        if item.geometry.area > 0
    ]
    return tuple(sorted(named, key=lambda item: (item.geometry.area, item.id)))


def _id_by_shape(geometry: shapely.Geometry) -> str:
    return str(uuid.uuid5(ENGINE_NAMESPACE, f"region {shapely.to_wkb(geometry, hex=True)}"))


def _shapes(annotations: Sequence[PathObject]) -> npt.NDArray[np.object_]:
    return np.array([item.geometry for item in annotations], object)
