"""Geometries as columns: rules on shapes look at many at a time.

QuPath 0.6 and later moves every polygon to a grid of 0.01 px with JTS's precision reducer. GEOS
is a port of JTS and has the same one: where it fails here, it fails there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.qupath.rules.geometry import as_float, rings

GRID_PX = 0.01

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shapes:
    """Readable geometries as columns.

    Attributes
    ----------
    xy
        All positions, float64, shape (v, 2), in QuPath pixels.
    ring_offsets
        Ring k (or line, or set of points) is ``xy[ring_offsets[k]:ring_offsets[k + 1]]``.
    ring_shapes
        To which shape a ring belongs, int64, shape (r,).
    ring_parts
        To which part of its shape a ring belongs; its first ring there is the exterior.
    is_area, is_ellipse
        bool, shape (n,).
    """

    xy: npt.NDArray[np.float64]
    ring_offsets: npt.NDArray[np.int64]
    ring_shapes: npt.NDArray[np.int64]
    ring_parts: npt.NDArray[np.int64]
    is_area: Mask
    is_ellipse: Mask

    @classmethod
    def of(cls, geometries: Sequence[dict[str, Any]], is_ellipse: Sequence[bool]) -> Shapes:
        """Gather geometries that are readable, see `READABILITY`."""
        numbers: list[Any] = []
        lengths, owners, parts = [0], [], []
        for shape, geometry in enumerate(geometries):
            for part, ring in _parts_and_rings(geometry):
                numbers.extend(chain.from_iterable([position[:2] for position in ring]))
                lengths.append(len(ring))
                owners.append(shape)
                parts.append(part)
        return cls(
            _as_array(numbers).reshape(-1, 2),
            np.cumsum(lengths),
            np.array(owners, np.int64),
            np.array(parts, np.int64),
            np.array([g["type"] in ("Polygon", "MultiPolygon") for g in geometries], bool),
            np.array(is_ellipse, bool),
        )

    def __len__(self) -> int:
        return len(self.is_area)

    @cached_property
    def xy_shapes(self) -> npt.NDArray[np.int64]:
        """Index of the shape to which a position belongs, int64, shape (v,)."""
        return np.repeat(self.ring_shapes, np.diff(self.ring_offsets))

    def where_any(self, positions: npt.NDArray[np.bool_]) -> Mask:
        """Return the shapes that hold any of the marked positions, shape (v,)."""
        found = np.zeros(len(self), bool)
        found[self.xy_shapes[positions]] = True
        return found

    @cached_property
    def rounded_xy(self) -> npt.NDArray[np.float64]:
        """The positions to 0.01 px, the nearest float64 to the decimal number."""
        return np.round(self.xy, 2)

    @cached_property
    def polygons(self) -> npt.NDArray[np.object_]:
        """The areas as they are written, None for others and for those without a ring."""
        return self._polygons(self.xy)

    @cached_property
    def rounded_polygons(self) -> npt.NDArray[np.object_]:
        """The areas with every position rounded by itself."""
        if np.array_equal(self.xy, self.rounded_xy):
            return self.polygons
        return self._polygons(self.rounded_xy)

    @cached_property
    def is_valid(self) -> Mask:
        """Mask of the areas that are valid as they are written; true for all else."""
        return _mask(shapely.is_valid(self.polygons) | ~self.is_area)

    @cached_property
    def is_doubtful(self) -> Mask:
        """Mask of the areas that the reducer may change, or fail at."""
        if self.rounded_polygons is self.polygons:
            stays_valid = self.is_valid
        else:
            stays_valid = _mask(shapely.is_valid(self.rounded_polygons) | ~self.is_area)
        is_small = ~(shapely.area(self.polygons) > GRID_PX)
        return self.is_area & (~self.is_valid | ~stays_valid | is_small)

    @cached_property
    def reduced(self) -> dict[int, shapely.Geometry | None]:
        """The doubtful areas as QuPath's reducer leaves them, None where it fails."""
        return {int(k): _reduced(self.polygons[k]) for k in np.flatnonzero(self.is_doubtful)}

    def doubtful(self, wrong: Callable[[int, shapely.Geometry | None], bool]) -> Mask:
        """Return the doubtful shapes of which the index and the reduced shape are wrong."""
        found = np.zeros(len(self), bool)
        found[[k for k, reduced in self.reduced.items() if wrong(k, reduced)]] = True
        return found

    def described(self, index: int) -> str:
        """Return what is wrong with the validity of a shape, or else where it lies."""
        area = self.polygons[index]
        if area is not None and not self.is_valid[index]:
            return str(shapely.is_valid_reason(area))
        own = np.flatnonzero(self.xy_shapes == index)
        return "at ({:g}, {:g})".format(*self.xy[own[0]]) if len(own) else "without positions"

    def _polygons(self, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
        sizes = np.diff(self.ring_offsets)
        # A ring of three positions has no area: it is left out, as the reducer leaves it out.
        drawable = self.is_area[self.ring_shapes] & (sizes >= 4)
        drawn = np.full(len(sizes), None, object)
        drawn[drawable] = shapely.linearrings(
            xy[np.repeat(drawable, sizes)],
            indices=np.repeat(np.arange(drawable.sum()), sizes[drawable]),
        )
        is_simple = np.bincount(self.ring_shapes, minlength=len(self)) == 1
        simple = drawable & is_simple[self.ring_shapes]
        areas = np.full(len(self), None, object)
        areas[self.ring_shapes[simple]] = shapely.polygons(drawn[simple])
        for shape in np.flatnonzero(self.is_area & ~is_simple):
            own = slice(*np.searchsorted(self.ring_shapes, [shape, shape + 1]))
            areas[shape] = _assembled(drawn[own], self.ring_parts[own])
        return areas


def _assembled(
    rings: npt.NDArray[np.object_], parts: npt.NDArray[np.int64]
) -> shapely.Geometry | None:
    """Make an area of its rings; those that could not be drawn are None."""
    polygons = []
    for _, part in groupby(zip(parts, rings, strict=True), key=lambda pair: pair[0]):
        shell, *holes = (ring for _, ring in part)
        if shell is not None:
            polygons.append(shapely.Polygon(shell, [hole for hole in holes if hole is not None]))
    if len(polygons) < 2:
        return polygons[0] if polygons else None
    return shapely.MultiPolygon(polygons)


def _parts_and_rings(geometry: dict[str, Any]) -> Iterator[tuple[int, list[Any]]]:
    if geometry["type"] == "MultiPolygon":
        for index, part in enumerate(geometry["coordinates"]):
            for ring in part:
                yield index, ring
    else:
        for ring in rings(geometry):
            yield 0, ring


def _as_array(numbers: list[Any]) -> npt.NDArray[np.float64]:
    if set(map(type, numbers)) - {int, float}:
        numbers = list(map(as_float, numbers))
    return np.array(numbers, np.float64)


def _mask(values: Any) -> Mask:
    return np.asarray(values, bool)


def _reduced(area: shapely.Geometry | None) -> shapely.Geometry | None:
    if area is None:
        return shapely.Polygon()
    try:
        return shapely.set_precision(area, GRID_PX)
    except shapely.GEOSException:
        return None
