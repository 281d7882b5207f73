"""Polygons as flat arrays, for the kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import Polygons


@dataclass(frozen=True, slots=True)
class Outlines:
    """The rings of n polygons or multipolygons, one after the other.

    Attributes
    ----------
    xy
        Vertices, float64, shape (v, 2); rings are closed, the first vertex is repeated.
    rings
        Ring r is ``xy[rings[r]:rings[r + 1]]``; int64.
    holes
        Whether a ring is a hole; bool, one per ring.
    members
        Nucleus i has the rings from ``members[i]`` to ``members[i + 1]``, none where its
        geometry is empty; int64, shape (n + 1,).
    """

    xy: npt.NDArray[np.float64]
    rings: npt.NDArray[np.int64]
    holes: npt.NDArray[np.bool_]
    members: npt.NDArray[np.int64]

    @classmethod
    def of(cls, polygons: Polygons) -> Self:
        """Flatten shapely polygons and multipolygons, shape (n,); empty ones stay empty."""
        if len(polygons) == 0:
            nothing = np.zeros(1, np.int64)
            return cls(np.empty((0, 2)), nothing, np.empty(0, np.bool_), nothing)
        kind, xy, offsets = shapely.to_ragged_array(polygons, include_z=False)
        rings, parts = (np.asarray(o, np.int64) for o in offsets[:2])
        holes = np.ones(len(rings) - 1, np.bool_)
        holes[parts[:-1][np.diff(parts) > 0]] = False
        members = parts
        if kind == shapely.GeometryType.MULTIPOLYGON:
            members = parts[np.asarray(offsets[2], np.int64)]
        return cls(xy, rings, holes, members)

    def scaled(self, x: float, y: float) -> Self:
        """Return the outlines with their coordinates multiplied."""
        return replace(self, xy=self.xy * np.array([x, y]))

    def __len__(self) -> int:
        return len(self.members) - 1
