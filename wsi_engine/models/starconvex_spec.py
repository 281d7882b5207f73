"""The facts about the star-convex network, to be had without torch."""

from __future__ import annotations

from pathlib import Path

from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.starconvex_decoding import CONSENSUS_POINTS, GRID_PX

WEIGHTS = Path(__file__).parent / "weights" / "starconvex.safetensors"
"""Those that come with the package."""

STRIDE_PX = 8

NETWORK_RADIUS_PX = 64
"""How far away from a grid point a pixel can change its maps."""

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
