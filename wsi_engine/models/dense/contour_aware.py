"""``contour-aware``: nucleus and contour maps; what is left of a nucleus grows back.

Cui et al. cut an image into overlapping patches, weigh down what a patch says near its own
border, and add up the patches: a "seamless" map. Here that is the halo of the engine: a tile
reads so much of its surroundings that every pixel it reports has its whole receptive field, so
there is nothing to weigh down, and nothing to add up; the map of a pixel is the same in every
tile that reports it, to the last bit of the arithmetic.

References
----------
Cui Y, Zhang G, Liu Z, Xiong Z, Hu J. A deep learning algorithm for one-step contour aware nuclei
segmentation of histopathology images. Med Biol Eng Comput 57:2027-2043, 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage import segmentation

from wsi_engine.models.dense import decoding, label_geometry
from wsi_engine.models.dense.method import (
    UNET_RADIUS_PX,
    DenseMethod,
    DenseTargets,
    Labels,
    Maps,
    dense_spec,
)
from wsi_engine.nuclei.predictions import Predictions

if TYPE_CHECKING:
    import torch
    from torch import nn

NUCLEUS, CONTOUR = 0, 1

CONTOUR_PX = 1.0
"""How far a contour reaches to either side of a nucleus's border."""
CONTOUR_LEVEL = 0.5
GROWTH_PX = 3
"""How far a core grows back into the contour that was taken from it."""


def build(**shape: object) -> nn.Module:
    """Build the network: logits of nucleus and of contour, which may both be true."""
    from wsi_engine.models.dense.networks import UNet

    return UNet(2, **shape)  # type: ignore[arg-type]


def maps(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities of nucleus and contour."""
    return logits.sigmoid()


def decode(maps: Maps, level: float) -> Predictions:
    """Turn nucleus and contour of one tile into nuclei.

    Parameters
    ----------
    maps
        uint8, shape (height, width, 2).
    level
        Probability above which a pixel is nucleus.
    """
    nucleus, contour = decoding.channel(maps, NUCLEUS), decoding.channel(maps, CONTOUR)
    inside = contour < CONTOUR_LEVEL * decoding.FULL
    cores = decoding.components(inside & (nucleus >= level * decoding.FULL))
    grown = np.asarray(segmentation.expand_labels(cores, GROWTH_PX), np.int32)
    labels = np.where(decoding.above(nucleus, level), grown, 0)
    return decoding.nuclei_of(labels, nucleus, level)


def targets(labels: Labels, *, margin_px: int, inner_boundary_weight: float = 1.0) -> DenseTargets:
    """Shares of nucleus and of contour in each pixel; see `method.TargetsOf`."""
    distance, beyond = label_geometry.across_border(labels, CONTOUR_PX)
    known = labels != label_geometry.UNKNOWN
    near = distance <= CONTOUR_PX
    contour = known & near & (beyond != label_geometry.UNKNOWN_BEYOND)
    trust = known.astype(np.float32)
    trust_in_contour = trust.copy()
    between = (labels != 0) & (beyond == label_geometry.NUCLEUS_BEYOND)
    trust_in_contour[contour & between] = inner_boundary_weight
    trust_in_contour[near & (beyond == label_geometry.UNKNOWN_BEYOND)] = 0
    answers = known & (labels != 0), contour
    return DenseTargets(
        np.stack([label_geometry.shares(answer, margin_px) for answer in answers], axis=-1),
        np.stack([label_geometry.least(w, margin_px) for w in (trust, trust_in_contour)], axis=-1),
    )


def loss(logits: torch.Tensor, maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropies of nucleus and of contour, each the mean over its own pixels."""
    from wsi_engine.models.dense.losses import binary_cross_entropy

    parts = [slice(k, k + 1) for k in (NUCLEUS, CONTOUR)]
    nucleus, contour = (
        binary_cross_entropy(logits[:, part], maps[..., part], weights[..., part]) for part in parts
    )
    return nucleus + contour


METHOD = DenseMethod(
    spec=dense_spec(
        "contour-aware",
        "Nucleus and contour maps, cores grown back",
        UNET_RADIUS_PX,
        decoding.LARGEST_HOLE_PX + GROWTH_PX,
    ),
    network_radius_px=UNET_RADIUS_PX,
    build=build,
    shape={"channels": (32, 64, 160), "features": 64},
    maps=maps,
    decode=decode,
    targets=targets,
    loss=loss,
)
