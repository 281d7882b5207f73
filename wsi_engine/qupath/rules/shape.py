"""Rules on shapes as they are drawn, many at a time.

QuPath 0.6 and later moves every polygon to a grid of 0.01 px with JTS's precision reducer. GEOS
is a port of JTS and has the same one: where it fails here, it fails there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.qupath.rules.geometry import as_float, rings
from wsi_engine.qupath.rules.rule import RuleTable, Severity, always, since

GRID_PX = 0.01
ELLIPSE_TOLERANCE = 0.05
"""By how much the area of an outline may differ from that of the ellipse in its box."""

Mask = npt.NDArray[np.bool_]
ShapeCheck = Callable[["Shapes"], Mask]
"""Returns which shapes are wrong, bool, shape (n,)."""

SHAPE: RuleTable[ShapeCheck] = RuleTable()


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
        """To which shape a position belongs, int64, shape (v,)."""
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
        """Which areas are valid as they are written; true for all else."""
        return _mask(shapely.is_valid(self.polygons) | ~self.is_area)

    @cached_property
    def is_doubtful(self) -> Mask:
        """Which areas the reducer may change, or fail at."""
        if self.rounded_polygons is self.polygons:
            stays_valid = self.is_valid
        else:
            stays_valid = _mask(shapely.is_valid(self.rounded_polygons) | ~self.is_area)
        is_small = ~(shapely.area(self.polygons) > GRID_PX)
        return self.is_area & (~self.is_valid | ~stays_valid | is_small)

    @cached_property
    def reduced(self) -> dict[int, shapely.Geometry | None]:
        """What QuPath's reducer makes of the doubtful areas, None where it fails."""
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
        result = np.full(len(self), None, object)
        # A ring of three positions has no area: it is left out, as the reducer leaves it out.
        ring = np.flatnonzero(self.is_area[self.ring_shapes] & (sizes >= 4))
        if len(ring) == 0:
            return result
        chosen = np.repeat(np.isin(np.arange(len(sizes)), ring), sizes)
        drawn = shapely.linearrings(
            xy[chosen], indices=np.repeat(np.arange(len(ring)), sizes[ring])
        )
        shape, part = self.ring_shapes[ring], self.ring_parts[ring]
        begins = np.flatnonzero(np.diff(shape, prepend=-1) | np.diff(part, prepend=-1))
        whole = self._part_has_exterior(ring[begins])
        stops = np.append(begins[1:], len(ring))
        if len(begins) == len(ring):
            areas = shapely.polygons(drawn)
        else:
            areas = np.array(
                [
                    shapely.Polygon(drawn[start], drawn[start + 1 : stop])
                    for start, stop in zip(begins, stops, strict=True)
                ],
                object,
            )
        owners = shape[begins][whole]
        areas = areas[whole]
        if len(np.unique(owners)) == len(owners):
            result[owners] = areas
        else:
            for owner, first, count in zip(
                *np.unique(owners, return_index=True, return_counts=True), strict=True
            ):
                several = areas[first : first + count]
                result[owner] = several[0] if count == 1 else shapely.MultiPolygon(list(several))
        return result

    def _part_has_exterior(self, first_ring: npt.NDArray[np.int64]) -> Mask:
        """Tell whether a part's first ring that was drawn is its exterior."""
        before = np.maximum(first_ring - 1, 0)
        same = (self.ring_shapes[before] == self.ring_shapes[first_ring]) & (
            self.ring_parts[before] == self.ring_parts[first_ring]
        )
        return np.asarray((first_ring == 0) | ~same)


def _parts_and_rings(geometry: dict[str, Any]) -> Iterator[tuple[int, list[Any]]]:
    if geometry["type"] == "MultiPolygon":
        for index, part in enumerate(geometry["coordinates"]):
            for ring in part:
                yield index, ring
    else:
        for ring in rings(geometry):
            yield 0, ring


def _as_array(numbers: list[Any]) -> npt.NDArray[np.float64]:
    if str in set(map(type, numbers)):
        numbers = [as_float(n) if isinstance(n, str) else n for n in numbers]
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


