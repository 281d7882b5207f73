"""``unet``: background, interior and boundary, decoded by seeded watershed.

Interiors are seeds, for the boundary between two touching nuclei parts them; each floods the
nuclear pixels around it, up to where boundaries are most certain.

References
----------
Ronneberger O, Fischer P, Brox T. U-Net: convolutional networks for biomedical image
segmentation. MICCAI 2015:234-241.
Caicedo JC et al. Evaluation of deep learning strategies for nucleus segmentation in
fluorescence images. Cytometry A 95:952-965, 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsi_engine.models.dense import decoding, label_geometry
from wsi_engine.models.dense.method import (
    LIMITS,
    UNET_RADIUS_PX,
    DenseMethod,
    DenseTargets,
    Labels,
    Maps,
    dense_spec,
)
from wsi_engine.models.flooding import flooded
from wsi_engine.models.label_objects import ObjectLimits
from wsi_engine.nuclei.predictions import Predictions

if TYPE_CHECKING:
    import torch
    from torch import nn

INTERIOR, BOUNDARY = 0, 1
"""Maps that are decoded; what is left to 1 is background."""

BOUNDARY_PX = 1.0
"""How far into a nucleus its boundary reaches."""
SEED_LEVEL = 0.5
TOUCHING_WEIGHT = 2.0
"""Boundaries between touching nuclei are rare and decide most (Ronneberger 2015, eq. 2)."""


def build(**shape: object) -> nn.Module:
    """Build the network: logits of background, interior, boundary."""
    from wsi_engine.models.dense.networks import UNet

    return UNet(3, **shape)  # type: ignore[arg-type]


def maps(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities of interior and boundary."""
    return logits.softmax(1)[:, 1:]


def decode(maps: Maps, level: float, limits: ObjectLimits = LIMITS) -> Predictions:
    """Turn interior and boundary of one tile into nuclei.

    Parameters
    ----------
    maps
        uint8, shape (height, width, 2).
    level
        Probability of being either above which a pixel is nucleus.
    limits
        What an object must be to be a nucleus.
    """
    interior, boundary = decoding.channel(maps, INTERIOR), decoding.channel(maps, BOUNDARY)
    nucleus = interior + boundary
    seeds = decoding.components(interior >= SEED_LEVEL * decoding.FULL)
    relief = decoding.blurred(boundary - interior)
    labels = flooded(relief, seeds, decoding.above(nucleus, level) | (seeds > 0))
    return decoding.nuclei_of(labels, nucleus, level, limits)


def targets(labels: Labels, *, margin_px: int, inner_boundary_weight: float = 1.0) -> DenseTargets:
    """Shares of background, interior and boundary in each pixel; see `method.TargetsOf`."""
    distance, beyond = label_geometry.across_border(labels, BOUNDARY_PX)
    known = labels != label_geometry.UNKNOWN
    nucleus = known & (labels != 0)
    boundary = nucleus & (distance <= BOUNDARY_PX)
    weight = known.astype(np.float32)
    weight[boundary & (beyond == label_geometry.UNKNOWN_BEYOND)] = 0
    touching = boundary & (beyond == label_geometry.NUCLEUS_BEYOND)
    weight[touching] = TOUCHING_WEIGHT * inner_boundary_weight
    classes = np.stack(
        [
            label_geometry.shares(part, margin_px)
            for part in (~nucleus, nucleus & ~boundary, boundary)
        ],
        axis=-1,
    )
    return DenseTargets(classes, label_geometry.least(weight, margin_px)[..., None])


def loss(logits: torch.Tensor, maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the three classes."""
    from wsi_engine.models.dense.losses import cross_entropy

    return cross_entropy(logits, maps, weights)


METHOD = DenseMethod(
    spec=dense_spec(
        "unet",
        "U-Net with background, interior and boundary, seeded watershed",
        UNET_RADIUS_PX,
        decoding.LARGEST_HOLE_PX + decoding.BLUR_REACH_PX,
    ),
    network_radius_px=UNET_RADIUS_PX,
    build=build,
    shape={"channels": (32, 64, 160), "features": 64},
    maps=maps,
    decode=decode,
    targets=targets,
    loss=loss,
)
