"""From the shapes of a file to objects that QuPath takes: placed, valid, named."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.errors import ConversionError, reason_for
from wsi_engine.nuclei.identity import ENGINE_NAMESPACE
from wsi_engine.nuclei.measure.groups import measured_alone
from wsi_engine.nuclei.measure.shape import QUPATH_NAMES
from wsi_engine.nuclei.polygons import DECIMALS, Polygons, polygon_parts, simplified_on_grid
from wsi_engine.qupath.nuclei import separate_parts
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.roi import ROI
from wsi_engine.slide.frames import Mpp

OBJECTS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the pixels of a file lie on the slide.

    Attributes
    ----------
    scale
        Full-resolution pixels per pixel of the file.
    origin
        Place of the file's (0, 0), in QuPath pixels (x, y).
    """

    scale: float = 1.0
    origin: tuple[float, float] = (0.0, 0.0)

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return self.scale == 1 and self.origin == (0, 0)

    def __call__(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Convert points, shape (n, 2), from pixels of the file to QuPath pixels."""
        return points * self.scale + np.array(self.origin)


class Finishing:
    """An iterator that places objects, makes them valid on the 0.01 px grid, names, measures.

    Parameters
    ----------
    objects
        Objects in pixels of the file.
    placement
        Place of the file on the slide.
    namespace
        Namespace for the ids of objects that have none, see `namespace_of_file`.
    mpp
        Pixel size in µm: detections then get QuPath's measurements of shape.
    keep_shapes
        Shapes are where they belong and for the writer to judge: name and measure only.

    Attributes
    ----------
    count
        Objects, and children of objects, that came out so far.
    left_out
        Objects that had no area left.
    divided
        Detections that had several parts that do not touch: each part is one of its own.
    """

    def __init__(
        self,
        objects: Iterable[PathObject],
        placement: Placement,
        namespace: uuid.UUID,
        mpp: float | None = None,
        *,
        keep_shapes: bool = False,
    ) -> None:
        self.count = 0
        self.left_out = 0
        self.divided = 0
        self._objects = iter(objects)
        self._placement = placement
        self._namespace = namespace
        self._mpp = mpp
        self._keep_shapes = keep_shapes
        self._named = 0

    def __iter__(self) -> Iterator[PathObject]:
        while group := list(islice(self._objects, OBJECTS_AT_ONCE)):
            yield from self._finished(group)

    def _finished(self, group: list[PathObject]) -> list[PathObject]:
        if not self._keep_shapes:
            group = [part for item in group for part in self._parts(item)]
        shapes, kept = self._placed([item.roi for item in group])
        self.left_out += int((~kept).sum())
        binary = shapely.to_wkb(shapes)
        finished = []
        for k in np.flatnonzero(kept).tolist():
            item = group[k]
            roi = None if item.roi is None else replace(item.roi, geometry=shapes[k])
            finished.append(
                replace(
                    item,
                    roi=roi,
                    nucleus=self._nucleus(item.nucleus),
                    id=item.id or self._name(binary[k]),
                    children=self._finished(item.children) if item.children else [],
                )
            )
        if self._mpp is not None:
            _measure(finished, self._mpp)
        self.count += len(finished)
        return finished

    def _parts(self, item: PathObject) -> list[PathObject]:
        """Take a detection apart; the largest part keeps its id, none what was measured of all."""
        if item.object_type != "detection" or item.roi is None:
            return [item]
        shape = item.roi.geometry
        if not shape.is_valid and (areas := polygon_parts(shapely.make_valid(shape))):
            shape = areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)
        parts = separate_parts(shape)
        whole = replace(item, roi=replace(item.roi, geometry=parts[0]))
        if len(parts) == 1:
            return [whole]
        self.divided += 1
        return [
            replace(
                item,
                roi=replace(item.roi, geometry=part),
                id=item.id if k == 0 else None,
                measurements={},
                children=item.children if k == 0 else [],
            )
            for k, part in enumerate(parts)
        ]

    def _nucleus(self, nucleus: ROI | None) -> ROI | None:
        if nucleus is None:
            return None
        shapes, kept = self._placed([nucleus])
        return replace(nucleus, geometry=shapes[0]) if kept[0] else None

    def _placed(self, rois: list[ROI | None]) -> tuple[Polygons, npt.NDArray[np.bool_]]:
        """Return shapes in their place, and which of them are left."""
        shapes = np.array([None if roi is None else roi.geometry for roi in rois], object)
        if self._keep_shapes:
            return shapes, np.ones(len(shapes), np.bool_)
        if not self._placement.is_identity:
            shapes = shapely.transform(shapes, self._placement)
        return _valid(shapes)

    def _name(self, binary: bytes | None) -> str:
        """Name by file, place in it, and shape."""
        self._named += 1
        digest = hashlib.sha256(binary or b"").hexdigest()
        return str(uuid.uuid5(self._namespace, f"{self._named}/{digest}"))


def namespace_of_file(path: Path) -> uuid.UUID:
    """Return the namespace of ids of what one file holds: the same for the same bytes."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ConversionError(f"{path}: no such file") from None
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {reason_for(error)}") from None
    return uuid.uuid5(ENGINE_NAMESPACE, f"converted/{digest}")


def _valid(shapes: Polygons) -> tuple[Polygons, npt.NDArray[np.bool_]]:
    """Round and repair; say which shapes are left. No shape at all is fine."""
    shapes = shapes.copy()
    kept = np.ones(len(shapes), np.bool_)
    types = shapely.get_type_id(shapes)
    areas = np.flatnonzero(types == shapely.GeometryType.POLYGON)
    whole = areas[~shapely.is_empty(shapes[areas])]
    kept[areas] = False
    polygons, settling = simplified_on_grid(shapes[whole], 0.0)
    shapes[whole[settling]] = polygons
    kept[whole[settling]] = True
    for k in np.flatnonzero((types >= 0) & (types != shapely.GeometryType.POLYGON)).tolist():
        shapes[k] = _rounded(shapes[k])
        kept[k] = not shapes[k].is_empty
    return shapes, kept


def _rounded(shape: shapely.Geometry) -> shapely.Geometry:
    rounded = shapely.transform(shape, lambda points: np.round(points, DECIMALS))
    if rounded.is_valid or rounded.area == 0:
        return rounded
    repaired = shapely.set_precision(shapely.make_valid(rounded), 10.0**-DECIMALS)
    parts = polygon_parts(repaired)
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _measure(objects: list[PathObject], mpp: float) -> None:
    measured = [
        item
        for item in objects
        if item.object_type == "detection" and item.geometry.geom_type == "Polygon"
    ]
    shapes = np.array([item.geometry for item in measured], object)
    values = measured_alone(shapes, QUPATH_NAMES, Mpp(mpp, mpp))
    for name, column in zip(QUPATH_NAMES, values.T, strict=True):
        # By its shortest text, so that single precision brings no digits of its own.
        for item, value in zip(measured, column.astype(str).astype(float).tolist(), strict=True):
            item.measurements[name] = value
