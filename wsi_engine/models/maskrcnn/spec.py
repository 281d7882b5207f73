"""The facts about Mask R-CNN, to be had without torch and torchvision."""

from __future__ import annotations

from pathlib import Path

from wsi_engine.models.protocol import ModelSpec

NAME = "mask-rcnn"

WEIGHTS = Path(__file__).parents[1] / "weights" / f"{NAME}.safetensors"
"""Those that come with the package, if it has them."""

CELL_PX = 16
"""Side of the cells, aligned to the tile, that detections are kept in by their centres."""
SLOTS = 4
"""Detections that a cell of 8 µm holds: more nuclei than have room for their centres there."""
MASK_SIDE = 28
"""Points along a side of the mask of a box, as torchvision has them."""

LONGEST_PX = 64
"""Longest side of a box: 32 µm at 0.5 µm/px."""
SHIFT_PX = 16
"""How far each of the two stages may move the centre of a box."""

FINEST_UP_TO_PX = 24
"""Boxes of this size are looked at on the second level of features, smaller ones on the first."""

NETWORK_RADIUS_PX = 64
"""How far from a point of the features a pixel can change what the network says there."""

SPEC = ModelSpec(
    name=NAME,
    summary="Mask R-CNN of torchvision on a compact backbone: boxes, and a mask in each",
    mpp=0.5,
    stride=CELL_PX,
    # The second stage looks at all of a proposal, and from there as far as the network does.
    receptive_radius_px=NETWORK_RADIUS_PX + LONGEST_PX // 2 + SHIFT_PX,
    # Outlines run up to half a pixel around the pixels of a mask, which lie in its box.
    largest_object_px=LONGEST_PX + 1,
    classes=(),
    licence="Apache-2.0",
    embedded=WEIGHTS.exists(),
    max_overlap=0.1,
    # The anchor is the centre of the box.
    reach_px=LONGEST_PX // 2 + 1,
)
