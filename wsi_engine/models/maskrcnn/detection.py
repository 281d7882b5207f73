"""What a network detects on one tile, whatever the size of the tile.

The two stages are torchvision's, with its own layers. Left out is what depends on the image:
resizing, and the best so many proposals and detections of an image, in place of which come the
best so many around each place. Boxes are looked at in portions of one size, so that the
arithmetic for one does not depend on how many others there are, and memory is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from wsi_engine.models.maskrcnn.boxes import suppress
from wsi_engine.models.maskrcnn.decoding import packed
from wsi_engine.models.maskrcnn.network import LEVELS, PROPOSING
from wsi_engine.models.maskrcnn.pooling import channels_last, pooled
from wsi_engine.models.maskrcnn.spec import LONGEST_PX, MASK_SIDE, SHIFT_PX, SLOTS

OBJECTNESS = 0.15
"""From here on a proposal is looked at."""
PROPOSALS_IOU = 0.6
PROPOSALS_PER_CELL = 8
SCORE = 0.2
"""From here on a detection is kept: the lowest threshold that a model can have."""
DETECTIONS_IOU = 0.5
SHORTEST_PX = 3.0
PORTION = 64
"""Boxes that are looked at together."""

Features = dict[str, torch.Tensor]


def detect(network: Any, pixels: torch.Tensor) -> npt.NDArray[np.float16]:
    """Detect the nuclei of one tile.

    Parameters
    ----------
    network
        As `wsi_engine.models.maskrcnn.network.build` builds it, in evaluation mode.
    pixels
        Shape (1, 3, height, width), in the network's precision.

    Returns
    -------
    numpy.ndarray
        Detections by cell; see `wsi_engine.models.maskrcnn.decoding.packed`.

    Raises
    ------
    FloatingPointError
        If the network computes NaN.
    """
    features: Features = network.backbone(pixels)
    proposals = _proposals(network.rpn, features, pixels)
    second = _SecondStage(network.roi_heads, features, pixels)
    boxes, scores = second.classified(proposals)
    # From the centres of pixels to their corners, in which the cells are.
    corners = boxes + np.float32(0.5)
    kept = suppress(corners, scores, DETECTIONS_IOU, SLOTS)
    masks = second.masks(torch.from_numpy(boxes[kept]).to(pixels.device))
    return packed(corners[kept], scores[kept], masks, second.size)


def _proposals(rpn: Any, features: Features, pixels: torch.Tensor) -> torch.Tensor:
    """Return the boxes that the first stage proposes, shape (n, 4)."""
    levels = [features[level] for level in PROPOSING]
    logits, deltas = rpn.head(levels)
    # The generator takes the precision of its anchors from the features.
    points = [level.float() for level in levels]
    anchors = rpn.anchor_generator(ImageList(pixels, [tuple(pixels.shape[2:])]), points)[0]
    logits, deltas = concat_box_prediction_layers(logits, deltas)
    objectness = _finite(logits.float().sigmoid().flatten())
    chosen = torch.nonzero(objectness >= OBJECTNESS).flatten()
    anchors = anchors[chosen]
    boxes = rpn.box_coder.decode_single(deltas[chosen].float(), anchors)
    kept = _usable(boxes, anchors, (pixels.shape[2], pixels.shape[3]))
    best = suppress(
        _host(boxes[kept]), _host(objectness[chosen][kept]), PROPOSALS_IOU, PROPOSALS_PER_CELL
    )
    return boxes[kept][torch.from_numpy(best).to(boxes.device)]


class _SecondStage:
    """What looks at boxes, on the features of one tile."""

    def __init__(self, heads: Any, features: Features, pixels: torch.Tensor) -> None:
        self.heads, self.dtype = heads, pixels.dtype
        self.size = (pixels.shape[2], pixels.shape[3])
        # As pooling takes them: it would convert all of them for every portion.
        self.on_processor = pixels.device.type == "cpu"
        if self.on_processor:
            self.levels = tuple(channels_last(features[level]) for level in LEVELS)
        else:
            self.features = {level: features[level].float().contiguous() for level in LEVELS}

    def pooled(self, pool: Any, boxes: torch.Tensor) -> torch.Tensor:
        """Return the features in boxes as one of torchvision's poolers does."""
        if self.on_processor:
            return pooled(self.levels, boxes, pool.output_size[0]).to(self.dtype)
        found: torch.Tensor = pool(self.features, [boxes], [self.size])
        return found.to(self.dtype)

    def classified(
        self, proposals: torch.Tensor
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return what becomes of proposals: boxes of nuclei, and their scores."""

        def answer(boxes: torch.Tensor) -> torch.Tensor:
            seen = self.pooled(self.heads.box_roi_pool, boxes)
            logits, deltas = self.heads.box_predictor(self.heads.box_head(seen))
            return torch.cat([logits.float().softmax(1)[:, 1:], deltas[:, 4:8].float()], dim=1)

        answers = _in_portions(proposals, answer, (5,))
        scores = _finite(answers[:, 0])
        boxes = self.heads.box_coder.decode_single(answers[:, 1:], proposals)
        kept = _usable(boxes, proposals, self.size) & (scores >= SCORE)
        return _host(boxes[kept]), _host(scores[kept])

    def masks(self, boxes: torch.Tensor) -> npt.NDArray[np.float32]:
        """Return the mask in each box, 0 to 1, shape (n, side, side)."""

        def answer(part: torch.Tensor) -> torch.Tensor:
            seen = self.pooled(self.heads.mask_roi_pool, part)
            logits: torch.Tensor = self.heads.mask_predictor(self.heads.mask_head(seen))[:, 1]
            return logits.float().sigmoid()

        return _host(_finite(_in_portions(boxes, answer, (MASK_SIDE, MASK_SIDE))))


def _usable(boxes: torch.Tensor, before: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Tell which boxes have a plausible size, did not run away, and have their centre here."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    shift = (centres - (before[:, 2:] + before[:, :2]) / 2).abs()
    end = torch.tensor([size[1], size[0]], device=boxes.device) - 0.5
    fits = (sides >= SHORTEST_PX) & (sides <= LONGEST_PX) & (shift <= SHIFT_PX)
    # From 0 and not from the pixel's corner at -0.5: cells begin at 0 for `suppress`.
    return (fits & (centres >= 0) & (centres < end)).all(1)


def _in_portions(
    boxes: torch.Tensor, answer: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]
) -> torch.Tensor:
    """Ask about all boxes, so many at a time, the last with some that are empty."""
    answers = [boxes.new_empty((0, *shape))]
    for start in range(0, len(boxes), PORTION):
        part = boxes[start : start + PORTION]
        filled = functional.pad(part, (0, 0, 0, PORTION - len(part)))
        answers.append(answer(filled)[: len(part)])
    return torch.cat(answers)


def _finite(values: torch.Tensor) -> torch.Tensor:
    if bool(torch.isnan(values).any()):
        raise FloatingPointError
    return values


def _host(values: torch.Tensor) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values.cpu().numpy(), np.float32)
