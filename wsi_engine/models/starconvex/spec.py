"""The facts about the star-convex network, to be had without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.starconvex.decoding import CONSENSUS_POINTS, GRID_PX

CHANNELS = (32, 64, 192)
"""Widths of the default network, from its output grid to its coarsest level."""

WEIGHTS = Path(__file__).parents[1] / "weights" / "starconvex.safetensors"
"""Those that come with the package."""

THRESHOLD = 0.6
"""Lowest object probability that the default network reports."""

LARGE_THRESHOLD = 0.6
"""Lowest object probability that the large network reports."""

LARGEST_DENSITY = 0.25
"""Largest median density of tissue that either is shown; see `starconvex.fading`."""

DEPTH = 4
"""Convolutions at the coarsest level of the default network."""


def stride_px(levels: int, grid_px: int = GRID_PX) -> int:
    """Return the total stride of a network of so many levels, in model pixels."""
    return grid_px * 2 ** (levels - 1)


def network_radius_px(levels: int, depth: int, grid_px: int = GRID_PX) -> int:
    """Return how far away from a grid point a pixel can change its maps, in whole strides.

    Parameters
    ----------
    levels
        Levels of the U-Net, each at half the resolution of the one before.
    depth
        Convolutions at the coarsest level.
    grid_px
        Model pixels per point of the output grid, which is the finest level.
    """
    # The stem, a convolution after it and two before the head.
    radius = (grid_px + 4) / 2 + 3 * grid_px
    for level in range(1, levels):
        step = grid_px * 2**level
        # Two convolutions each way, and half of a finer point from centre to centre.
        radius += step * (depth if level == levels - 1 else 4) + step / 2
    stride = stride_px(levels, grid_px)
    return math.ceil(radius / stride) * stride


STRIDE_PX = stride_px(len(CHANNELS))

NETWORK_RADIUS_PX = network_radius_px(len(CHANNELS), DEPTH)
"""How far away from a grid point a pixel can change the maps of the default network."""

# A polygon is the consensus of grid points around its best one.
RECEPTIVE_RADIUS_PX = NETWORK_RADIUS_PX + CONSENSUS_POINTS * GRID_PX
# 40 µm at 0.5 µm/px: larger than any nucleus but a few megakaryocytes.
LARGEST_OBJECT_PX = 80

SPEC = ModelSpec(
    name="starconvex",
    summary="Star-convex polygons from a compact U-Net, trained by this project on H&E",
    mpp=0.5,
    stride=STRIDE_PX,
    receptive_radius_px=RECEPTIVE_RADIUS_PX,
    largest_object_px=LARGEST_OBJECT_PX,
    classes=(),
    licence="Apache-2.0",
    embedded=True,
    # The anchor is the centre of the rays, and no ray is longer than this.
    reach_px=LARGEST_OBJECT_PX // 2,
)

_LARGE_MPP = 0.25
_LARGE_LEVELS, _LARGE_DEPTH = 4, 7
# As far as 2 µm on a grid of 0.5 µm.
_LARGE_CONSENSUS = 4

LARGE_SPEC = replace(
    SPEC,
    name="starconvex-large",
    summary="Star-convex polygons from a large U-Net, trained by this project on H&E: slower and "
    "more accurate, and better at small nuclei",
    mpp=_LARGE_MPP,
    stride=stride_px(_LARGE_LEVELS),
    receptive_radius_px=network_radius_px(_LARGE_LEVELS, _LARGE_DEPTH) + _LARGE_CONSENSUS * GRID_PX,
    largest_object_px=2 * LARGEST_OBJECT_PX,
    reach_px=LARGEST_OBJECT_PX,
)
"""The facts about the network of ``configs/train_large.yaml``."""


@dataclass(frozen=True)
class ShippedNetwork:
    """A network that comes with the package, twice: as it was trained, and in whole numbers.

    Attributes
    ----------
    spec
        Its facts.
    weights
        As it was trained, in half precision.
    threshold
        Lowest object probability that it reports.
    consensus
        How far away, in grid points, a point may be to have a say in a polygon.
    largest_density
        Largest median density of tissue that it is shown; see `starconvex.fading`.
    """

    spec: ModelSpec
    weights: Path
    threshold: float
    consensus: int
    largest_density: float | None

    @property
    def quantised(self) -> Path:
        """What ``wsi_engine.training.quantising`` made of the weights."""
        return self.weights.with_suffix(".xml")


DEFAULT = ShippedNetwork(SPEC, WEIGHTS, THRESHOLD, CONSENSUS_POINTS, LARGEST_DENSITY)

LARGE = ShippedNetwork(
    LARGE_SPEC,
    WEIGHTS.with_name("starconvex-large.safetensors"),
    LARGE_THRESHOLD,
    _LARGE_CONSENSUS,
    LARGEST_DENSITY,
)
