"""What a dense method is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

import wsi_engine.models
from wsi_engine.models.label_objects import ObjectLimits
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.nuclei.predictions import Predictions

if TYPE_CHECKING:
    import torch
    from torch import nn

STRIDE_PX = 8
UNET_RADIUS_PX = 64
"""How far away from a pixel another can change what a U-Net says of it."""

LIMITS = ObjectLimits(smallest=24, largest=2400, longest=64, thinnest=3.0)
"""A nucleus of 6 to 600 µm², at most 32 µm long, at 0.5 µm/px."""

WEIGHTS_KEY = "dense"
"""Where a weights file keeps what is needed to rebuild its network."""

Maps = npt.NDArray[np.uint8]
"""Shape (height, width, maps), 0 to 255 for 0 to 1."""

Labels = npt.NDArray[np.uint16]
"""Label image, twice as fine as the model's pixels, with a margin around the crop; see
`wsi_engine.models.dense.label_geometry`."""


@dataclass(frozen=True, slots=True)
class DenseTargets:
    """What a network should answer for the pixels of one crop.

    Attributes
    ----------
    maps
        In [0, 1], float32, shape (height, width, answers).
    weights
        Trust in them, 0 where nothing is known; float32, shape (height, width, answers), or
        (height, width, 1) where the answers exclude each other.
    """

    maps: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


class TargetsOf(Protocol):
    """Says what a network should answer for a crop."""

    def __call__(
        self, labels: Labels, *, margin_px: int, inner_boundary_weight: float = 1.0
    ) -> DenseTargets:
        """Compute the targets.

        Parameters
        ----------
        labels
            Shape (2 (height + 2 margin_px), 2 (width + 2 margin_px)).
        margin_px
            Model pixels around the crop that show the nuclei at its border whole.
        inner_boundary_weight
            Trust in boundaries between touching nuclei.
        """
        ...


@dataclass(frozen=True, slots=True)
class DenseMethod:
    """A network that answers for every pixel, what it learns, and how it is read.

    Attributes
    ----------
    spec
        The facts the engine plans by; its receptive radius is the network's and the decoder's.
    network_radius_px
        The network's share of it.
    build
        Builds the network; ``shape`` are its arguments, unless weights say otherwise.
    maps
        From the network's logits, shape (n, k, height, width), to what is decoded, in [0, 1],
        shape (n, maps, height, width).
    decode
        Turns the maps of one tile into nuclei; its second argument is the level above which
        a pixel is nucleus.
    targets, loss
        What is learnt. ``loss`` takes logits and the stacked maps and weights of targets,
        channels last.
    """

    spec: ModelSpec
    network_radius_px: int
    build: Callable[..., nn.Module]
    shape: Mapping[str, Any]
    maps: Callable[[torch.Tensor], torch.Tensor]
    decode: Callable[[Maps, float], Predictions]
    targets: TargetsOf
    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def dense_spec(name: str, summary: str, network_radius_px: int, decoder_reach_px: int) -> ModelSpec:
    """State the facts of a dense method at 0.5 µm/px."""
    return ModelSpec(
        name=name,
        summary=summary,
        mpp=0.5,
        stride=STRIDE_PX,
        receptive_radius_px=network_radius_px + decoder_reach_px,
        # Outlines run up to half a pixel around the pixels.
        largest_object_px=LIMITS.longest + 1,
        classes=(),
        licence="Apache-2.0",
        embedded=weights_file(name).exists(),
        max_overlap=0.1,
    )


def weights_file(name: str) -> Path:
    """Return where the package keeps the weights of a method, if it has them."""
    return Path(wsi_engine.models.__file__).parent / "weights" / f"{name}.safetensors"
