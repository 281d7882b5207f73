"""Whether two lists of objects say the same."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import shapely

TOLERANCE_PX = 0.0101
"""Coordinates are written to 0.01 px."""


def assert_same_objects(before, after, *, tolerance=TOLERANCE_PX):
    """Compare every field; geometries by their distance, ids where there was one."""
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        for field in fields(old):
            was, now = getattr(old, field.name), getattr(new, field.name)
            if field.name in ("roi", "nucleus"):
                assert_same_roi(was, now, tolerance)
            elif field.name == "children":
                assert_same_objects(was, now, tolerance=tolerance)
            elif field.name == "measurements":
                assert list(was) == list(now)
                for a, b in zip(was.values(), now.values(), strict=True):
                    assert np.float32(a) == np.float32(b) or (math.isnan(a) and math.isnan(b))
            elif field.name != "id" or was is not None:
                assert was == now, field.name


def assert_same_roi(was, now, tolerance):
    assert (was is None) == (now is None)
    if was is None:
        return
    assert (was.plane, was.is_ellipse) == (now.plane, now.is_ellipse)
    assert was.geometry.geom_type == now.geometry.geom_type
    assert was.geometry.is_empty == now.geometry.is_empty
    if not was.geometry.is_empty:
        assert shapely.hausdorff_distance(was.geometry, now.geometry) < tolerance
    if was.geometry.area:
        borders = was.geometry.boundary, now.geometry.boundary
        assert shapely.hausdorff_distance(*borders) < tolerance
