"""What all have in common that stands around a model: for the rest, it is that model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from wsi_engine.models.inner_network import compilation_of, with_network
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.nuclei.predictions import Predictions

if TYPE_CHECKING:
    from torch import nn

    from wsi_engine.models.compiling import Compilation


@dataclass(frozen=True)
class Wrapper:
    """A model around another, which changes nothing by itself.

    Attributes
    ----------
    model
        The model within.
    """

    model: Model

    @property
    def spec(self) -> ModelSpec:
        """The facts of the model."""
        return self.model.spec

    @property
    def weights(self) -> Any:
        """Files of weights that the model found for itself, if it says so."""
        return getattr(self.model, "weights", None)

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Return the same around the calibrated model."""
        return replace(self, model=self.model.calibrate(fields))

    def settings(self) -> dict[str, float]:
        """Return what the model found."""
        return self.model.settings()

    def to(self, device: str) -> Self:
        """Return the same around the model on a device."""
        return replace(self, model=self.model.to(device))

    def compilation(self, batch: int, side: int) -> Compilation | None:
        """Describe the model's network, if it has one that can be compiled."""
        return compilation_of(self.model, batch, side)

    def with_network(self, network: nn.Module) -> Self:
        """Return the same around the model with another network in place of its own."""
        return replace(self, model=with_network(self.model, network))

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Run the model on a batch."""
        return self.model.maps(batch)

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Decode as the model does."""
        return self.model.decode(maps)
