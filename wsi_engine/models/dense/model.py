"""A dense method with its weights, behind the engine's protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from wsi_engine.errors import ModelError
from wsi_engine.models.dense.method import DenseMethod, weights_file
from wsi_engine.models.layers import folded
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.torch_model import CompilableTorchModel
from wsi_engine.models.turns import Turn
from wsi_engine.nuclei.predictions import Predictions

WEIGHTS_KEY = "dense"
"""Where a weights file keeps, as JSON, what is needed to rebuild its network."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class DenseModel(CompilableTorchModel):
    """A trained network of a dense method.

    Instances do not change; ``to`` returns another. The network has no statistics of a slide
    or a tile, so there is nothing to calibrate.

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

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Return the model as it is."""
        del fields
        return self

    def with_threshold(self, threshold: float) -> Self:
        """Return the model with another threshold."""
        return replace(self, threshold=threshold)

    def settings(self) -> dict[str, float]:
        """Return the threshold, for the record of the run."""
        return {"threshold": self.threshold}

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Run the network.

        Parameters
        ----------
        batch
            uint8 (n, h, w, 3), h and w multiples of the stride.

        Returns
        -------
        numpy.ndarray
            The method's maps, 0 to 255 for 0 to 1, uint8 (n, h, w, maps).

        Raises
        ------
        ModelError
            If a tile is not made of whole strides, or the network computes NaN.
        """
        height, width = batch.shape[1:3]
        if height % self.spec.stride or width % self.spec.stride:
            raise ModelError(
                f"{self.spec.name} takes tiles whose sides are multiples of {self.spec.stride} "
                f"px, not {width} x {height}: choose another tile size"
            )
        with torch.inference_mode():
            logits = self.network(self._pixels(batch))
            shares = self.method.maps(logits.float())
            if bool(torch.isnan(shares).any()):
                raise ModelError(
                    f"{self.spec.name} computed NaN: its weights are damaged, or do not suit this "
                    "device; try --device cpu"
                )
            levels = shares.mul(255).round_().to(torch.uint8).permute(0, 2, 3, 1)
            return np.asarray(levels.contiguous().cpu().numpy())

    def upright(self, maps: npt.NDArray[np.generic], turn: Turn) -> npt.NDArray[np.generic]:
        """Turn the maps of a turned batch back."""
        return turn.undo(maps)

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile into polygons, as the method does."""
        return self.method.decode(np.asarray(maps, np.uint8), self.threshold)


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
    """Write a network as safetensors in half precision, with what is needed to rebuild it.

    Batch normalisation is folded first: its statistics may exceed the range of fp16.
    """
    state = {
        name: value.to(torch.float16).contiguous()
        for name, value in folded(network).state_dict().items()
    }
    description = {
        "method": method.spec.name,
        "shape": dict(method.shape if shape is None else shape),
        "threshold": threshold,
    }
    path.write_bytes(save(state, metadata={WEIGHTS_KEY: json.dumps(description)}))


_NO_NETWORK = (
    *(OSError, SafetensorError, RuntimeError, MemoryError),
    *(AttributeError, KeyError, TypeError, ValueError, RecursionError),
)
"""What a file that is none leads to; its description may say anything."""


def read_shape(method: DenseMethod, weights: Path | None = None) -> Mapping[str, Any]:
    """Return the shape of the network that `load_dense` loads, and raise what that raises."""
    load_dense(method, weights)
    path = weights_file(method.spec.name) if weights is None else weights
    with safe_open(str(path), framework="pt") as file:
        shape: Mapping[str, Any] = json.loads(file.metadata()[WEIGHTS_KEY])["shape"]
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
        with safe_open(str(path), framework="pt") as file:
            description = json.loads((file.metadata() or {})[WEIGHTS_KEY])
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        if description["method"] != name:
            raise ValueError(f"it holds weights of {description['method']!r}")
        network = folded(untrained(method, description["shape"]))
        network.load_state_dict(state)
        threshold = float(description["threshold"])
    except _NO_NETWORK as error:
        raise ModelError(f"{path} holds no {name} network: {error}") from error
    return DenseModel(method, network, method.spec, threshold)
