"""What training minimises."""

from __future__ import annotations

import torch
from torch.nn import functional

from wsi_engine.models.learning import Loss, Tensors
from wsi_engine.nuclei.predictions import NO_CLASS

_FLOOR_PX = 1.0
"""Below this, distances are all alike to the relative error."""


def star_loss(maps: torch.Tensor, targets: Tensors, *, relative: bool = False) -> Loss:
    """Compare predictions with targets.

    The object probability has a binary cross-entropy and the distances a mean absolute
    error weighted by the object probability, as in Schmidt et al. 2018. To the latter a
    term is added that is the overlap of two polygons around one centre, the polar IoU of
    Xie et al., "PolarMask", CVPR 2020, here with squared distances (areas):

        1 - Σ min(d, d̂)² / Σ max(d, d̂)²

    It weighs a nucleus by its shape and not by its size. Classes have a cross-entropy over
    the points of nuclei whose class is known, weighted by the object probability as well.

    Parameters
    ----------
    maps
        Output of the network, float32 (n, 1 + rays + classes, h, w).
    targets
        Those of `wsi_engine.models.starconvex.learning.StarConvexLearner.targets`.
    relative
        Whether the error of a distance is that of its logarithm. In pixels a large nucleus
        counts more than a small one, and what is gained on the one is paid by the other.
    """
    by_point = maps.permute(0, 2, 3, 1)
    cross_entropy = functional.binary_cross_entropy_with_logits(
        by_point[..., 0], targets["probability"], reduction="none"
    )
    probability = _weighted_mean(cross_entropy, targets["probability_weight"])

    # Distances are only asked for inside nuclei: a fraction of the grid.
    inside = by_point.reshape(-1, by_point.shape[-1]).index_select(0, targets["points"])
    true, rays = targets["distances"], targets["distances"].shape[1]
    predicted = functional.softplus(inside[:, 1 : 1 + rays])
    object_probability = targets["probability"].reshape(-1)[targets["points"]]
    weight = object_probability.unsqueeze(1) * targets["distances_weight"]
    if relative:
        error = (torch.log(predicted + _FLOOR_PX) - torch.log(true + _FLOOR_PX)).abs()
        # At a distance of ten pixels this counts as much as it does in pixels.
        distance = 10 * _weighted_mean(error, weight)
    else:
        distance = _weighted_mean((predicted - true).abs(), weight)
    smaller = (torch.minimum(predicted, true).square() * targets["distances_weight"]).sum(1)
    larger = (torch.maximum(predicted, true).square() * targets["distances_weight"]).sum(1)
    overlap = _weighted_mean(1 - smaller / larger.clamp_min(1e-3), weight.mean(1))

    total = probability + 0.1 * distance + 0.5 * overlap
    terms = {"probability": probability, "distance": distance, "overlap": overlap}
    logits = inside[:, 1 + rays :]
    if logits.shape[1] == 0:
        return Loss(total, terms)
    known = object_probability * (targets["classes"] != NO_CLASS)
    each = functional.cross_entropy(
        logits, targets["classes"], ignore_index=NO_CLASS, reduction="none"
    )
    classification = _weighted_mean(each, known)
    return Loss(total + 0.5 * classification, {**terms, "classification": classification})


def _weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1.0)