@SHAPE.rule(
    "polygon-invalid",
    since("0.6", Severity.ABORTS),
    "A polygon that crosses itself, has a hole outside of it, or parts that overlap, ends the "
    "import.",
    "Make polygons valid after their coordinates are rounded.",
)
def _(shapes: Shapes) -> Mask:
    return shapes.doubtful(lambda _, reduced: reduced is None)


@SHAPE.rule(
    "shape-vanishes",
    always(Severity.LOST),
    "A shape without area, or below 0.01 px, becomes an empty rectangle at (0, 0).",
    "Leave such a feature out.",
)
def _(shapes: Shapes) -> Mask:
    without_positions = np.bincount(shapes.xy_shapes, minlength=len(shapes)) == 0
    return without_positions | shapes.doubtful(lambda _, r: r is not None and r.is_empty)


@SHAPE.rule(
    "polygon-altered",
    since("0.6", Severity.CHANGED),
    "QuPath repairs this polygon: spikes go, parts that touch are joined, a ring that touches "
    "itself is split.",
    "Make polygons valid after their coordinates are rounded.",
)
def _(shapes: Shapes) -> Mask:
    def altered(index: int, reduced: shapely.Geometry | None) -> bool:
        if reduced is None or reduced.is_empty or not reduced.is_valid:
            return False
        return not shapely.equals_exact(
            shapely.normalize(reduced),
            shapely.normalize(shapely.remove_repeated_points(shapes.rounded_polygons[index])),
            tolerance=GRID_PX / 2,
        )

    return shapes.doubtful(altered)


@SHAPE.rule(
    "polygon-stays-invalid",
    since("0.6", Severity.CHANGED),
    "QuPath takes this polygon as it is, though it is invalid: its area comes out wrong.",
    "Write no hole within a hole, and no part within a part.",
)
def _(shapes: Shapes) -> Mask:
    return shapes.doubtful(lambda _, r: r is not None and not r.is_valid)


@SHAPE.rule(
    "coordinates-rounded",
    always(Severity.CHANGED),
    "QuPath keeps two decimals of a pixel.",
    "Round coordinates to two decimals, then make polygons valid.",
)
def _(shapes: Shapes) -> Mask:
    return shapes.where_any((shapes.xy != shapes.rounded_xy).any(axis=1))


@SHAPE.rule(
    "coordinates-coarse",
    always(Severity.CHANGED),
    "QuPath keeps 32-bit floats: beyond 131,072 px they are coarser than 0.01 px.",
    "Write whole or half pixels there.",
)
def _(shapes: Shapes) -> Mask:
    return shapes.where_any((as_kept(shapes.rounded_xy) != shapes.rounded_xy).any(axis=1))


@SHAPE.rule(
    "repeated-positions",
    always(Severity.ADVICE),
    "QuPath drops a position that repeats the one before it.",
    "Leave it out.",
)
def _(shapes: Shapes) -> Mask:
    repeats = np.zeros(len(shapes.xy), bool)
    repeats[1:] = (shapes.xy[1:] == shapes.xy[:-1]).all(axis=1)
    repeats[shapes.ring_offsets[:-1][np.diff(shapes.ring_offsets) > 0]] = False
    return shapes.where_any(repeats) & shapes.is_area


@SHAPE.rule(
    "outline-of-no-ellipse",
    since("0.4", Severity.CHANGED),
    "QuPath draws the ellipse in the bounding box, whatever the outline; of TMA cores always.",
    "Leave isEllipse out.",
)
def _(shapes: Shapes) -> Mask:
    found = np.zeros(len(shapes), bool)
    chosen = np.flatnonzero(shapes.is_ellipse)
    left, top, right, bottom = shapely.bounds(shapes.polygons[chosen]).reshape(-1, 4).T
    ellipse = np.pi / 4 * (right - left) * (bottom - top)
    area = shapely.area(shapes.polygons[chosen])
    found[chosen] = ~(np.abs(area - ellipse) <= ELLIPSE_TOLERANCE * ellipse)
    return found


def as_kept(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return coordinates as they come back from QuPath: 32-bit floats, written to 0.01 px."""
    with np.errstate(over="ignore"):
        kept: npt.NDArray[np.float64] = xy.astype(np.float32).astype(np.float64)
        return np.round(kept, 2)
