"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wsi_engine.errors import TrainingError
from wsi_engine.writing import atomic_path


class Average:
    """Exponential moving average of a network's weights and running statistics.

    The decay starts low and grows with the step, so that early weights are forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.clone() for name, value in network.state_dict().items()}

    def restore(self, network: nn.Module, state: dict[str, Any]) -> None:
        """Take the state of a checkpoint, by the names that tensors of the network have now."""
        averaged = copy.deepcopy(network)
        averaged.load_state_dict(state)
        self.state = {name: value.clone() for name, value in averaged.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network's present weights."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, share)
            else:
                self.state[name].copy_(value)


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint under a temporary name, then put it in place at once.

    A run that is killed while writing leaves the previous checkpoint as it was.
    """
    with atomic_path(path) as partial, partial.open("wb") as file:
        torch.save(content, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises
    ------
    TrainingError
        If the file is not a checkpoint of this project.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TrainingError(
            f"the checkpoint {path} cannot be read ({error}): move it away to start afresh"
        ) from error
    if not isinstance(content, dict) or "step" not in content:
        raise TrainingError(f"{path} is no checkpoint of a training run: move it away")
    return content
