"""Networks of others, made by hand: in ONNX and TorchScript, with the cards that describe them.

They need no training: what lets little red light through is nucleus.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from torch import nn

DARK = {"mean": [0.7, 0.7, 0.7], "std": [0.2, 0.2, 0.2]}
"""What the networks here are normalised by: dark is negative."""

ONNX_CARD: dict[str, Any] = {
    "name": "dark-onnx",
    "file": "network.onnx",
    "format": "onnx",
    "mpp": 0.5,
    "stride": 8,
    "receptive_radius_px": 8,
    "largest_object_px": 65,
    "input": DARK,
    "maps": {
        "interior": {"output": "maps", "channels": [0]},
        "boundary": {"output": "maps", "channels": [1]},
    },
    "decoder": "interior-boundary",
}

TORCHSCRIPT_CARD: dict[str, Any] = {
    "name": "dark-labels",
    "file": "network.pt",
    "format": "torchscript",
    "mpp": 0.5,
    "stride": 4,
    "receptive_radius_px": 44,
    "largest_object_px": 60,
    "input": DARK,
    "maps": {"labels": {}},
    "decoder": "labels",
}


def write_card(path: Path, card: dict[str, Any], **changes: Any) -> Path:
    """Write a card with some of its fields changed; ``None`` leaves one out."""
    fields = {name: value for name, value in (card | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    return path


def onnx_card(folder: Path, **changes: Any) -> Path:
    """Write a network in ONNX and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.onnx").write_bytes(interiors_in_onnx().SerializeToString())
    return write_card(folder / "card.yaml", ONNX_CARD, **changes)


def torchscript_card(folder: Path, **changes: Any) -> Path:
    """Write a network in TorchScript that gives a label image, and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    save_torchscript(DarkLabels(), folder / "network.pt")
    return write_card(folder / "card.yaml", TORCHSCRIPT_CARD, **changes)


def save_torchscript(module: nn.Module, path: Path) -> None:
    """Compile a module and save it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module.eval()).save(str(path))


class DarkLabels(nn.Module):
    """From an image to a label image, the components of what is dark, as InstanSeg gives one."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        red = torch.nn.functional.avg_pool2d(image[:, :1], 3, 1, 1)
        mask = (red < 0).float()
        height, width = image.shape[2], image.shape[3]
        number = torch.arange(height * width, device=image.device).reshape(1, 1, height, width)
        labels = mask * (number.float() + 1)
        for _ in range(40):
            labels = mask * torch.nn.functional.max_pool2d(labels, 3, 1, 1)
        return labels


def interiors_in_onnx(shape: tuple[Any, ...] = (1, 3, "height", "width")) -> onnx.ModelProto:
    """Build a network that gives interior and boundary of what is dark."""
    red = np.zeros((1, 3, 3, 3), np.float32)
    red[:, 0] = -12 / 9
    values = {
        "red": red,
        # Interior where all around is nucleus, boundary where half of it is.
        "middle": np.reshape([0.75, 0.6], (1, 2, 1, 1)),
        "sign": np.reshape([1, 0], (1, 2, 1, 1)),
        "peak": np.reshape([0, 1], (1, 2, 1, 1)),
        "slope": np.reshape([30, -20], (1, 2, 1, 1)),
        "level": np.reshape([0, 2], (1, 2, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "red"], ["dark"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["dark"], ["nucleus"]),
        helper.make_node(
            "AveragePool", ["nucleus"], ["inside"], kernel_shape=[7, 7], pads=[3, 3, 3, 3]
        ),
        helper.make_node("Sub", ["inside", "middle"], ["from_middle"]),
        helper.make_node("Abs", ["from_middle"], ["away"]),
        helper.make_node("Mul", ["from_middle", "sign"], ["signed"]),
        helper.make_node("Mul", ["away", "peak"], ["peaked"]),
        helper.make_node("Add", ["signed", "peaked"], ["both"]),
        helper.make_node("Mul", ["both", "slope"], ["steep"]),
        helper.make_node("Add", ["steep", "level"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["maps"]),
    ]
    return in_onnx(nodes, values, shape, ["maps", "nucleus"])


def in_onnx(
    nodes: list[onnx.NodeProto],
    values: dict[str, Any],
    shape: tuple[Any, ...],
    outputs: list[str],
    inputs: tuple[str, ...] = ("image",),
) -> onnx.ModelProto:
    """Put a network together."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(v, np.float32), name) for name, v in values.items()],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)
