"""What the models have in common whose networks answer in maps, whatever computes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ModelError
from wsi_engine.models.protocol import ModelSpec


def require_whole_strides(batch: npt.NDArray[np.uint8], spec: ModelSpec) -> None:
    """Raise `ModelError` unless the tiles of a batch, (n, h, w, 3), are made of whole strides."""
    height, width = batch.shape[1:3]
    if height % spec.stride or width % spec.stride:
        raise ModelError(
            f"{spec.name} takes tiles whose sides are multiples of {spec.stride} px, not "
            f"{width} x {height}: choose another tile size"
        )


class MapModel:
    """The part of a model, a dataclass, that its maps and its threshold make up.

    Attributes
    ----------
    spec
        The facts the engine plans by.
    threshold
        Lowest probability that is reported.
    """

    spec: ModelSpec
    threshold: float

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

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Run the network.

        Parameters
        ----------
        batch
            uint8 (n, h, w, 3), h and w multiples of the stride.

        Returns
        -------
        numpy.ndarray
            Maps, channels last; what `decode` takes one tile of.

        Raises
        ------
        ModelError
            If a tile is not made of whole strides, or the network cannot be run.
        """
        require_whole_strides(batch, self.spec)
        return self._predict(batch)

    def _predict(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        raise NotImplementedError
