"""A dense method with its weights, behind the engine's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wsi_engine.errors import ModelError
from wsi_engine.models.dense.method import WEIGHTS_KEY, DenseMethod, weights_file
from wsi_engine.models.dense.reading import DenseMaps
from wsi_engine.models.layers import folded
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.torch_model import CompilableTorchModel, computed_nan
from wsi_engine.models.weight_file import (
    NO_NETWORK,
    read_description,
    read_tensors,
    write_network,
)

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class DenseModel(CompilableTorchModel, DenseMaps):
    """A trained network of a dense method.

    Instances do not change; ``to`` returns another.

    Attributes
    ----------
    network
        Folded, in the precision that it runs in.
    threshold
        Level above which a pixel is nucleus.
    """

    method: DenseMethod
    network: nn.Module
    spec: ModelSpec
    threshold: float = 0.5
    device: torch.device = _CPU
    dtype: torch.dtype = torch.float32

    def answers(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the method's maps, uint8 (n, h, w, maps), of the network's logits."""
        levels = self.method.maps(outputs.float()).mul(255).round().to(torch.uint8)
        return levels.permute(0, 2, 3, 1)

    def _predict(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        with torch.inference_mode():
            logits = self.network(self._pixels(batch))
            if bool(torch.isnan(logits).any()):
                raise computed_nan(self.spec.name)
            return np.asarray(self.answers(logits).contiguous().cpu().numpy())


def untrained(method: DenseMethod, shape: Mapping[str, Any] | None = None) -> nn.Module:
    """Build the network of a method, its weights random, ready to be trained."""
    return method.build(**(method.shape if shape is None else shape))


def save_weights(
    path: Path,
    method: DenseMethod,
    network: nn.Module,
    *,
    shape: Mapping[str, Any] | None = None,
    threshold: float = 0.5,
) -> None:
    """Write a network with what is needed to rebuild it."""
    description = {
        "method": method.spec.name,
        "shape": dict(method.shape if shape is None else shape),
        "threshold": threshold,
    }
    write_network(path, network, WEIGHTS_KEY, description)


def read_shape(method: DenseMethod, weights: Path | None = None) -> Mapping[str, Any]:
    """Return the shape of the network that `load_dense` loads, and raise what that raises."""
    load_dense(method, weights)
    path = weights_file(method.spec.name) if weights is None else weights
    shape: Mapping[str, Any] = read_description(path, WEIGHTS_KEY)["shape"]
    return shape


def load_dense(method: DenseMethod, weights: Path | None = None) -> DenseModel:
    """Load a dense method, on the CPU in fp32.

    Parameters
    ----------
    weights
        What `save_weights` wrote; ``None`` for what comes with the package.

    Raises
    ------
    ModelError
        If the package has no weights for the method yet, or the file is missing, or holds
        something else.
    """
    name = method.spec.name
    path = weights_file(name) if weights is None else weights
    if weights is None and not path.exists():
        raise ModelError(
            f"the weights of {name} are not shipped yet: train them with `wsi-engine train "
            f"configs/train_{name.replace('-', '_')}.yaml` and give them with --weights FILE"
        )
    try:
        description = read_description(path, WEIGHTS_KEY)
        if description["method"] != name:
            raise ValueError(f"it holds weights of {description['method']!r}")
        network = folded(untrained(method, description["shape"]))
        network.load_state_dict(read_tensors(path))
        threshold = float(description["threshold"])
    except NO_NETWORK as error:
        raise ModelError(f"{path} holds no {name} network: {error}") from error
    return DenseModel(method, network, method.spec, threshold)
