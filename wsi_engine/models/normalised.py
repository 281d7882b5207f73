"""Colour normalisation in front of any model: it sees every slide as one it knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from wsi_engine.models.inner_network import compilation_of, with_network
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.slide.normalisation.looks import ColourMap, Look, Method, look_of

if TYPE_CHECKING:
    from torch import nn

    from wsi_engine.models.compiling import Compilation


@dataclass(frozen=True)
class Normalised:
    """A model behind a map of colours, which is fitted once per slide.

    Attributes
    ----------
    model
        What sees the normalised pixels.
    method
        How the map is fitted.
    target
        The look that the model knows, of the same method.
    colours
        The map; ``None``, for colours as they are, until ``calibrate`` has seen the slide.
    """

    model: Model
    method: Method
    target: Look
    colours: ColourMap | None = None

    @property
    def spec(self) -> ModelSpec:
        """The facts of the model."""
        return self.model.spec

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Fit the map to the slide's tissue, and calibrate the model to what it will see.

        Raises
        ------
        SlideError
            When the tissue does not show two stains, and the method needs them.
        """
        colours = look_of(fields, self.method).towards(self.target)
        return replace(self, model=self.model.calibrate(colours(fields)), colours=colours)

    def settings(self) -> dict[str, float]:
        """Return what the model found."""
        return self.model.settings()

    def to(self, device: str) -> Self:
        """Return the model on a device."""
        return replace(self, model=self.model.to(device))

    def compilation(self, batch: int, side: int) -> Compilation | None:
        """Describe the model's network, if it has one that can be compiled."""
        return compilation_of(self.model, batch, side)

    def with_network(self, network: nn.Module) -> Self:
        """Return the model with another network in place of its own."""
        return replace(self, model=with_network(self.model, network))

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Run the model on the batch in the colours that it knows."""
        return self.model.maps(batch if self.colours is None else self.colours(batch))

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Decode as the model does."""
        return self.model.decode(maps)
