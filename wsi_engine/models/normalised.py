"""Colour normalisation in front of any model: it sees every slide as one it knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from wsi_engine.models.wrapper import Wrapper
from wsi_engine.slide.normalisation.looks import ColourMap, Look, look_of
from wsi_engine.slide.normalisation.methods import Method


@dataclass(frozen=True)
class Normalised(Wrapper):
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

    method: Method
    target: Look
    colours: ColourMap | None = None

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Fit the map to the slide's tissue, and calibrate the model to what it will see.

        Raises
        ------
        SlideError
            When the tissue does not show two stains, and the method needs them.
        """
        colours = look_of(fields, self.method).towards(self.target)
        return replace(self, model=self.model.calibrate(colours(fields)), colours=colours)

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Run the model on the batch in the colours that it knows."""
        return self.model.maps(batch if self.colours is None else self.colours(batch))
