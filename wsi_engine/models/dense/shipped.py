"""The networks of dense methods that come with the package: quantised on the processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import numpy.typing as npt

from wsi_engine.models.dense.method import WEIGHTS_KEY, DenseMethod, weights_file
from wsi_engine.models.dense.reading import DenseMaps
from wsi_engine.models.devices import CPU
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.models.quantised import QuantisedNetwork, is_usable
from wsi_engine.models.weight_file import read_description

if TYPE_CHECKING:
    from wsi_engine.models.dense.model import DenseModel


@dataclass(frozen=True)
class QuantisedDense(DenseMaps):
    """A shipped network in whole numbers, on the processor; on a GPU it is torch's.

    ``benchmarks/methods.md`` says how far the nuclei of the two differ.
    """

    method: DenseMethod
    network: QuantisedNetwork
    spec: ModelSpec
    threshold: float

    def to(self, device: str) -> Self:
        """Return the model on a device."""
        if device == CPU:
            return self
        return cast("Self", _by_torch(self.method).with_threshold(self.threshold).to(device))

    def _predict(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        return self.network(batch)


def load_shipped(method: DenseMethod) -> Model:
    """Return the network that comes with the package, for the processor as it is.

    Raises
    ------
    ModelError
        If the package has no weights for the method yet.
    """
    weights = weights_file(method.spec.name)
    quantised = weights.with_suffix(".xml")
    if not (quantised.exists() and is_usable()):
        return _by_torch(method)
    threshold = float(read_description(weights, WEIGHTS_KEY)["threshold"])
    return QuantisedDense(method, QuantisedNetwork(quantised), method.spec, threshold)


def _by_torch(method: DenseMethod) -> DenseModel:
    from wsi_engine.models.dense.model import load_dense

    return load_dense(method)
