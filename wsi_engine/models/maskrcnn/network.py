"""torchvision's Mask R-CNN on a compact backbone, for objects of 3 to 30 µm at 0.5 µm/px.

Its only normalisation is batch normalisation, an affine map at inference. torchvision's own way
in, which resizes images and normalises them, is not used: see `detection` and `losses`.

Coordinates within it are torchvision's: the centre of pixel (3, 2) is at (3, 2).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from wsi_engine.models.layers import block, stem
from wsi_engine.models.maskrcnn.spec import FINEST_UP_TO_PX, MASK_SIDE

LEVELS = ("0", "1", "2")
"""Features at 2, 4 and 8 model pixels per point."""
PROPOSING = ("1", "2")
"""Those on whose points anchors stand."""
ANCHORS_PX = ((10, 16), (24, 40))
"""Sides of the anchors of each proposing level: a nucleus has 12 to 20 px."""
ASPECTS = (0.5, 1.0, 2.0)
BOX_SIDE = 7
"""Points along a side of what the second stage sees of a box."""


class Backbone(nn.Module):
    """Three levels under a feature pyramid, all of one width.

    Parameters
    ----------
    channels
        Widths at 2, 4 and 8 pixels per point.
    features
        Width of the pyramid.
    """

    def __init__(self, channels: tuple[int, int, int], features: int) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.out_channels = features
        self.stem = stem(3, fine)
        self.fine = block(fine, fine)
        self.middle = nn.Sequential(block(fine, middle), block(middle, middle))
        self.coarse = nn.Sequential(
            block(middle, coarse), *(block(coarse, coarse) for _ in range(3))
        )
        self.fpn = FeaturePyramidNetwork(list(channels), features)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the features of each level by name, from (n, 3, h, w)."""
        fine = self.fine(self.stem(pixels))
        middle = self.middle(functional.max_pool2d(fine, 2))
        coarse = self.coarse(functional.max_pool2d(middle, 2))
        pyramid: dict[str, torch.Tensor] = self.fpn(
            OrderedDict(zip(LEVELS, (fine, middle, coarse), strict=True))
        )
        return pyramid


def build(
    channels: tuple[int, int, int] = (32, 64, 160),
    features: int = 48,
    box_features: int = 192,
    mask_features: int = 32,
) -> nn.Module:
    """Build the network, its weights random, ready to be trained.

    Parameters
    ----------
    channels, features
        See `Backbone`.
    box_features, mask_features
        Widths of the heads that look at boxes.
    """

    def pool(side: int) -> nn.Module:
        return MultiScaleRoIAlign(
            list(LEVELS),
            output_size=side,
            # A point of what is pooled is finer than the features, or little coarser.
            sampling_ratio=1,
            canonical_scale=FINEST_UP_TO_PX,
            canonical_level=2,
        )

    network: nn.Module = MaskRCNN(
        Backbone(channels, features),
        rpn_anchor_generator=AnchorGenerator(ANCHORS_PX, (ASPECTS,) * len(ANCHORS_PX)),
        rpn_head=RPNHead(features, len(ANCHORS_PX[0]) * len(ASPECTS)),
        # Beside boxes of 10 px or so, anchors some pixels apart are seldom any nearer.
        rpn_fg_iou_thresh=0.6,
        # In training, of each crop.
        rpn_pre_nms_top_n_train=600,
        rpn_post_nms_top_n_train=300,
        box_batch_size_per_image=128,
        box_roi_pool=pool(BOX_SIDE),
        box_head=TwoMLPHead(features * BOX_SIDE**2, box_features),
        box_predictor=FastRCNNPredictor(box_features, 2),
        mask_roi_pool=pool(MASK_SIDE // 2),
        mask_head=MaskRCNNHeads(features, (mask_features, mask_features), 1),
        mask_predictor=MaskRCNNPredictor(mask_features, mask_features, 2),
    )
    return network


def shape_in(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the arguments of `build` that a state dict was built with.

    Raises
    ------
    KeyError
        If it is not that of such a network.
    """

    def width(name: str) -> int:
        return len(state[f"{name}.weight"])

    return {
        "channels": tuple(
            width(f"backbone.{name}") for name in ("stem.0", "middle.0.0", "coarse.0.0")
        ),
        "features": width("backbone.fpn.layer_blocks.0.0"),
        "box_features": width("roi_heads.box_head.fc7"),
        "mask_features": width("roi_heads.mask_head.0.0"),
    }
