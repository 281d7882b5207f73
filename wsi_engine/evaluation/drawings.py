"""What was drawn in QuPath: which objects are nuclei, and in which fields all of them are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.errors import GeoJSONError
from wsi_engine.evaluation.polygons import Polygons
from wsi_engine.qupath.features import SCORE_NAME
from wsi_engine.qupath.nuclei import is_nucleus, nucleus_outline
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.regions import IGNORED

Mask = npt.NDArray[np.bool_]

_FAR_PX = 2.0**31
_Drawn = tuple[shapely.Geometry, str, float]

_POINTS = (shapely.GeometryType.POINT, shapely.GeometryType.MULTIPOINT)
# A rectangle that QuPath rounded is still one.
_RECTANGULAR = 1 - 1e-6


@dataclass(frozen=True)
class Drawing:
    """The objects of a GeoJSON file, by what they can mean. All are in its pixels.

    Attributes
    ----------
    detections
        Detections and cells.
    annotations
        Annotations that have an area.
    points
        Every point of the Points annotations.
    """

    detections: Polygons
    annotations: Polygons
    points: Polygons

    def fields(self) -> list[shapely.Geometry]:
        """Return the fields of a slide, from top to bottom.

        A field is a part of the slide in which every nucleus (or the stated kind of
        annotation) was drawn: each rectangle, which may hold no nucleus at all, and each
        annotation of another shape that holds the centres of two objects or more. An
        annotation around a rectangle only says where one has looked, and is none.
        """
        shapes = self.annotations.shapes[self._is_field]
        return sorted(shapes, key=lambda shape: (shape.bounds[1], shape.bounds[0]))

    def nuclei(self) -> Polygons:
        """Return what is drawn as a nucleus on a slide: all areas that are no fields."""
        drawn = self.annotations.take(~self._is_field & ~self._is_region)
        return self.detections.joined(drawn)

    def regions(self) -> int:
        """Count the annotations around rectangles, which are neither."""
        return int(self._is_region.sum())

    def nuclei_of_image(self, *, points: bool = False) -> Polygons:
        """Return the nuclei of an image, which is a field itself unless fields are drawn on it.

        Fields are those of a slide; but in a file without any detection a rectangle that
        holds nothing is a nucleus, drawn as its box. What lies in an annotation of class
        ``Ignore*`` is none, and such areas belong to no field.

        Parameters
        ----------
        points
            Whether points count as nuclei.
        """
        ignored = self.annotations.classes == IGNORED
        fields = self._is_field & ((self._held > 0) | (len(self.detections) > 0)) & ~ignored
        drawn = self.annotations.take(~fields & ~self._is_region & ~ignored)
        nuclei = self.detections.joined(drawn)
        if points:
            nuclei = nuclei.joined(self.points)
        field = shapely.union_all(self.annotations.shapes[fields]) if fields.any() else None
        if ignored.any():
            everywhere = shapely.box(-_FAR_PX, -_FAR_PX, _FAR_PX, _FAR_PX)
            counted = everywhere - shapely.union_all(self.annotations.shapes[ignored])
            nuclei = nuclei.within(counted)
            field = counted if field is None else field & counted
        return replace(nuclei, field=field)

    @cached_property
    def _is_field(self) -> Mask:
        return (self._is_rectangle | (self._held >= 2)) & ~self._is_region

    @cached_property
    def _is_rectangle(self) -> Mask:
        shapes = self.annotations.shapes
        left, top, right, bottom = shapely.bounds(shapes).reshape(-1, 4).T
        filled = shapely.area(shapes) >= _RECTANGULAR * (right - left) * (bottom - top)
        return np.asarray(filled, bool)

    @cached_property
    def _is_region(self) -> Mask:
        """Find the annotations that lie around a smaller rectangle."""
        shapes = self.annotations.shapes
        rectangles = shapes[self._is_rectangle]
        outer, inner = shapely.STRtree(rectangles).query(shapes, "covers")
        larger = shapely.area(shapes[outer]) * _RECTANGULAR > shapely.area(rectangles[inner])
        around = np.zeros(len(shapes), bool)
        around[outer[larger]] = True
        return around

    @cached_property
    def _held(self) -> npt.NDArray[np.int64]:
        """Count the smaller objects whose centre each annotation holds."""
        objects = self.annotations.joined(self.detections).joined(self.points)
        centres, areas = shapely.points(objects.centroids), shapely.area(objects.shapes)
        holder, held = shapely.STRtree(centres).query(self.annotations.shapes, "contains")
        return np.bincount(holder[areas[held] < areas[holder]], minlength=len(self.annotations))


def read_drawing(path: Path) -> Drawing:
    """Read a GeoJSON file of QuPath.

    Raises
    ------
    GeoJSONError
        If the file cannot be read.
    """
    detections: list[_Drawn] = []
    annotations: list[_Drawn] = []
    points: list[_Drawn] = []
    for item in _objects(path):
        shape, name = nucleus_outline(item), item.class_name or ""
        score = float(item.measurements.get(SCORE_NAME, math.nan))
        if shapely.get_type_id(shape) in _POINTS:
            points.extend((point, name, math.nan) for point in shapely.get_parts(shape))
        elif shape.area > 0 and is_nucleus(item):
            detections.append((shape, name, score))
        elif shape.area > 0 and item.object_type == "annotation":
            annotations.append((shape, name, score))
    return Drawing(_polygons(detections), _polygons(annotations), _polygons(points))


def _objects(path: Path) -> Iterator[PathObject]:
    """Yield every object of a file, nested ones after their parents.

    Raises
    ------
    GeoJSONError
        If the file, or any feature in it, cannot be read: a nucleus that is left out would
        count as background, or as found in vain.
    """
    objects = read_objects(path)
    for problem in objects.problems:
        if problem.skipped:
            raise GeoJSONError(str(problem))
    yield from chain.from_iterable(top.flattened() for top in objects)


def _polygons(objects: list[_Drawn]) -> Polygons:
    shapes = np.empty(len(objects), object)
    shapes[:] = [shape for shape, _, _ in objects]
    names = np.array([name for _, name, _ in objects], np.str_)
    scores = np.array([score for _, _, score in objects], np.float64)
    return Polygons(shapes, names, scores=None if np.isnan(scores).all() else scores)
