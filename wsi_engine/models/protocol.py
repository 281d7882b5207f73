"""What the engine asks of a model: pixels in, maps out; maps in, polygons out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.predictions import Predictions

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The facts about a model that the engine plans by.

    Attributes
    ----------
    mpp
        Side in µm of the pixels that the model takes.
    stride
        Total stride of the network: tile origins are multiples of it, so that the pooling
        grids of neighbouring tiles agree.
    receptive_radius_px
        How far a pixel's surroundings can change its prediction.
    largest_object_px
        Longest side of the bounding box of an object that the model reports.
    classes
        Class names by index; empty where the model does not classify.
    max_overlap
        Share of the smaller of two nuclei that may lie in the other. Above it, two tiles
        saw one nucleus.
    embedded
        Whether the weights (if any) come with the package.
    reach_px
        How far from its anchor a nucleus can extend; ``largest_object_px`` if not stated.
    """

    name: str
    summary: str
    mpp: float
    stride: int
    receptive_radius_px: int
    largest_object_px: int
    classes: tuple[str, ...]
    licence: str
    embedded: bool
    max_overlap: float = 0.3
    reach_px: int | None = None

    @property
    def halo_px(self) -> int:
        """Context that a tile reads around its core, a multiple of the stride."""
        reach = self.largest_object_px if self.reach_px is None else self.reach_px
        needed = self.receptive_radius_px + reach
        return -(-needed // self.stride) * self.stride


class Model(Protocol):
    """A nucleus model. Instances are used by many threads and must not change in use."""

    @property
    def spec(self) -> ModelSpec:
        """The facts the engine plans by."""
        ...

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Return the model with its slide-wide statistics set.

        Parameters
        ----------
        fields
            Tissue of this slide at the model's mpp, shape (n, size, size, 3), chosen without
            regard to the tiling. Called once per slide, so no threshold is ever a tile's own.
        """
        ...

    def settings(self) -> dict[str, float]:
        """Return what ``calibrate`` found, for the record of the run."""
        ...

    def to(self, device: torch.device) -> Self:
        """Return the model on a device, ready for ``maps``."""
        ...

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Run the model on a batch.

        Parameters
        ----------
        batch
            uint8, shape (n, height, width, 3).

        Returns
        -------
        numpy.ndarray
            On the host, shape (n, height / k, width / k, ...), k a whole number that divides
            the stride.
        """
        ...

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile, ``maps(batch)[i]``, or a part of them into polygons."""
        ...
