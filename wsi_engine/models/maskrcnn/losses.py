"""The five losses of Mask R-CNN, torchvision's own, where not all of an image is known.

Anchors and proposals that mostly cover what is unknown teach nothing. In place of torchvision's
forward pass, which knows no such thing and resizes images, its steps are taken one by one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers

from wsi_engine.models.learning import Tensors
from wsi_engine.models.maskrcnn.network import LEVELS, PROPOSING

UNKNOWN_INSTANCE = -1
UNKNOWN_SHARE = 0.5
"""Share of a box from which on it is not known whether it holds a nucleus."""


def mask_rcnn_losses(
    network: Any, pixels: torch.Tensor, targets: Tensors
) -> dict[str, torch.Tensor]:
    """Return the losses of both stages by name.

    Parameters
    ----------
    network
        As `wsi_engine.models.maskrcnn.network.build` builds it.
    pixels
        Shape (n, 3, height, width).
    targets
        See `wsi_engine.models.maskrcnn.learning.MaskRcnnLearner.targets`.
    """
    rpn, heads = network.rpn, network.roi_heads
    features = network.backbone(pixels)
    levels = [features[level].float() for level in PROPOSING]
    sizes = [tuple(pixels.shape[2:])] * len(pixels)
    truth = _truth(targets, len(pixels))
    finer = targets["instances"].shape[-1] // pixels.shape[-1]

    per_level, per_level_deltas = rpn.head(levels)
    anchors = rpn.anchor_generator(ImageList(pixels, sizes), levels)
    counts = [logits[0].numel() for logits in per_level]
    objectness, deltas = concat_box_prediction_layers(per_level, per_level_deltas)
    objectness, deltas = objectness.float(), deltas.float()
    labels, matched = rpn.assign_targets_to_anchors(anchors, truth)
    unknown = [_sums_of_unknown(instances, finer) for instances in targets["instances"]]
    for label, boxes, sums in zip(labels, anchors, unknown, strict=True):
        label[(label == 0) & _is_unknown(boxes, sums)] = -1
    nothing = 0 * objectness.sum()
    losses = dict.fromkeys(("objectness", "proposal", "class", "box", "mask"), nothing)
    if any(bool((label >= 0).any()) for label in labels):
        wanted = rpn.box_coder.encode(matched, anchors)
        losses["objectness"], losses["proposal"] = rpn.compute_loss(
            objectness, deltas, labels, wanted
        )

    boxes = rpn.box_coder.decode(deltas.detach(), anchors).view(len(pixels), -1, 4)
    proposals, _ = rpn.filter_proposals(boxes, objectness, sizes, counts)
    proposals = [
        part[~_is_unknown(part, sums)] for part, sums in zip(proposals, unknown, strict=True)
    ]
    proposals, matches, kinds, wanted = heads.select_training_samples(proposals, truth)
    if not sum(map(len, proposals)):
        return losses
    fine = {level: features[level].float().contiguous() for level in LEVELS}
    seen = heads.box_head(heads.box_roi_pool(fine, proposals, sizes))
    logits, deltas = (answer.float() for answer in heads.box_predictor(seen))
    losses["class"], losses["box"] = fastrcnn_loss(logits, deltas, kinds, wanted)

    positive = [kind > 0 for kind in kinds]
    boxes = [part[of] for part, of in zip(proposals, positive, strict=True)]
    matches = [match[of] for match, of in zip(matches, positive, strict=True)]
    if sum(map(len, boxes)):
        seen = heads.mask_head(heads.mask_roi_pool(fine, boxes, sizes))
        masks = [
            _masks(instances, match, finer)
            for instances, match in zip(targets["instances"], matches, strict=True)
        ]
        own = [torch.arange(len(match), device=pixels.device) for match in matches]
        ones = [torch.ones_like(match) for match in matches]
        losses["mask"] = maskrcnn_loss(heads.mask_predictor(seen).float(), boxes, masks, ones, own)
    return losses


def _truth(targets: Tensors, count: int) -> list[dict[str, torch.Tensor]]:
    """Return boxes, classes and instances of each crop by torchvision's names."""
    truth = []
    for k in range(count):
        boxes = targets["boxes"][targets["crop"] == k]
        labels = torch.ones(len(boxes), dtype=torch.int64, device=boxes.device)
        # Masks are made of the instances that are looked at; see `_masks`.
        truth.append({"boxes": boxes, "labels": labels, "masks": targets["instances"][k]})
    return truth


def _masks(instances: torch.Tensor, matches: torch.Tensor, finer: int) -> torch.Tensor:
    """Return how much of each pixel some instances cover, shape (k, height, width)."""
    # The points of a pixel first: a sum over them is quicker than pooling as many large maps.
    height, width = instances.shape
    points = instances.reshape(height // finer, finer, width // finer, finer)
    points = points.permute(1, 3, 0, 2).reshape(finer**2, height // finer, width // finer)
    covers = points == (matches + 1)[:, None, None, None]
    return covers.sum(1, dtype=torch.uint8).float() / finer**2


def _sums_of_unknown(instances: torch.Tensor, finer: int) -> torch.Tensor | None:
    """Return how many pixels are unknown above and left of each corner; ``None`` if none is."""
    unknown = instances == UNKNOWN_INSTANCE
    if not bool(unknown.any()):
        return None
    shares = functional.avg_pool2d(unknown[None].float(), finer)[0]
    return functional.pad(shares.cumsum(0).cumsum(1), (1, 0, 1, 0))


def _is_unknown(boxes: torch.Tensor, sums: torch.Tensor | None) -> torch.Tensor:
    """Tell of which boxes too much is unknown, as far as they lie in the image."""
    if sums is None:
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    height, width = (side - 1 for side in sums.shape)
    corners = (boxes + 0.5).round().long()
    x0, x1 = (corners[:, axis].clamp(0, width) for axis in (0, 2))
    y0, y1 = (corners[:, axis].clamp(0, height) for axis in (1, 3))
    unknown = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return unknown >= UNKNOWN_SHARE * ((x1 - x0) * (y1 - y0)).clamp(min=1)
