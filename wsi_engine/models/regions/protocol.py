"""What a run asks of a model of regions: pixels in, probabilities of classes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

IGNORED = "*"
"""What the names of classes end with that are told apart but never become regions, as QuPath's
``Ignore*``."""


@dataclass(frozen=True, slots=True)
class RegionsSpec:
    """The facts about a model of regions.

    Attributes
    ----------
    name
        Name, or file without its folder.
    mpp
        Side in µm of the pixels that it takes.
    classes
        Class names, as QuPath has them, in the order of its probabilities.
    margin_px
        How far the surroundings of a pixel can change its probabilities.
    stride
        Windows begin at multiples of it, and their sides are multiples.
    """

    name: str
    mpp: float
    classes: tuple[str, ...]
    margin_px: int
    stride: int = 1

    @property
    def regions(self) -> tuple[str, ...]:
        """The classes that become regions."""
        return tuple(name for name in self.classes if not name.endswith(IGNORED))


class RegionsModel(Protocol):
    """Tells classes of tissue apart, pixel by pixel."""

    @property
    def spec(self) -> RegionsSpec:
        """The facts that a run plans by."""
        ...

    def to(self, device: str) -> Self:
        """Return the model on a device."""
        ...

    def probabilities(self, window: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return how probable each class is at each pixel.

        Parameters
        ----------
        window
            uint8, shape (height, width, 3), RGB at the model's mpp.

        Returns
        -------
        ndarray
            float32, shape (height - 2 m, width - 2 m, classes) with m the margin: the same for a
            pixel whichever window it is seen in.
        """
        ...
