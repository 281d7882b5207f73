"""Geometries of the dialect, made into ROIs: one by one, or polygons in batches."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import polygon_parts
from wsi_engine.qupath.problems import Note, UnreadableError, describe
from wsi_engine.qupath.roi import FIRST_PLANE, ROI, ImagePlane

FARTHEST_PX = 2.0**31
"""No pixel of an image lies farther: its width and height are 32-bit integers."""

MAX_CROSSINGS = 5_000_000
"""Pairs of edges that may cross in a polygon that is repaired: more take hours and all memory."""

ELLIPSE_CORNERS = 100
"""Number of corners of an ellipse, as QuPath writes it."""

Array = npt.NDArray[np.float64]
_NUMBERS = {int, float}


def read_roi(member: dict[str, Any], note: Note) -> ROI:
    """Read a geometry with its plane and whether it is an ellipse.

    Raises
    ------
    UnreadableError
        If its shape cannot be told.
    """
    geometry = _geometry(member, note)
    plane = FIRST_PLANE
    if "plane" in member:
        plane = _plane(member["plane"], note)
    if "isEllipse" in member and read_truth(member["isEllipse"], "isEllipse", note):
        return ROI(ellipse_within(geometry), plane, is_ellipse=True)
    return ROI(geometry, plane)


def ellipse_within(outline: shapely.Geometry) -> shapely.Geometry:
    """Return the ellipse of a shape's bounding box: that alone counts for QuPath."""
    if outline.is_empty:
        return outline
    left, top, right, bottom = outline.bounds
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    x = (left + right) / 2 + (right - left) / 2 * np.cos(angle)
    y = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(angle)
    return shapely.Polygon(np.column_stack([x, y]))


def ellipse_on_grid(outline: shapely.Geometry) -> shapely.Geometry:
    """Return the outline of an ellipse, once it is rounded, without spikes and with its box.

    The tips of one that is but a few hundredths of a pixel wide fall on a line. Any repair would
    cut them off, and the bounding box alone counts for QuPath.
    """
    if outline.is_valid:
        return outline
    hull = shapely.convex_hull(outline)
    return hull if hull.geom_type == "Polygon" else outline


def read_truth(value: Any, name: str, note: Note) -> bool:
    """Read a truth value, also from a string."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    note(f"{name} is {describe(value)}: it is read as false")
    return False


def read_number(value: Any) -> float | None:
    """Read a number, also from a string, as Java's ``Double.parseDouble``; else none."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str) and "_" not in value:
            return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except ValueError:
        pass
    return None


class PolygonBatch:
    """Builds polygons together, several times as fast as one by one.

    It takes geometries as they were parsed and puts a shapely polygon in place of their
    coordinates. What is not a valid polygon of pairs of numbers keeps its coordinates, for
    `read_roi` to look at by itself.
    """

    def __init__(self) -> None:
        self._members: list[dict[str, Any]] = []
        self._counts: list[int] = []
        self._sizes: list[int] = []
        self._numbers: list[float] = []

    def add(self, member: Any) -> None:
        """Take a geometry, or anything that stands in place of one.

        Its lists are let go of at once: a block of them would keep the garbage collector busy
        for longer than the parsing takes.
        """
        if type(member) is not dict or member.get("type") != "Polygon":
            return
        rings = member.get("coordinates")
        numbers = _plain_numbers(rings)
        if rings and numbers:
            self._members.append(member)
            self._counts.append(len(rings))
            self._sizes += map(len, rings)
            self._numbers += numbers
            member["coordinates"] = None

    def build(self) -> None:
        """Give each geometry its polygon, or its coordinates back."""
        if not self._members:
            return
        points = np.array(self._numbers, np.float64).reshape(-1, 2)
        sizes, counts = np.array(self._sizes, np.int64), np.array(self._counts, np.int64)
        ends, last = np.cumsum(sizes), np.cumsum(counts)
        starts, first = ends - sizes, last - counts
        with np.errstate(invalid="ignore"):
            sound = np.logical_and.reduceat((np.abs(points) < FARTHEST_PX).all(axis=1), starts)
        sound &= (sizes >= 4) & (points[starts] == points[ends - 1]).all(axis=1)
        good = np.logical_and.reduceat(sound, first)
        points_of = np.repeat(np.repeat(good, counts), sizes)
        polygons = np.full(len(good), None, object)
        polygons[good] = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON,
            points[points_of],
            (_offsets(sizes[np.repeat(good, counts)]), _offsets(counts[good])),
        )
        valid = shapely.is_valid(polygons)
        for k in np.flatnonzero(~valid):
            polygons[k] = [
                points[starts[ring] : ends[ring]].tolist() for ring in range(first[k], last[k])
            ]
        for member, polygon in zip(self._members, polygons, strict=True):
            member["coordinates"] = polygon


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])


def _plain_numbers(rings: Any) -> list[float] | None:
    """Flatten rings of pairs of numbers; none if they are anything else."""
    numbers: list[float] = []
    try:
        for ring in rings:
            if type(ring) is not list or set(map(len, ring)) != {2}:
                return None
            numbers.extend(chain.from_iterable(ring))
    except TypeError:
        return None
    return numbers if set(map(type, numbers)) <= _NUMBERS else None


