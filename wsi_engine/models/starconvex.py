"""The star-convex network: nuclei as polygons straight from the decoder.

Schmidt et al., "Cell Detection with Star-convex Polygons", MICCAI 2018.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

# Model pixels per point of the output grid, and the network's total stride.
GRID_PX = 2
STRIDE_PX = 8


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class StarConvexNet(nn.Module):
    """A U-Net on the 1 µm grid under a stem of stride 2.

    Its only normalisation is batch normalisation, an affine map at inference, so a
    prediction depends on nothing beyond the receptive field: `receptive_radius_px`.

    Parameters
    ----------
    channels
        Widths at 1, 2 and 4 µm per grid point.
    features
        Width of the last layers.
    rays
        Radial distances per grid point.
    """

    def __init__(
        self, channels: tuple[int, int, int] = (32, 64, 192), features: int = 64, rays: int = 32
    ) -> None:
        super().__init__()
        fine, middle, coarse = channels
        # 6 x 6 at stride 2: each output is centred on the 2 x 2 pixels that it stands for.
        self.stem = nn.Sequential(
            nn.Conv2d(3, fine, 6, stride=GRID_PX, padding=2, bias=False),
            nn.BatchNorm2d(fine),
            nn.ReLU(inplace=True),
        )
        self.fine = _block(fine, fine)
        self.middle = nn.Sequential(_block(fine, middle), _block(middle, middle))
        self.coarse = nn.Sequential(
            _block(middle, coarse), *(_block(coarse, coarse) for _ in range(3))
        )
        self.up_middle = nn.Sequential(_block(coarse + middle, middle), _block(middle, middle))
        self.up_fine = nn.Sequential(_block(middle + fine, features), _block(features, features))
        self.head = nn.Conv2d(features, 1 + rays, 1)
        nn.init.constant_(self.head.bias[1:], 5.0)
        nn.init.constant_(self.head.bias[:1], -2.0)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Predict from pixels.

        Parameters
        ----------
        pixels
            Intensities (n, 3, h, w) as `normalise` gives them; h and w multiples of the
            stride.

        Returns
        -------
        torch.Tensor
            (n, 1 + rays, h / 2, w / 2): logit of the object probability, and the distances
            in model pixels before the softplus that makes them positive.
        """
        fine = self.fine(self.stem(pixels))
        middle = self.middle(functional.max_pool2d(fine, 2))
        coarse = self.coarse(functional.max_pool2d(middle, 2))
        middle = self.up_middle(torch.cat([_twice(coarse), middle], dim=1))
        fine = self.up_fine(torch.cat([_twice(middle), fine], dim=1))
        head: torch.Tensor = self.head(fine)
        return head


def _twice(maps: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(maps, scale_factor=2.0, mode="nearest")


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 (n, h, w, 3) to (n, 3, h, w) around 0, the same way for every tile."""
    return pixels.permute(0, 3, 1, 2).float().sub_(180.0).mul_(1 / 64.0)
