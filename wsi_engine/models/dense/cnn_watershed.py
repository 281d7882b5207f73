"""``cnn-watershed``: a probability map, seeds by conditional erosion, seeded watershed.

The network only says where nuclei are. Clumps are eroded until they fall into pieces of the
size of a nucleus's core; the pieces are seeds, from which the clump is flooded again.

References
----------
Kowal M, Żejmo M, Skobel M, Korbicz J, Monczak R. Cell nuclei segmentation in cytological images
using convolutional neural network and seeded watershed algorithm. J Digit Imaging 33:231-242,
2020.
Yang X, Li H, Zhou X. Nuclei segmentation using marker-controlled watershed, tracking using
mean-shift, and Kalman filter in time-lapse microscopy. IEEE Trans Circuits Syst I 53:2405-2414,
2006: conditional erosion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.models.dense import decoding, label_geometry
from wsi_engine.models.dense.method import (
    UNET_RADIUS_PX,
    DenseMethod,
    DenseTargets,
    Labels,
    Maps,
    dense_spec,
)
from wsi_engine.models.flooding import flooded
from wsi_engine.nuclei.predictions import Predictions

if TYPE_CHECKING:
    import torch
    from torch import nn

DEEPEST_PX = 20.0
"""Distances to the border are cut off here, so that the distance of a pixel stays local."""
COARSE, FINE = (2.0, 160), (1.0, 50)
"""Erosions: by a disc of so many pixels in radius, until a piece is no larger than so many."""
MOST_EROSIONS = 8


def build(**shape: object) -> nn.Module:
    """Build the network: the logit of being nucleus."""
    from wsi_engine.models.dense.networks import UNet

    return UNet(1, **shape)  # type: ignore[arg-type]


def maps(logits: torch.Tensor) -> torch.Tensor:
    """Probability of being nucleus."""
    return logits.sigmoid()


def decode(maps: Maps, level: float) -> Predictions:
    """Turn the nuclear probability of one tile into nuclei.

    Parameters
    ----------
    maps
        uint8, shape (height, width, 1).
    level
        Probability above which a pixel is nucleus.
    """
    nucleus = decoding.channel(maps, 0)
    mask = decoding.above(nucleus, level)
    depth = np.minimum(ndimage.distance_transform_edt(mask), DEEPEST_PX).astype(np.float32)
    seeds = decoding.components(eroded_conditionally(mask, depth))
    relief = decoding.blurred(-depth)
    return decoding.nuclei_of(flooded(relief, seeds, mask), nucleus, level)


def eroded_conditionally(
    mask: npt.NDArray[np.bool_], depth: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Erode each connected part until its pieces are small, but none until it is gone.

    First coarsely, which keeps to the gross shape and falls for no bump of the border, then
    finely.

    Parameters
    ----------
    mask
        bool, shape (height, width).
    depth
        Distance of each pixel to the border of the mask.

    Returns
    -------
    numpy.ndarray
        bool, the seeds: pieces that were not eroded further, within the mask.
    """
    seeds, eroded_px = mask.copy(), np.zeros(mask.shape, np.float32)
    for step, largest in (COARSE, FINE):
        for _ in range(MOST_EROSIONS):
            pieces, count = ndimage.label(seeds, decoding.SEED_SIDES)
            less = seeds & (depth > eroded_px + step)
            size = np.bincount(pieces.ravel(), minlength=count + 1)
            left = np.bincount(pieces[less], minlength=count + 1)
            goes_on = (size > largest) & (left >= decoding.SMALLEST_SEED_PX)
            goes_on[0] = False
            if not goes_on.any():
                break
            within = goes_on[pieces]
            eroded_px[within] += step
            seeds = np.where(within, less, seeds)
    return seeds


def targets(labels: Labels, *, margin_px: int, inner_boundary_weight: float = 1.0) -> DenseTargets:
    """Share of nucleus in each pixel, whichever nucleus it is; see `method.TargetsOf`."""
    del inner_boundary_weight  # there are no boundaries between nuclei in this map
    known = labels != label_geometry.UNKNOWN
    nucleus = label_geometry.shares(known & (labels != 0), margin_px)
    return DenseTargets(nucleus[..., None], label_geometry.least(known, margin_px)[..., None])


def loss(logits: torch.Tensor, maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of nucleus and background."""
    from wsi_engine.models.dense.losses import binary_cross_entropy

    return binary_cross_entropy(logits, maps, weights)


METHOD = DenseMethod(
    spec=dense_spec(
        "cnn-watershed",
        "Nuclear probability, seeds by conditional erosion, seeded watershed",
        UNET_RADIUS_PX,
        decoding.LARGEST_HOLE_PX + int(DEEPEST_PX) + decoding.BLUR_REACH_PX,
    ),
    network_radius_px=UNET_RADIUS_PX,
    build=build,
    shape={"channels": (32, 64, 128), "features": 48},
    maps=maps,
    decode=decode,
    targets=targets,
    loss=loss,
)