def _geometry(member: dict[str, Any], note: Note) -> shapely.Geometry:
    kind = member.get("type")
    if kind == "GeometryCollection":
        raise UnreadableError("its geometry is a GeometryCollection, which QuPath does not have")
    if not isinstance(kind, str) or kind not in _BUILDERS:
        raise UnreadableError(f"its geometry has the type {describe(kind)}")
    if isinstance(member.get("coordinates"), shapely.Polygon):
        return member["coordinates"]
    if not isinstance(member.get("coordinates"), list):
        raise UnreadableError("its geometry has no list of coordinates")
    return _BUILDERS[kind](member["coordinates"], note)


def _point(value: Any, note: Note) -> shapely.Geometry:
    return shapely.Point(_positions([value])[0]) if value else shapely.Point()


def _points(value: Any, note: Note) -> shapely.Geometry:
    return shapely.MultiPoint(_positions(value))


def _line(value: Any, note: Note) -> shapely.Geometry:
    points = _positions(value)
    if len(points) == 1:
        note("its line has a single point: it is doubled")
        points = np.repeat(points, 2, axis=0)
    return shapely.LineString(points)


def _lines(value: Any, note: Note) -> shapely.Geometry:
    note("it is a MultiLineString: QuPath reads it and can then no longer export")
    lines = [_line(line, note) for line in value]
    return shapely.MultiLineString([line for line in lines if not line.is_empty])


def _polygon(value: Any, note: Note) -> shapely.Geometry:
    return _sound(_rings(value, note), note)


def _polygons(value: Any, note: Note) -> shapely.Geometry:
    parts = [_rings(part, note) for part in value]
    return _sound(shapely.MultiPolygon([part for part in parts if not part.is_empty]), note)


_BUILDERS = {
    "Point": _point,
    "MultiPoint": _points,
    "LineString": _line,
    "MultiLineString": _lines,
    "Polygon": _polygon,
    "MultiPolygon": _polygons,
}


def _positions(value: Any) -> Array:
    """Read positions, shape (n, 2); a third ordinate is passed over, as QuPath does."""
    if not isinstance(value, list):
        raise UnreadableError(f"its coordinates hold {describe(value)} in place of a list")
    points = np.empty((len(value), 2))
    for k, position in enumerate(value):
        if not isinstance(position, list) or len(position) < 2:
            raise UnreadableError(f"its coordinates hold {describe(position)} in place of [x, y]")
        for axis in (0, 1):
            number = read_number(position[axis])
            if number is None:
                raise UnreadableError(f"a coordinate is {describe(position[axis])}")
            points[k, axis] = number
    with np.errstate(invalid="ignore"):
        if not (np.abs(points) < FARTHEST_PX).all():
            raise UnreadableError("its coordinates lie beyond any image, or are no numbers")
    return points


def _rings(value: Any, note: Note) -> shapely.Polygon:
    """Build a polygon, valid or not; one of no extent comes out empty."""
    if not isinstance(value, list):
        raise UnreadableError(f"its coordinates hold {describe(value)} in place of a polygon")
    rings = []
    for ring in value:
        points = _positions(ring)
        if len(points) and (points[0] != points[-1]).any():
            note("a ring is not closed, which QuPath refuses: it is closed")
            points = np.vstack([points, points[:1]])
        if len(points) < 4 or len(np.unique(points, axis=0)) < 3:
            if len(points) and (points != points[0]).any():
                note("a ring has fewer than three corners: it is left out")
            points = np.empty((0, 2))
        rings.append(points)
    if not rings or not len(rings[0]):
        return shapely.Polygon()
    return shapely.Polygon(rings[0], [ring for ring in rings[1:] if len(ring)])


def _sound(geometry: shapely.Geometry, note: Note) -> shapely.Geometry:
    if geometry.is_valid:
        return geometry
    if _tangled(geometry):
        raise UnreadableError("its outline crosses itself too often to be repaired")
    reason = shapely.is_valid_reason(geometry)
    parts = polygon_parts(shapely.make_valid(geometry))
    note(f"its outline is not valid ({reason}), which QuPath may refuse: it is repaired")
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(list(parts))


def _tangled(geometry: shapely.Geometry) -> bool:
    """Tell from a sample of its edges whether an outline crosses itself beyond repair."""
    rings = shapely.get_rings(geometry)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    within = ring[1:] == ring[:-1]
    low = np.minimum(points[1:], points[:-1])[within]
    high = np.maximum(points[1:], points[:-1])[within]
    edges = shapely.box(*low.T, *high.T)
    step = max(1, len(edges) // 1000)
    tree = shapely.STRtree(edges)
    sample = edges[::step]
    pairs = 0
    for batch in np.array_split(sample, max(1, len(sample) // 10)):
        pairs += tree.query(batch).shape[1]
        if pairs * step > MAX_CROSSINGS + 20 * len(edges):
            return True
    return False


def _plane(value: Any, note: Note) -> ImagePlane:
    if not isinstance(value, dict):
        note(f"its plane is {describe(value)}: it is put on the first")
        return FIRST_PLANE
    indices = {"c": -1, "z": 0, "t": 0}
    for name, index in value.items():
        number = read_number(index)
        if name not in indices:
            note(f"its plane has the member {describe(name)}, which QuPath refuses")
        elif number is None or not number.is_integer() or number < (-1 if name == "c" else 0):
            note(f"its plane has {name} = {describe(index)}: it is put on the first")
        else:
            indices[name] = int(number)
    return ImagePlane(**indices)
