"""What Mask R-CNN learns: its network's shape, and the boxes and masks that it makes of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from wsi_engine.errors import ModelError
from wsi_engine.models.learning import LabelledCrop, Loss, Targets, Tensors, Training
from wsi_engine.models.maskrcnn.spec import SPEC
from wsi_engine.nuclei.raster import UNKNOWN

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wsi_engine.models.maskrcnn.model import MaskRcnnModel

SMALLEST_UM2 = 2.5
"""The least of a nucleus at the border that it can be told by; less is unknown."""

_Width = Annotated[int, Field(ge=1)]


class NetworkConfig(BaseModel):
    """Shape of the network; see `wsi_engine.models.maskrcnn.network.build`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[_Width, _Width, _Width] = (32, 64, 160)
    features: _Width = 48
    box_features: _Width = 192
    mask_features: _Width = 32


class LearningConfig(BaseModel):
    """Boxes and masks are what labels say: there is nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class MaskRcnnLearner:
    """Mask R-CNN in one training run; see `wsi_engine.models.learning.Learner`."""

    shape: NetworkConfig
    learning: LearningConfig
    classes: tuple[str, ...] = ()

    teachable = False
    classifies = False
    mpp = SPEC.mpp
    stride_px = SPEC.stride
    grid_px = 1

    def network(self) -> nn.Module:
        """Return a fresh network.

        Raises
        ------
        ModelError
            If torchvision cannot be imported.
        """
        from wsi_engine.models.maskrcnn.model import untrained

        return untrained(**self.shape.model_dump())

    def targets(self, crops: Sequence[LabelledCrop]) -> Targets:
        """Return boxes and instances of a batch.

        Returns
        -------
        dict of str to numpy.ndarray
            ``boxes``, float32 (k, 4), those of all crops, 0 where the centre of the first pixel
            is; ``crop``, int64 (k,), the crop of each; ``instances``, int32, as fine as labels,
            shape (n, finer h, finer w): 1 for the first box of a crop and so on, 0 for the
            ground, -1 for what is unknown.
        """
        each = [_instances(crop) for crop in crops]
        return {
            "boxes": np.concatenate([boxes for boxes, _ in each]),
            "crop": np.repeat(np.arange(len(each)), [len(boxes) for boxes, _ in each]),
            "instances": np.stack([instances for _, instances in each]),
        }

    def loss(self, network: nn.Module, images: torch.Tensor, targets: Tensors) -> Loss:
        """Run a network on images and compare; the sum of the five losses of He et al. 2017."""
        import torch

        from wsi_engine.models.layers import normalise
        from wsi_engine.models.maskrcnn.losses import mask_rcnn_losses

        losses = mask_rcnn_losses(network, normalise(images), targets)
        return Loss(torch.stack(list(losses.values())).sum(), losses)

    def write(self, path: Path, network: nn.Module, threshold: float) -> None:
        """Write the weights of a network."""
        from wsi_engine.models.maskrcnn.model import save_weights

        save_weights(path, network, threshold=threshold)

    def model(self, path: Path) -> MaskRcnnModel:
        """Read the model that was written."""
        from wsi_engine.models.maskrcnn.model import load_mask_rcnn

        return load_mask_rcnn(path)

    def shape_of(self, weights: Path | None) -> NetworkConfig:
        """Return the shape of the network of trained weights."""
        from wsi_engine.models.maskrcnn.model import load_mask_rcnn
        from wsi_engine.models.maskrcnn.network import shape_in

        return NetworkConfig(**shape_in(load_mask_rcnn(weights).network.state_dict()))

    def trained(self, fresh: nn.Module, weights: Path | None) -> dict[str, torch.Tensor]:
        """Return the state of a trained network of this shape."""
        from wsi_engine.models.maskrcnn.model import load_mask_rcnn

        if self.shape_of(weights) != self.shape:
            raise ModelError("its network has another shape than the run asks for")
        return load_mask_rcnn(weights).network.state_dict()


def _instances(crop: LabelledCrop) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Return the boxes of the nuclei in a crop, cut off at its border, and which pixels are whose.

    What is left of a nucleus beyond the border, if it is little, is unknown.
    """
    margin = crop.margin_px * crop.finer
    labels = crop.labels[margin:-margin, margin:-margin].astype(np.int32)
    number = np.zeros(UNKNOWN + 1, np.int32)
    number[UNKNOWN] = -1
    areas = np.bincount(labels.ravel(), minlength=UNKNOWN + 1)
    smallest = SMALLEST_UM2 / SPEC.mpp**2 * crop.finer**2
    labels[labels == UNKNOWN] = 0
    boxes = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        number[label] = -1
        sides = [side.stop - side.start for side in box]
        if areas[label] >= smallest and min(sides) > crop.finer:
            rows, columns = box
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            number[label] = len(boxes)
    inner = crop.labels[margin:-margin, margin:-margin]
    corners = np.array(boxes, np.float32).reshape(-1, 4) / np.float32(crop.finer)
    return corners - np.float32(0.5), number[inner]


TRAINING = Training(NetworkConfig, LearningConfig, MaskRcnnLearner)
