"""Rules on shapes as they are drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.qupath.rules.rule import RuleTable, Severity, always, since, until
from wsi_engine.qupath.rules.shape_columns import GRID_PX, Mask, Shapes

ELLIPSE_TOLERANCE = 0.05
"""Share by which the area of an outline may differ from that of the ellipse in its box."""

ShapeCheck = Callable[[Shapes], Mask]
"""Returns which shapes are wrong, bool, shape (n,)."""

SHAPE: RuleTable[ShapeCheck] = RuleTable()


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
    "polygon-arrives-invalid",
    until("0.5", Severity.CHANGED),
    "Before QuPath 0.6 a polygon that is invalid arrives as it is: its area comes out wrong, and "
    "commands that combine shapes fail at it.",
    "Make polygons valid after their coordinates are rounded.",
)
def _(shapes: Shapes) -> Mask:
    return ~shapes.is_valid & ~_vanishing(shapes)


@SHAPE.rule(
    "shape-vanishes",
    always(Severity.LOST),
    "A shape without area, or below 0.01 px, becomes an empty rectangle at (0, 0).",
    "Leave such a feature out.",
)
def _(shapes: Shapes) -> Mask:
    without_positions = np.bincount(shapes.xy_shapes, minlength=len(shapes)) == 0
    return without_positions | _vanishing(shapes)


def _vanishing(shapes: Shapes) -> Mask:
    return shapes.doubtful(lambda _, reduced: reduced is not None and reduced.is_empty)


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
            shapely.normalize(without_repeats(shapes.rounded_polygons[index])),
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


def without_repeats(area: shapely.Geometry) -> shapely.Geometry:
    """Drop positions that repeat the one before; a ring of one point stays, as GEOS has none."""
    try:
        return shapely.remove_repeated_points(area)
    except shapely.GEOSException:
        return area


def as_kept(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return coordinates as they come back from QuPath: 32-bit floats, written to 0.01 px."""
    with np.errstate(over="ignore"):
        kept: npt.NDArray[np.float64] = xy.astype(np.float32).astype(np.float64)
        return np.round(kept, 2)
