"""The networks of the dense methods: pixels in, logits for every pixel out.

Their only normalisation is batch normalisation, an affine map at inference, so a prediction
depends on nothing beyond a stated radius. All have a total stride of ``STRIDE_PX``.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from wsi_engine.models.layers import GRID_PX, block, stem, to_pixels, twice

Widths = tuple[int, int, int]
"""Channels at 1, 2 and 4 µm per grid point."""


class UNet(nn.Module):
    """A U-Net on the 1 µm grid under a stem of stride 2.

    Parameters
    ----------
    outputs
        Logits per pixel.
    channels, features
        Widths at each level, and of the last layers.
    inputs
        Channels of the image.

    References
    ----------
    Ronneberger O, Fischer P, Brox T. U-Net: convolutional networks for biomedical image
    segmentation. MICCAI 2015:234-241.
    """

    def __init__(
        self, outputs: int, channels: Widths = (32, 64, 160), features: int = 64, inputs: int = 3
    ) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.stem = stem(inputs, fine)
        self.fine = block(fine, fine)
        self.middle = nn.Sequential(block(fine, middle), block(middle, middle))
        self.coarse = nn.Sequential(
            block(middle, coarse), *(block(coarse, coarse) for _ in range(3))
        )
        self.up_middle = nn.Sequential(block(coarse + middle, middle), block(middle, middle))
        self.up_fine = nn.Sequential(block(middle + fine, features), block(features, features))
        self.head = nn.Conv2d(features, outputs * GRID_PX**2, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Predict (n, outputs, h, w) from (n, inputs, h, w), sides multiples of the stride."""
        fine = self.fine(self.stem(pixels))
        middle = self.middle(functional.max_pool2d(fine, 2))
        coarse = self.coarse(functional.max_pool2d(middle, 2))
        middle = self.up_middle(torch.cat([twice(coarse), middle], dim=1))
        fine = self.up_fine(torch.cat([twice(middle), fine], dim=1))
        return to_pixels(self.head(fine))


class FCN(nn.Module):
    """A fully convolutional network: scores at three scales, enlarged and added.

    Enlarging is learned, from bilinear interpolation on.

    Parameters
    ----------
    outputs
        Logits per pixel.
    channels
        Widths at each level.

    References
    ----------
    Long J, Shelhamer E, Darrell T. Fully convolutional networks for semantic segmentation.
    CVPR 2015:3431-3440.
    """

    def __init__(self, outputs: int, channels: Widths = (32, 64, 192)) -> None:
        super().__init__()
        fine, middle, coarse = channels
        scores = outputs * GRID_PX**2
        self.stem = stem(3, fine)
        self.fine = nn.Sequential(block(fine, fine), block(fine, fine))
        self.middle = nn.Sequential(block(fine, middle), block(middle, middle))
        self.coarse = nn.Sequential(
            block(middle, coarse), *(block(coarse, coarse) for _ in range(4))
        )
        self.score_fine = nn.Conv2d(fine, scores, 1)
        self.score_middle = nn.Conv2d(middle, scores, 1)
        self.score_coarse = nn.Conv2d(coarse, scores, 1)
        self.enlarge_coarse = _enlarging(scores)
        self.enlarge_middle = _enlarging(scores)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Predict (n, outputs, h, w) from (n, 3, h, w), sides multiples of the stride."""
        fine = self.fine(self.stem(pixels))
        middle = self.middle(functional.max_pool2d(fine, 2))
        coarse = self.coarse(functional.max_pool2d(middle, 2))
        scores = self.enlarge_coarse(self.score_coarse(coarse)) + self.score_middle(middle)
        return to_pixels(self.enlarge_middle(scores) + self.score_fine(fine))


class TwoStageUNet(nn.Module):
    """Two U-Nets: the boundary that the first sees coarsely is an input of the second.

    Parameters
    ----------
    outputs
        Logits per pixel of the second; the first has one, the boundary.
    first, second
        Widths of each, by level; the last layers are as wide as the finest level and a half.

    References
    ----------
    Kang Q, Lao Q, Fevens T. Nuclei segmentation in histopathological images using two-stage
    learning. MICCAI 2019:703-711.
    """

    def __init__(
        self, outputs: int, first: Widths = (16, 32, 80), second: Widths = (32, 48, 144)
    ) -> None:
        super().__init__()
        self.first = UNet(1, first, first[0] * 3 // 2)
        self.second = UNet(outputs, second, second[0] * 3 // 2, inputs=4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Predict (n, 1 + outputs, h, w) from (n, 3, h, w): the coarse boundary, then the rest.

        The second stage does not teach the first: each learns what it is asked for.
        """
        boundary = self.first(pixels)
        seen = torch.cat([pixels, boundary.detach().sigmoid()], dim=1)
        return torch.cat([boundary, self.second(seen)], dim=1)


def _enlarging(channels: int) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
    slope = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.zero_()
        for k in range(channels):
            layer.weight[k, k] = slope[:, None] * slope[None, :]
    return layer
