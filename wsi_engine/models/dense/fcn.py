"""``fcn``: foreground and distance to the border, decoded by the distance's h-maxima.

References
----------
Long J, Shelhamer E, Darrell T. Fully convolutional networks for semantic segmentation.
CVPR 2015:3431-3440.
Naylor P, Laé M, Reyal F, Walter T. Segmentation of nuclei in histopathology images by deep
regression of the distance map. IEEE Trans Med Imaging 38:448-459, 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsi_engine.models.dense import decoding, label_geometry
from wsi_engine.models.dense.method import (
    LIMITS,
    DenseMethod,
    DenseTargets,
    Labels,
    Maps,
    dense_spec,
)
from wsi_engine.models.flooding import flooded
from wsi_engine.models.label_objects import ObjectLimits
from wsi_engine.models.seeds import DOME_REACH_PX, domes
from wsi_engine.nuclei.predictions import Predictions

if TYPE_CHECKING:
    import torch
    from torch import nn

FOREGROUND, DISTANCE = 0, 1

RADIUS_PX = 68
"""How far away from a pixel another can change what the network says of it."""
DEEPEST_PX = 12.0
"""The distance that is 1 in the map; a nucleus may be deeper."""
DOME_HEIGHT_PX = 0.75
"""How far a neck must be narrower than the nuclei at its ends, in distance to the border."""


def build(**shape: object) -> nn.Module:
    """Build the network: logits of foreground and of distance."""
    from wsi_engine.models.dense.networks import FCN

    return FCN(2, **shape)  # type: ignore[arg-type]


def maps(logits: torch.Tensor) -> torch.Tensor:
    """Probability of the foreground, distance over ``DEEPEST_PX``."""
    return logits.sigmoid()


def decode(maps: Maps, level: float, limits: ObjectLimits = LIMITS) -> Predictions:
    """Turn foreground and distance of one tile into nuclei.

    Parameters
    ----------
    maps
        uint8, shape (height, width, 2).
    level
        Probability above which a pixel is foreground.
    limits
        What an object must be to be a nucleus.
    """
    foreground = decoding.channel(maps, FOREGROUND)
    distance = decoding.blurred(decoding.channel(maps, DISTANCE)) * (DEEPEST_PX / decoding.FULL)
    mask = decoding.above(foreground, level)
    labels = flooded(-distance, domes(distance, mask, DOME_HEIGHT_PX), mask)
    return decoding.nuclei_of(labels, foreground, level, limits)


def targets(labels: Labels, *, margin_px: int, inner_boundary_weight: float = 1.0) -> DenseTargets:
    """Share of the foreground in each pixel, and distance; see `method.TargetsOf`."""
    known = labels != label_geometry.UNKNOWN
    depth, to_nucleus, to_unknown = label_geometry.depth_in_nuclei(labels)
    trust = known.astype(np.float32)
    trust_in_depth = trust.copy()
    trust_in_depth[to_nucleus] = inner_boundary_weight
    trust_in_depth[to_unknown] = 0
    answers = known & (labels != 0), np.minimum(depth / np.float32(DEEPEST_PX), 1)
    return DenseTargets(
        np.stack([label_geometry.shares(answer, margin_px) for answer in answers], axis=-1),
        np.stack([label_geometry.least(w, margin_px) for w in (trust, trust_in_depth)], axis=-1),
    )


def loss(logits: torch.Tensor, maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the foreground, and the error of the distance."""
    from wsi_engine.models.dense.losses import binary_cross_entropy, smooth_absolute

    foreground, distance = slice(FOREGROUND, FOREGROUND + 1), slice(DISTANCE, DISTANCE + 1)
    return binary_cross_entropy(
        logits[:, foreground], maps[..., foreground], weights[..., foreground]
    ) + smooth_absolute(logits[:, distance], maps[..., distance], weights[..., distance])


METHOD = DenseMethod(
    spec=dense_spec(
        "fcn",
        "Fully convolutional network with foreground and distance map, h-maxima",
        RADIUS_PX,
        decoding.LARGEST_HOLE_PX + decoding.BLUR_REACH_PX + DOME_REACH_PX,
    ),
    network_radius_px=RADIUS_PX,
    build=build,
    shape={"channels": (32, 64, 192)},
    maps=maps,
    decode=decode,
    targets=targets,
    loss=loss,
)
