"""What the maps of a dense method say, whatever computed them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.models.dense.method import DenseMethod
from wsi_engine.models.map_model import MapModel
from wsi_engine.models.turns import Turn
from wsi_engine.nuclei.predictions import Predictions


class DenseMaps(MapModel):
    """The part of a dense model that does not depend on what runs its network.

    Its maps are the method's, 0 to 255 for 0 to 1, uint8 (n, h, w, maps).

    Attributes
    ----------
    method
        How the maps become polygons.
    """

    method: DenseMethod

    def upright(self, maps: npt.NDArray[np.generic], turn: Turn) -> npt.NDArray[np.generic]:
        """Turn the maps of a turned batch back."""
        return turn.undo(maps)

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile into polygons, as the method does."""
        return self.method.decode(np.asarray(maps, np.uint8), self.threshold)
