"""``two-stage``: the coarse boundary that a first U-Net sees is an input of the second.

The second answers as ``unet`` does, and is decoded in the same way.

References
----------
Kang Q, Lao Q, Fevens T. Nuclei segmentation in histopathological images using two-stage
learning. MICCAI 2019:703-711.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsi_engine.models.dense import decoding, label_geometry, unet
from wsi_engine.models.dense.method import (
    STRIDE_PX,
    UNET_RADIUS_PX,
    DenseMethod,
    DenseTargets,
    Labels,
    dense_spec,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

COARSE_PX = 1.5
"""How far the coarse boundary reaches to either side of a nucleus's border."""
COARSE_SHARE = 0.4
"""Share of the first stage in the loss."""

RADIUS_PX = 2 * UNET_RADIUS_PX - STRIDE_PX
"""The grids of both stages agree, so not every pixel reaches farthest in both."""


def build(**shape: object) -> nn.Module:
    """Build the networks: the logit of the coarse boundary, then those of `unet`."""
    from wsi_engine.models.dense.networks import TwoStageUNet

    return TwoStageUNet(3, **shape)  # type: ignore[arg-type]


def maps(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities of interior and boundary, as the second stage sees them."""
    return unet.maps(logits[:, 1:])


def targets(labels: Labels, *, margin_px: int, inner_boundary_weight: float = 1.0) -> DenseTargets:
    """Share of coarse boundary, then those of `unet`, in each pixel; see `method.TargetsOf`."""
    fine = unet.targets(labels, margin_px=margin_px, inner_boundary_weight=inner_boundary_weight)
    distance, beyond = label_geometry.across_border(labels, COARSE_PX)
    known, near = labels != label_geometry.UNKNOWN, distance <= COARSE_PX
    to_unknown = beyond == label_geometry.UNKNOWN_BEYOND
    trust = (known & ~(near & to_unknown)).astype(np.float32)
    between = (labels != 0) & (beyond == label_geometry.NUCLEUS_BEYOND)
    trust[known & near & between] = inner_boundary_weight
    coarse = label_geometry.shares(known & near & ~to_unknown, margin_px)
    trusted = label_geometry.least(trust, margin_px)
    return DenseTargets(
        np.concatenate([coarse[..., None], fine.maps], axis=-1),
        np.concatenate([trusted[..., None], fine.weights], axis=-1),
    )


def loss(logits: torch.Tensor, maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the coarse boundary, and of the three classes of the second stage."""
    from wsi_engine.models.dense.losses import binary_cross_entropy

    coarse = binary_cross_entropy(logits[:, :1], maps[..., :1], weights[..., :1])
    return COARSE_SHARE * coarse + unet.loss(logits[:, 1:], maps[..., 1:], weights[..., 1:])


METHOD = DenseMethod(
    spec=dense_spec(
        "two-stage",
        "Two U-Nets, the first one's coarse boundary an input of the second, seeded watershed",
        RADIUS_PX,
        decoding.LARGEST_HOLE_PX + decoding.BLUR_REACH_PX,
    ),
    network_radius_px=RADIUS_PX,
    build=build,
    shape={"first": (16, 32, 80), "second": (32, 48, 144)},
    maps=maps,
    decode=unet.decode,
    targets=targets,
    loss=loss,
)
