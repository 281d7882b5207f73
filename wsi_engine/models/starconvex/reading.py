"""What star-convex maps say, whatever computed them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ModelError
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.starconvex.decoding import decode_maps
from wsi_engine.models.starconvex.turns import averaged_maps
from wsi_engine.models.turns import Turn
from wsi_engine.nuclei.predictions import Predictions


class StarConvexMaps:
    """The part of a star-convex model that does not depend on what runs its network.

    Attributes
    ----------
    spec
        The facts the engine plans by.
    threshold
        Lowest object probability that is reported.
    grid_px
        Model pixels per point of the output grid.
    consensus
        How far away, in grid points, a point may be to have a say in a polygon.
    """

    spec: ModelSpec
    threshold: float
    grid_px: int
    consensus: int

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Return the model as it is: it has no statistics of a slide or a tile."""
        del fields
        return self

    def with_threshold(self, threshold: float) -> Self:
        """Return the model with another threshold."""
        return cast("Self", replace(cast("Any", self), threshold=threshold))

    def settings(self) -> dict[str, float]:
        """Return the threshold, for the record of the run."""
        return {"threshold": self.threshold}

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Run the network.

        Parameters
        ----------
        batch
            uint8 (n, h, w, 3), h and w multiples of the stride.

        Returns
        -------
        numpy.ndarray
            What the network gives, float16 (n, h / grid, w / grid, 1 + rays + classes).

        Raises
        ------
        ModelError
            If a tile is not made of whole strides.
        """
        height, width = batch.shape[1:3]
        stride = self.spec.stride
        if height % stride or width % stride:
            raise ModelError(
                f"the network takes tiles whose sides are multiples of {stride} px, not "
                f"{width} x {height}: choose another tile size"
            )
        return self._predict(batch)

    def _predict(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        raise NotImplementedError

    def averaged_maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Return the mean of the maps over all eight ways to lay a batch down."""
        return averaged_maps(self.maps, batch, len(self.spec.classes))

    def object_probability(self, maps: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Return the object probability at each grid point of one tile, shape (h, w)."""
        return np.asarray(1 / (1 + np.exp(-maps[..., 0].astype(np.float32))), np.float32)

    def upright(self, maps: npt.NDArray[np.generic], turn: Turn) -> npt.NDArray[np.generic]:
        """Turn the maps of a turned batch back, and the rays of each point with them."""
        upright = turn.undo(maps)
        rays = maps.shape[-1] - 1 - len(self.spec.classes)
        order = np.arange(maps.shape[-1])
        order[1 : 1 + rays] = 1 + turn.undo_rays(rays)
        return np.asarray(upright[..., order])

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile into polygons; see `decode_maps`."""
        return decode_maps(
            maps,
            threshold=self.threshold,
            max_overlap=self.spec.max_overlap,
            largest_px=self.spec.largest_object_px,
            classes=len(self.spec.classes),
            consensus=self.consensus,
            grid_px=self.grid_px,
        )
