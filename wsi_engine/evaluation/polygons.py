"""Nuclei as polygons with the names of their classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.raster import rasterise


@dataclass(frozen=True, slots=True)
class Polygons:
    """Nuclei as polygons in pixels (corners), with the names of their classes.

    Attributes
    ----------
    shapes
        Polygons and MultiPolygons, shape (n,); points where nuclei are only pointed at.
    classes
        Empty where a nucleus has none, shape (n,).
    field
        Area in which all nuclei are known, or ``None`` for everywhere.
    scores
        How sure the method is of each, shape (n,), NaN where it is not known; ``None`` if
        none is.
    """

    shapes: npt.NDArray[np.object_]
    classes: npt.NDArray[np.str_]
    field: shapely.Geometry | None = None
    scores: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.shapes)

    def of_class(self, name: str) -> Polygons:
        """Return the nuclei of one class."""
        return self.take(self.classes == name)

    def within(self, field: shapely.Geometry) -> Polygons:
        """Return the nuclei whose centroid lies in a field."""
        shapely.prepare(field)
        x, y = self.centroids.T
        return self.take(shapely.intersects_xy(field, x, y))

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Polygons:
        """Return the nuclei at some positions, or where a mask holds."""
        scores = None if self.scores is None else self.scores[which]
        return Polygons(self.shapes[which], self.classes[which], self.field, scores)

    def joined(self, other: Polygons) -> Polygons:
        """Return these nuclei and others, in this order."""
        scores = None
        if self.scores is not None or other.scores is not None:
            scores = np.concatenate(
                [np.full(len(p), np.nan) if p.scores is None else p.scores for p in (self, other)]
            )
        return Polygons(
            np.concatenate([self.shapes, other.shapes]),
            np.concatenate([self.classes, other.classes]),
            self.field,
            scores,
        )

    def parts(self) -> Polygons:
        """Return each part of a nucleus as a nucleus, and each point as the pixel it lies in."""
        flat, owner = shapely.get_parts(self.shapes, return_index=True)
        kind = shapely.get_type_id(flat)
        pointed = kind == shapely.GeometryType.POINT
        x, y = np.floor(shapely.get_coordinates(flat[pointed])).T
        flat[pointed] = shapely.box(x, y, x + 1, y + 1)
        areas = pointed | (kind == shapely.GeometryType.POLYGON)
        owner = owner[areas]
        scores = None if self.scores is None else self.scores[owner]
        return Polygons(flat[areas], self.classes[owner], self.field, scores)

    @property
    def centroids(self) -> npt.NDArray[np.float64]:
        """Centroid of each nucleus, shape (n, 2)."""
        return np.asarray(shapely.get_coordinates(shapely.centroid(self.shapes)), np.float64)

    def draw(self, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
        """Draw the exteriors of the parts into a label image; part k has the label k + 1."""
        rings = shapely.get_exterior_ring(self.parts().shapes)
        xy, ring = shapely.get_coordinates(rings, return_index=True)
        offsets = np.searchsorted(ring, np.arange(len(rings) + 1))
        return rasterise(xy, offsets.astype(np.int64), shape)
