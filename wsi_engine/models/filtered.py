"""Leaving out what is no nucleus by its size, its shape or its score, behind any model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.models.wrapper import Wrapper
from wsi_engine.nuclei.polygons import polygons_from_rings, simplified_on_grid
from wsi_engine.nuclei.predictions import Predictions


@dataclass(frozen=True)
class Filtered(Wrapper):
    """A model of whose nuclei those stay that are within limits, each judged by itself.

    Sizes and shapes are those of outlines as they are written: simplified.

    Attributes
    ----------
    min_area, max_area
        In µm²; ``None`` for no limit.
    min_circularity
        4π area / perimeter², 1 for a disc.
    min_score
        That of the model, or the mean of those that vote.
    simplify_um
        How far simplification may move a border.
    mpp
        Side in µm of the pixels that the model sees; ``None`` for exactly those of its spec.
    """

    min_area: float | None = None
    max_area: float | None = None
    min_circularity: float | None = None
    min_score: float | None = None
    simplify_um: float = 0.0
    mpp: float | None = None

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Decode as the model does, and leave out what is beyond the limits."""
        found = self.model.decode(maps)
        if self.min_score is not None:
            found = found.where(found.scores >= self.min_score)
        if len(found) == 0 or (self.min_area, self.max_area, self.min_circularity) == (None,) * 3:
            return found
        rings = polygons_from_rings(found.xy, found.offsets)
        written, wanted = simplified_on_grid(rings, self.simplify_um / self._side_um)
        wanted[wanted] = self._within_limits(written)
        return found.where(wanted)

    @property
    def _side_um(self) -> float:
        return self.spec.mpp if self.mpp is None else self.mpp

    def _within_limits(self, polygons: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
        area = shapely.area(polygons)
        area_um2, perimeter = area * self._side_um**2, shapely.length(polygons)
        good = np.ones(len(polygons), bool)
        if self.min_area is not None:
            good &= area_um2 >= self.min_area
        if self.max_area is not None:
            good &= area_um2 <= self.max_area
        if self.min_circularity is not None:
            good &= 4 * math.pi * area >= self.min_circularity * perimeter**2
        return good
