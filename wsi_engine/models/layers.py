"""Layers that networks are made of, what they are given, and what inference does to them."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wsi_engine.models.devices import precision_of

GRID_PX = 2
"""Model pixels per point of a network's finest grid."""


def stem(inputs: int, outputs: int) -> nn.Sequential:
    """Return what takes pixels to the finest grid, each point centred on its 2 x 2 pixels."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 6, stride=GRID_PX, padding=2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 3 x 3 convolution, normalised over the batch, and rectified."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def twice(maps: torch.Tensor) -> torch.Tensor:
    """Repeat each value in both directions."""
    return functional.interpolate(maps, scale_factor=2.0, mode="nearest")


def to_pixels(maps: torch.Tensor) -> torch.Tensor:
    """Deal four channels of the grid to the 2 x 2 pixels under each point.

    Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network", CVPR 2016: full resolution at the cost of half.
    """
    return functional.pixel_shuffle(maps, GRID_PX)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 (n, h, w, 3) to (n, 3, h, w) around 0, the same way for every tile."""
    return pixels.permute(0, 3, 1, 2).float().sub_(180.0).mul_(1 / 64.0)


def fastest_dtype(device: str | torch.device) -> torch.dtype:
    """Return the precision in which a device computes networks best."""
    dtype: torch.dtype = getattr(torch, precision_of(str(device)))
    return dtype


def folded(network: nn.Module) -> nn.Module:
    """Return a copy for inference, its batch normalisation folded into the convolutions."""
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, nn.Sequential) and len(module) > 1:
            convolution, norm = module[0], module[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return network.requires_grad_(False)
