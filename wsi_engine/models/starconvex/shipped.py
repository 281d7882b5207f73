"""The star-convex networks that come with the package: quantised on the processor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import numpy.typing as npt

from wsi_engine.models.devices import CPU
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.models.quantised import QuantisedNetwork, is_usable
from wsi_engine.models.starconvex.decoding import GRID_PX
from wsi_engine.models.starconvex.reading import StarConvexMaps
from wsi_engine.models.starconvex.spec import DEFAULT, ShippedNetwork
from wsi_engine.slide.normalisation.methods import SplitDab

if TYPE_CHECKING:
    from wsi_engine.models.starconvex.model import StarConvexModel


@dataclass(frozen=True)
class QuantisedStarConvex(StarConvexMaps):
    """A shipped network in whole numbers, on the processor; on a GPU it is torch's.

    ``benchmarks/model.md`` says how far the nuclei of the two differ.
    """

    shipped: ShippedNetwork
    network: QuantisedNetwork
    spec: ModelSpec
    threshold: float
    consensus: int
    largest_density: float | None
    grid_px: int = GRID_PX
    fading: float = 1.0
    dab: SplitDab = "auto"
    splits_dab: bool = False

    def to(self, device: str) -> Self:
        """Return the model on a device."""
        if device == CPU:
            return self
        kept = ("threshold", "fading", "dab", "splits_dab")
        same = replace(_by_torch(self.shipped), **{name: getattr(self, name) for name in kept})
        return cast("Self", same.to(device))

    def _predict(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        return self.network(batch)


def load_shipped(shipped: ShippedNetwork = DEFAULT) -> Model:
    """Return a network that comes with the package, for the processor as it is."""
    if not is_usable():
        return _by_torch(shipped)
    return QuantisedStarConvex(
        shipped,
        QuantisedNetwork(shipped.quantised),
        shipped.spec,
        shipped.threshold,
        shipped.consensus,
        shipped.largest_density,
    )


def _by_torch(shipped: ShippedNetwork) -> StarConvexModel:
    from wsi_engine.models.starconvex.model import load_starconvex

    return load_starconvex(shipped=shipped)
