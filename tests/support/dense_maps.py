"""Labels and maps drawn by hand, with the truth known, for the decoders of dense maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from wsi_engine.models.dense.method import DenseMethod
from wsi_engine.models.dense.model import DenseModel
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.raster import rasterise

MARGIN_PX = 8
"""Model pixels around a crop."""


def label_discs(
    side: int, *discs: tuple[float, float, float], margin: int = MARGIN_PX
) -> npt.NDArray[np.uint16]:
    """Draw discs (x, y, radius), in model pixels of a square crop, twice as fine, with a margin.

    Where two overlap, a pixel is of the one whose border it lies further in.
    """
    rows, columns = np.mgrid[: 2 * (side + 2 * margin), : 2 * (side + 2 * margin)]
    y, x = (rows + 0.5) / 2 - margin, (columns + 0.5) / 2 - margin
    labels, deepest = np.zeros(x.shape, np.uint16), np.zeros(x.shape)
    for number, (centre_x, centre_y, radius) in enumerate(discs, start=1):
        depth = radius - np.hypot(x - centre_x, y - centre_y)
        labels[depth > deepest] = number
        deepest = np.maximum(deepest, depth)
    return labels


def as_maps(shares: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Round shares in [0, 1] to the maps that a network would return."""
    return np.rint(shares * 255).astype(np.uint8)


def ious(
    found: Predictions, labels: npt.NDArray[np.uint16], margin: int = MARGIN_PX
) -> npt.NDArray[np.float64]:
    """Best IoU of each drawn nucleus with any that was found, in order of their labels."""
    side = labels.shape[0]
    drawn = rasterise((found.xy + margin) * 2, found.offsets, (side, side))
    best = []
    for number in range(1, int(labels.max()) + 1):
        true = labels == number
        rivals = np.unique(drawn[true])
        of_rivals = [(true & (drawn == k)).sum() / (true | (drawn == k)).sum() for k in rivals if k]
        best.append(max(of_rivals, default=0.0))
    return np.array(best)


class Darkness(torch.nn.Module):
    """A network that needs no training: what lets little red light through is nucleus.

    Its answers are those that a dense method asks for, well enough to find nuclei by.
    """

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits (n, answers, h, w)."""
        dark = functional.avg_pool2d(-pixels[:, :1], 3, 1, 1)
        nucleus = 12 * dark
        # How much of the surroundings is nucleus, too: 1 in the middle, a half at the border.
        inside = functional.avg_pool2d(nucleus.sigmoid(), 7, 1, 3)
        contour = 6 - 30 * (inside - 0.55).abs()
        interior = torch.cat([-nucleus, 30 * (inside - 0.75), 2 - 20 * (inside - 0.6).abs()], 1)
        return {
            "fcn": lambda: torch.cat([nucleus, 6 * (inside - 0.8)], 1),
            "unet": lambda: interior,
            "cnn-watershed": lambda: nucleus,
            "two-stage": lambda: torch.cat([contour, interior], 1),
            "contour-aware": lambda: torch.cat([nucleus, contour], 1),
        }[self.method]()


def darkness_model(method: DenseMethod) -> DenseModel:
    """A model of a dense method that finds dark nuclei, without weights."""
    return DenseModel(method, Darkness(method.spec.name), method.spec)
