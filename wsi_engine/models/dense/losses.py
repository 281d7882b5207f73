"""What training minimises, made of logits, and of targets with weights."""

from __future__ import annotations

import torch
from torch.nn import functional


def cross_entropy(
    logits: torch.Tensor, shares: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of classes that exclude each other, where a pixel may be part of several.

    Parameters
    ----------
    logits
        Shape (n, classes, h, w).
    shares
        Summing to 1, shape (n, h, w, classes).
    weights
        Shape (n, h, w, 1).
    """
    each = -(shares * logits.permute(0, 2, 3, 1).log_softmax(dim=-1)).sum(-1, keepdim=True)
    return weighted_mean(each, weights)


def binary_cross_entropy(
    logits: torch.Tensor, shares: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of answers that do not exclude each other; shapes as above."""
    each = functional.binary_cross_entropy_with_logits(
        logits.permute(0, 2, 3, 1), shares, reduction="none"
    )
    return weighted_mean(each, weights)


def smooth_absolute(
    logits: torch.Tensor, shares: torch.Tensor, weights: torch.Tensor, *, bend: float = 0.05
) -> torch.Tensor:
    """Absolute error of quantities in [0, 1] that are the sigmoid of logits.

    Below ``bend`` it is quadratic (Girshick, "Fast R-CNN", ICCV 2015). Shapes as above.
    """
    each = functional.smooth_l1_loss(
        logits.permute(0, 2, 3, 1).sigmoid(), shares, reduction="none", beta=bend
    )
    return weighted_mean(each, weights)


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean by weights; 0 where nothing has any."""
    weights = weights.expand_as(values)
    return (values * weights).sum() / weights.sum().clamp_min(1.0)
