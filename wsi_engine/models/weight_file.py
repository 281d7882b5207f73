"""Weights files: a network's tensors in half precision, and what is needed to rebuild it.

They are safetensors, which hold no code; the description is JSON in their metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    import torch
    from torch import nn

NO_NETWORK = (
    *(OSError, SafetensorError, RuntimeError, MemoryError),
    *(AttributeError, KeyError, TypeError, ValueError, RecursionError),
)
"""What reading a file that is none leads to; its description may say anything."""


def write_network(path: Path, network: nn.Module, key: str, description: Mapping[str, Any]) -> None:
    """Write a network, and its description under a key of the metadata.

    Batch normalisation is folded first: its statistics may exceed the range of fp16.
    """
    import torch
    from safetensors.torch import save

    from wsi_engine.models.layers import folded

    state = {
        name: value.to(torch.float16).contiguous()
        for name, value in folded(network).state_dict().items()
    }
    path.write_bytes(save(state, metadata={key: json.dumps(dict(description))}))


def read_description(path: Path, key: str) -> Mapping[str, Any]:
    """Return what a weights file says of its network, without its tensors and without torch.

    Raises
    ------
    KeyError
        If it says nothing under the key; others of `NO_NETWORK` if it is no such file.
    """
    with safe_open(str(path), framework="np") as file:
        description: Mapping[str, Any] = json.loads((file.metadata() or {})[key])
    return description


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file by name, in fp32; raises what is in `NO_NETWORK`."""
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
