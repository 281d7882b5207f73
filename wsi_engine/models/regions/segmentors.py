"""TIAToolbox's semantic segmentors as models of regions.

TIAToolbox is an extra, and imported only when one of them is loaded.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from wsi_engine.models.regions.protocol import RegionsModel, RegionsSpec
from wsi_engine.models.regions.segmentor_spec import SPECS
from wsi_engine.models.tiatoolbox_weights import architecture, with_weights

_DECODER_BLOCKS: dict[str, tuple[int, ...]] = {
    "fcn_resnet50_unet-bcss": (3, 3),
    "fcn-tissue_mask": (3,),
}


@dataclass(frozen=True, eq=False)
class Segmentor:
    """A U-Net of TIAToolbox on one device; a `RegionsModel`.

    Attributes
    ----------
    spec
        One of ``SPECS``.
    network
        TIAToolbox's ``UNetModel`` with weights, on ``device``, in evaluation mode.
    """

    spec: RegionsSpec
    network: Any = field(repr=False)
    device: torch.device

    def to(self, device: str) -> Self:
        """Return the segmentor on a device; this one stays where it is."""
        if torch.device(device) == self.device:
            return self
        # TIAToolbox's own `to` would spread the network over every GPU of the machine.
        network = torch.nn.Module.to(copy.deepcopy(self.network), device)
        return replace(self, network=network, device=torch.device(device))

    def probabilities(self, window: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probabilities, as `RegionsModel` has them.

        What TIAToolbox's ``infer_batch`` does, which however keeps a half of any window.
        """
        images = torch.from_numpy(window[None]).to(self.device, torch.float32)
        with torch.inference_mode():
            probabilities = functional.softmax(self.network(images.permute(0, 3, 1, 2)), 1)
            probabilities = functional.interpolate(
                probabilities, scale_factor=2, mode="bilinear", align_corners=False
            )
        inside = slice(self.spec.margin_px, -self.spec.margin_px)
        found: npt.NDArray[np.float32] = probabilities[0, :, inside, inside].cpu().numpy()
        return np.ascontiguousarray(np.moveaxis(found, 0, -1))


def load_segmentor(name: str, weights: Path | None) -> RegionsModel:
    """Load a segmentor of TIAToolbox, on the CPU.

    Parameters
    ----------
    name
        One of ``SPECS``.
    weights
        State dict in a .pth, .pt, .tar or .safetensors file; ``None`` for the published
        weights, which TIAToolbox downloads and keeps in its own cache.

    Raises
    ------
    ModelError
        When there is no TIAToolbox, or the weights cannot be downloaded or read, or do not fit.
    """
    spec = SPECS[name]
    unet = architecture(name, "unet")
    network = unet.UNetModel(
        num_input_channels=3,
        num_output_channels=len(spec.classes),
        encoder="resnet50",
        decoder_block=_DECODER_BLOCKS[name],
    )
    network, _ = with_weights(name, network, weights)
    return Segmentor(spec, network, torch.device("cpu"))
