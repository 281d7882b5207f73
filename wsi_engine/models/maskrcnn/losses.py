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

ByName = dict[str, torch.Tensor]
Sums = torch.Tensor | None

UNKNOWN_INSTANCE = -1
UNKNOWN_SHARE = 0.5
"""Share of a box from which on it is not known whether it holds a nucleus."""


def mask_rcnn_losses(network: Any, pixels: torch.Tensor, targets: Tensors) -> ByName:
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
    features = network.backbone(pixels)
    images = ImageList(pixels, [tuple(pixels.shape[2:])] * len(pixels))
    instances = targets["instances"]
    finer = instances.shape[-1] // pixels.shape[-1]
    unknown = [_sums_of_unknown(each, finer) for each in instances]
    truth = _truth(targets, len(pixels))
    first, proposals = _first_stage(network.rpn, features, images, truth, unknown)
    sizes = images.image_sizes
    return first | _second_stage(network.roi_heads, features, proposals, sizes, truth, finer)


def _first_stage(
    rpn: Any, features: ByName, images: ImageList, truth: list[ByName], unknown: list[Sums]
) -> tuple[ByName, list[torch.Tensor]]:
    """Return the losses of the proposals, and those that the second stage is to look at."""
    levels = [features[level].float() for level in PROPOSING]
    per_level, per_level_deltas = rpn.head(levels)
    counts = [logits[0].numel() for logits in per_level]
    objectness, deltas = concat_box_prediction_layers(per_level, per_level_deltas)
    objectness, deltas = objectness.float(), deltas.float()
    anchors = rpn.anchor_generator(images, levels)
    labels, matched = rpn.assign_targets_to_anchors(anchors, truth)
    for label, boxes, sums in zip(labels, anchors, unknown, strict=True):
        label[(label == 0) & _is_unknown(boxes, sums)] = -1
    losses = dict.fromkeys(("objectness", "proposal"), 0 * objectness.sum())
    if any(bool((label >= 0).any()) for label in labels):
        wanted = rpn.box_coder.encode(matched, anchors)
        losses["objectness"], losses["proposal"] = rpn.compute_loss(
            objectness, deltas, labels, wanted
        )
    sizes = images.image_sizes
    boxes = rpn.box_coder.decode(deltas.detach(), anchors).view(len(sizes), -1, 4)
    proposals, _ = rpn.filter_proposals(boxes, objectness, sizes, counts)
    known = [part[~_is_unknown(part, sums)] for part, sums in zip(proposals, unknown, strict=True)]
    return losses, known


def _second_stage(
    heads: Any,
    features: ByName,
    proposals: list[torch.Tensor],
    sizes: list[tuple[int, int]],
    truth: list[ByName],
    finer: int,
) -> ByName:
    """Return the losses of what is said of the proposals, and of the masks in them."""
    fine = {level: features[level].float().contiguous() for level in LEVELS}
    losses = dict.fromkeys(("class", "box", "mask"), 0 * fine[LEVELS[0]].sum())
    proposals, matches, kinds, wanted = heads.select_training_samples(proposals, truth)
    if not sum(map(len, proposals)):
        return losses
    seen = heads.box_head(heads.box_roi_pool(fine, proposals, sizes))
    logits, deltas = (answer.float() for answer in heads.box_predictor(seen))
    losses["class"], losses["box"] = fastrcnn_loss(logits, deltas, kinds, wanted)
    nuclei = [kind > 0 for kind in kinds]
    boxes = [part[which] for part, which in zip(proposals, nuclei, strict=True)]
    matches = [match[which] for match, which in zip(matches, nuclei, strict=True)]
    if sum(map(len, boxes)):
        seen = heads.mask_head(heads.mask_roi_pool(fine, boxes, sizes))
        masks = [_masks(t["masks"], match, finer) for t, match in zip(truth, matches, strict=True)]
        own = [torch.arange(len(match), device=match.device) for match in matches]
        ones = [torch.ones_like(match) for match in matches]
        losses["mask"] = maskrcnn_loss(heads.mask_predictor(seen).float(), boxes, masks, ones, own)
    return losses


def _truth(targets: Tensors, count: int) -> list[ByName]:
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


def _sums_of_unknown(instances: torch.Tensor, finer: int) -> Sums:
    """Return how many pixels are unknown above and left of each corner; ``None`` if none is."""
    unknown = instances == UNKNOWN_INSTANCE
    if not bool(unknown.any()):
        return None
    shares = functional.avg_pool2d(unknown[None].float(), finer)[0]
    return functional.pad(shares.cumsum(0).cumsum(1), (1, 0, 1, 0))


def _is_unknown(boxes: torch.Tensor, sums: Sums) -> torch.Tensor:
    """Tell of which boxes too much is unknown, as far as they lie in the image."""
    if sums is None:
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    height, width = (side - 1 for side in sums.shape)
    corners = (boxes + 0.5).round().long()
    x0, x1 = (corners[:, axis].clamp(0, width) for axis in (0, 2))
    y0, y1 = (corners[:, axis].clamp(0, height) for axis in (1, 3))
    unknown = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return unknown >= UNKNOWN_SHARE * ((x1 - x0) * (y1 - y0)).clamp(min=1)
