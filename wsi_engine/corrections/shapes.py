"""Whether two versions of a shape are the same, given how QuPath rounds and reorders them.

QuPath holds coordinates as float32 and writes hundredths of a pixel; it lets a ring begin
at another vertex and turn the other way. None of that is an edit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

Geometries = npt.NDArray[np.object_]
"""Shapely geometries of any type, shape (n,)."""

ROUNDING_PX = 0.01


def same_shapes(old: Geometries, new: Geometries) -> npt.NDArray[np.bool_]:
    """Say which shapes differ by no more than QuPath's rounding, pair by pair.

    Parameters
    ----------
    old, new
        Shapes in QuPath pixels, shape (n,).

    Returns
    -------
    ndarray of bool, shape (n,)
        True where no point of either border lies further from the other border than the
        rounding may have moved it. Two empty shapes are the same.
    """
    tolerance = rounding_px(old, new)
    same = shapely.equals_exact(shapely.normalize(old), shapely.normalize(new), tolerance)
    same |= shapely.is_empty(old) & shapely.is_empty(new)
    # A rounded ring may begin at another vertex, or have lost one: that takes a closer look.
    shift = np.abs(shapely.bounds(old) - shapely.bounds(new)).max(axis=1)
    doubtful = np.flatnonzero(~same & (shift <= tolerance))
    distance = shapely.hausdorff_distance(old[doubtful], new[doubtful])
    same[doubtful] = distance <= tolerance[doubtful]
    return np.asarray(same)


def rounding_px(old: Geometries, new: Geometries) -> npt.NDArray[np.float64]:
    """Return how far QuPath's rounding may move a point of each shape, in pixels, shape (n,).

    Hundredths are rounded to and, further than 65,536 px from the origin, float32 is coarser
    than that.
    """
    corners = np.abs(np.hstack([shapely.bounds(old), shapely.bounds(new)]))
    far = np.nanmax(corners, axis=1, initial=0)
    return 1.5 * (ROUNDING_PX + np.spacing(far.astype(np.float32)).astype(np.float64))


def overlaps(old: Geometries, new: Geometries) -> npt.NDArray[np.float64]:
    """Intersection over union, pair by pair, shape (n,); NaN where neither has an area."""
    old, new = (np.where(shapely.is_valid(s), s, shapely.make_valid(s)) for s in (old, new))
    shared = shapely.area(shapely.intersection(old, new))
    union = shapely.area(old) + shapely.area(new) - shared
    return np.divide(shared, union, out=np.full(len(shared), np.nan), where=union > 0)
