"""What the models have in common whose networks torch runs."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from wsi_engine.errors import ModelError
from wsi_engine.models.compiling import Compilation
from wsi_engine.models.layers import fastest_dtype, normalise


def computed_nan(name: str) -> ModelError:
    """Return what to raise where a model's network computes NaN."""
    return ModelError(
        f"{name} computed NaN: its weights are damaged, or do not suit this device; try "
        "--device cpu"
    )


class TorchModel:
    """The part of a model, a dataclass, that brings its network and its pixels to a device.

    Attributes
    ----------
    network
        In the precision that it runs in.
    device, dtype
        Where it is, and that precision.
    """

    network: nn.Module
    device: torch.device
    dtype: torch.dtype

    def to(self, device: str) -> Self:
        """Return the model on a device, in bf16 where the device computes in it."""
        dtype = fastest_dtype(device)
        network = copy.deepcopy(self.network).to(device, dtype)
        convert_conv2d_weight_memory_format(network, torch.channels_last)
        return self._with(network=network, device=torch.device(device), dtype=dtype)

    def _with(self, **changes: object) -> Self:
        return cast("Self", replace(cast("Any", self), **changes))

    def answers(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return what is read of the network's outputs, (n, k, h, w): maps, channels last."""
        return outputs.permute(0, 2, 3, 1)

    def _pixels(self, batch: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Return what the network takes for a batch, uint8 (n, h, w, 3)."""
        # torch wants an array that it could write to, and tiles may be read-only.
        writable = np.require(batch, requirements=["C", "W"])
        pixels = normalise(torch.from_numpy(writable).to(self.device))
        return pixels.to(self.dtype, memory_format=torch.channels_last)


class CompilableTorchModel(TorchModel):
    """One whose network can be compiled, too."""

    def compilation(self, batch: int, side: int) -> Compilation | None:
        """Describe the network for batches of so many square tiles; ``None`` on a GPU."""
        if self.device.type != "cpu":
            return None
        return Compilation(self.network, (batch, 3, side, side), self.dtype)

    def with_network(self, network: nn.Module) -> Self:
        """Return the model with another network, as the same compiled."""
        return self._with(network=network)
