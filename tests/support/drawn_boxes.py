"""A Mask R-CNN that needs no training: boxes and masks around what is dark."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from wsi_engine.models.maskrcnn.model import MaskRcnnModel
from wsi_engine.models.maskrcnn.network import ANCHORS_PX, ASPECTS, LEVELS, build

SQUARE_OF_16 = ASPECTS.index(1.0) * len(ANCHORS_PX[0]) + ANCHORS_PX[0].index(16)


class _Features(nn.Module):
    """How little red light comes through: above 0 in nuclei."""

    out_channels = 1

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        dark = -pixels[:, :1]
        steps = (2, 4, 8)
        return OrderedDict(
            (k, functional.avg_pool2d(dark, s)) for k, s in zip(LEVELS, steps, strict=True)
        )


class _Proposals(nn.Module):
    """A square of 16 px wherever it is dark."""

    def forward(self, levels: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        count = len(ANCHORS_PX[0]) * len(ASPECTS)
        logits = [level.new_full((1, count, *level.shape[2:]), -9.0) for level in levels]
        logits[0][:, SQUARE_OF_16] = 4 * functional.avg_pool2d(levels[0], 3, 1, 1)[:, 0]
        return logits, [level.new_zeros((1, 4 * count, *level.shape[2:])) for level in levels]


class _Boxes(nn.Module):
    """The box of the ellipse with the moments of what is dark, the surer the better it fits."""

    def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dark = seen[:, 0].float()
        weight = (6 * dark).sigmoid()
        mass = weight.sum((1, 2)) + 1e-3
        at = (torch.arange(7) - 3) / 7
        moments = []
        for axis in (1, 2):
            along = weight.sum(axis)
            centre = (along * at).sum(1) / mass
            spread = (along * (at - centre[:, None]) ** 2).sum(1) / mass
            moments.append((centre, 4 * spread.sqrt() + 0.1))
        (x, width), (y, height) = moments
        deltas = torch.stack([10 * x, 10 * y, 5 * width.log(), 5 * height.log()], 1)
        border = (dark.sum((1, 2)) - dark[:, 1:-1, 1:-1].sum((1, 2))) / 24
        score = 2 * dark[:, 2:5, 2:5].mean((1, 2)) - border - 1
        logits = torch.stack([torch.zeros_like(score), score], 1)
        return logits, torch.cat([torch.zeros_like(deltas), deltas], 1)


class _Masks(nn.Module):
    """What is dark in a box."""

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        fine = functional.interpolate(seen, scale_factor=2, mode="bilinear")
        return (6 * fine).expand(-1, 2, -1, -1)


def drawn_mask_rcnn() -> MaskRcnnModel:
    """A Mask R-CNN, torchvision's but for what it would have to learn, that finds dark nuclei."""
    network = build((4, 4, 4), 4, 4, 4).eval().requires_grad_(False)
    network.backbone = _Features()
    network.rpn.head = _Proposals()
    network.roi_heads.box_head = nn.Identity()
    network.roi_heads.box_predictor = _Boxes()
    network.roi_heads.mask_head = nn.Identity()
    network.roi_heads.mask_predictor = _Masks()
    return MaskRcnnModel(network)
