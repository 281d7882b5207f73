"""The network: a U-Net whose finest level is the output grid."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from wsi_engine.models.layers import block, twice
from wsi_engine.models.starconvex.decoding import GRID_PX
from wsi_engine.models.starconvex.spec import CHANNELS, DEPTH, network_radius_px, stride_px


def _strided(inputs: int, outputs: int, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            inputs, outputs, stride + 2 * padding, stride=stride, padding=padding, bias=False
        ),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two convolutions and a way around them (He et al., CVPR 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = block(width, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return functional.relu(maps + self.second(self.first(maps)))


class _Merge(nn.Module):
    """Two convolutions over a level's own maps and those of the level below, enlarged.

    Either both are concatenated, or each is brought to the output's width first and they are
    added: cheaper where the level below is wide, because it is narrowed before it is enlarged.
    """

    def __init__(self, coarse: int, fine: int, outputs: int, *, added: bool) -> None:
        super().__init__()
        self.added = added
        if added:
            self.from_coarse = nn.Conv2d(coarse, outputs, 1)
            self.from_fine = nn.Conv2d(fine, outputs, 1, bias=False)
        inputs = outputs if added else coarse + fine
        self.blocks = nn.Sequential(block(inputs, outputs), block(outputs, outputs))

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        if self.added:
            both = twice(self.from_coarse(coarse)) + self.from_fine(fine)
        else:
            both = torch.cat([twice(coarse), fine], dim=1)
        merged: torch.Tensor = self.blocks(both)
        return merged


class StarConvexNet(nn.Module):
    """A U-Net on the output grid under a stem of that stride.

    Its only normalisation is batch normalisation, an affine map at inference, so a
    prediction depends on nothing beyond `radius_px`.

    Parameters
    ----------
    channels
        Widths from the output grid down, each level at half the resolution of the one before.
    features
        Width of the last layers.
    rays
        Radial distances per grid point.
    classes
        Names of the classes that it tells apart; none by default.
    grid_px
        Model pixels per point of the output grid.
    depth
        Convolutions at the coarsest level.
    residual
        Whether those after the first have a way around every two of them, and the way up adds
        the levels in place of concatenating them.
    pixel_features
        Width of a convolution on the pixels themselves before the stem's stride; without one
        the stem is a single convolution of the same reach.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = CHANNELS,
        features: int = 64,
        rays: int = 32,
        classes: tuple[str, ...] = (),
        *,
        grid_px: int = GRID_PX,
        depth: int = DEPTH,
        residual: bool = False,
        pixel_features: int = 0,
    ) -> None:
        super().__init__()
        self.channels, self.features, self.rays = channels, features, rays
        self.classes = classes
        self.grid_px, self.depth, self.residual = grid_px, depth, residual
        self.pixel_features = pixel_features
        # 6 x 6 at stride 2: each output is centred on the 2 x 2 pixels that it stands for.
        self.stem = (
            nn.Sequential(
                block(3, pixel_features),
                _strided(pixel_features, channels[0], grid_px, padding=1),
            )
            if pixel_features
            else _strided(3, channels[0], grid_px, padding=2)
        )
        self.levels = nn.ModuleList([nn.Sequential(block(channels[0], channels[0]))])
        for inputs, outputs in pairwise(channels[:-1]):
            self.levels.append(nn.Sequential(block(inputs, outputs), block(outputs, outputs)))
        width = channels[-1]
        deeper = (
            [_Residual(width) for _ in range((depth - 1) // 2)]
            if residual
            else [block(width, width) for _ in range(depth - 1)]
        )
        self.levels.append(nn.Sequential(block(channels[-2], width), *deeper))
        # By level: the first is that of the grid, and gives the features.
        widths = (features, *channels[1:])
        self.merges = nn.ModuleList(
            _Merge(coarse, fine, outputs, added=residual)
            for coarse, fine, outputs in zip(
                widths[1:], channels[:-1], widths[:-1], strict=True
            )
        )  # fmt: skip
        self.head = nn.Conv2d(features, 1 + rays + len(classes), 1)
        # Start from few nuclei of a common size, and no class before another.
        bias = torch.full((1 + rays + len(classes),), 5.0)
        bias[0] = -2.0
        bias[1 + rays :] = 0.0
        self.head.bias = nn.Parameter(bias)
        self.register_load_state_dict_pre_hook(_rename)  # type: ignore[no-untyped-call]

    @property
    def stride_px(self) -> int:
        """Total stride in model pixels."""
        return stride_px(len(self.channels), self.grid_px)

    @property
    def radius_px(self) -> int:
        """How far away from a grid point a pixel can change its maps."""
        return network_radius_px(len(self.channels), self.depth, self.grid_px)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Predict from pixels.

        Parameters
        ----------
        pixels
            Intensities (n, 3, h, w) as `wsi_engine.models.layers.normalise` gives them; h
            and w multiples of the stride.

        Returns
        -------
        torch.Tensor
            (n, 1 + rays + classes, h / grid, w / grid): logit of the object probability, the
            distances in model pixels before the softplus that makes them positive, and the
            logits of the classes.
        """
        maps = [self.levels[0](self.stem(pixels))]
        for level in self.levels[1:]:
            maps.append(level(functional.max_pool2d(maps[-1], 2)))
        merged = maps.pop()
        for merge in reversed(self.merges):
            merged = merge(merged, maps.pop())
        head: torch.Tensor = self.head(merged)
        return head


_FORMER_NAMES = {
    "fine.": "levels.0.0.",
    "middle.": "levels.1.",
    "coarse.": "levels.2.",
    "up_middle.": "merges.1.blocks.",
    "up_fine.": "merges.0.blocks.",
}


def present_name(name: str) -> str:
    """Return what a tensor is called now that was named when there were always three levels."""
    for former, present in _FORMER_NAMES.items():
        if name.startswith(former):
            return present + name.removeprefix(former)
    return name


def _rename(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    for name in list(state):
        inner = name.removeprefix(prefix)
        if present_name(inner) != inner:
            state[prefix + present_name(inner)] = state.pop(name)


def describe(network: StarConvexNet) -> dict[str, Any]:
    """Return what `rebuild` needs, as JSON can hold it."""
    return {
        "channels": network.channels,
        "features": network.features,
        "rays": network.rays,
        "classes": network.classes,
        "grid_px": network.grid_px,
        "depth": network.depth,
        "residual": network.residual,
        "pixel_features": network.pixel_features,
    }


def rebuild(description: Mapping[str, Any]) -> StarConvexNet:
    """Return a fresh network of a described shape; what older descriptions lack is the default's.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it describes none.
    """
    return StarConvexNet(
        tuple(description["channels"]),
        description["features"],
        description["rays"],
        tuple(description.get("classes", ())),
        grid_px=description.get("grid_px", GRID_PX),
        depth=description.get("depth", DEPTH),
        residual=description.get("residual", False),
        pixel_features=description.get("pixel_features", 0),
    )
