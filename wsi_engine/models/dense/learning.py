"""What a dense method learns: its network's shape, and the maps that it is to answer with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model

from wsi_engine.errors import ModelError
from wsi_engine.models.dense.label_geometry import FINER
from wsi_engine.models.dense.method import DenseMethod
from wsi_engine.models.learning import LabelledCrop, Loss, Targets, Tensors, Training

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wsi_engine.models.dense.model import DenseModel

_Width = Annotated[int, Field(ge=1)]


class NothingToChoose(BaseModel):
    """What is made of labels is the method's own: there is nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class DenseLearner:
    """A dense method in one training run; see `wsi_engine.models.learning.Learner`."""

    method: DenseMethod
    shape: BaseModel
    learning: BaseModel
    classes: tuple[str, ...] = ()

    teachable = False
    classifies = False
    grid_px = 1

    @property
    def mpp(self) -> float:
        """Side of a model pixel in µm."""
        return self.method.spec.mpp

    @property
    def stride_px(self) -> int:
        """Total stride in model pixels."""
        return self.method.spec.stride

    def network(self) -> nn.Module:
        """Return a fresh network."""
        from wsi_engine.models.dense.model import untrained

        return untrained(self.method, self.shape.model_dump())

    def targets(self, crops: Sequence[LabelledCrop]) -> Targets:
        """Return the targets of a batch.

        Returns
        -------
        dict of str to numpy.ndarray
            ``maps`` and ``weights`` of `DenseTargets`, with a first axis for the crops.
        """
        assert all(crop.finer == FINER for crop in crops)
        each = [
            self.method.targets(
                crop.labels,
                margin_px=crop.margin_px,
                inner_boundary_weight=crop.inner_boundary_weight,
            )
            for crop in crops
        ]
        return {
            "maps": np.stack([target.maps for target in each]),
            "weights": np.stack([target.weights for target in each]),
        }

    def loss(self, network: nn.Module, images: torch.Tensor, targets: Tensors) -> Loss:
        """Run a network on images and compare its logits with the maps, as the method does."""
        from wsi_engine.models.layers import normalise

        logits = network(normalise(images)).float()
        return Loss(self.method.loss(logits, targets["maps"], targets["weights"]))

    def write(self, path: Path, network: nn.Module, threshold: float) -> None:
        """Write the weights of a network."""
        from wsi_engine.models.dense.model import save_weights

        shape = self.shape.model_dump()
        save_weights(path, self.method, network, shape=shape, threshold=threshold)

    def model(self, path: Path) -> DenseModel:
        """Read the model that was written."""
        from wsi_engine.models.dense.model import load_dense

        return load_dense(self.method, path)

    def shape_of(self, weights: Path | None) -> BaseModel:
        """Return the shape of the network of trained weights."""
        from wsi_engine.models.dense.model import read_shape

        return type(self.shape).model_validate(read_shape(self.method, weights))

    def trained(self, fresh: nn.Module, weights: Path | None) -> dict[str, torch.Tensor]:
        """Return the state of a trained network of this shape."""
        from wsi_engine.models.dense.model import load_dense
        from wsi_engine.models.layers import folded

        state = load_dense(self.method, weights).network.state_dict()
        wanted = folded(fresh).state_dict()
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in wanted.items()}:
            raise ModelError("its network has another shape than the run asks for")
        return state


def training(method: DenseMethod) -> Training:
    """Return how a dense method is made ready to learn; its shape is the method's, if not set."""
    fields: dict[str, Any] = {
        name: (tuple[_Width, _Width, _Width] if isinstance(usual, tuple) else _Width, usual)
        for name, usual in method.shape.items()
    }
    network = create_model("NetworkConfig", __config__=NothingToChoose.model_config, **fields)
    return Training(network, NothingToChoose, partial(DenseLearner, method))
