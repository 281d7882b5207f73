"""Writing weights as the engine reads them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from wsi_engine.models.starconvex import WEIGHTS_KEY
from wsi_engine.models.starconvex_network import StarConvexNet, describe, folded

# Both are lengths in life, so they do not depend on the network's pixels.
_CONSENSUS_UM = 2.0
_LARGEST_OBJECT_UM = 40.0


def save_weights(
    path: Path, network: StarConvexNet, *, mpp: float, threshold: float, max_overlap: float
) -> None:
    """Write a network as safetensors in half precision, with what is needed to rebuild it.

    Batch normalisation is folded first: its statistics may exceed the range of fp16.
    """
    state = {
        name: value.to(torch.float16).contiguous()
        for name, value in folded(network).state_dict().items()
    }
    description = {
        **describe(network),
        "mpp": mpp,
        "consensus_points": max(1, round(_CONSENSUS_UM / (network.grid_px * mpp))),
        "largest_object_px": round(_LARGEST_OBJECT_UM / mpp),
        "threshold": threshold,
        "max_overlap": max_overlap,
    }
    path.write_bytes(save(state, metadata={WEIGHTS_KEY: json.dumps(description)}))


def write_threshold(path: Path, threshold: float) -> None:
    """Change the threshold that a weights file asks for."""
    with safe_open(str(path), framework="pt") as file:
        description = json.loads(file.metadata()[WEIGHTS_KEY])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    description["threshold"] = threshold
    path.write_bytes(save(state, metadata={WEIGHTS_KEY: json.dumps(description)}))
