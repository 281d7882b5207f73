"""The classical method: colour deconvolution, threshold, seeded watershed, shape filter.

Every step but the flooding looks at a bounded neighbourhood. So a nucleus comes out the same in
each tile that sees it, except inside clumps that outgrow the tile.

Seeds are the peaks of the distance to the border, or its h-maxima, which stand out by a height:
fewer splits of long nuclei, more clumps left as they are (Atta-Fosu et al., "3D Clumped Cell
Segmentation Using Curvature Based Seeded Watershed", J Imaging 2016, on why seeds decide).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from skimage import segmentation

from wsi_engine.models.haematoxylin_model import HaematoxylinModel
from wsi_engine.models.label_objects import NUCLEUS, label_predictions, means, plausible
from wsi_engine.models.nuclear_mask import (
    cleaned,
    smoothed,
    window_means,
)
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.seeds import DOME_REACH_PX, depth_of, domes, peaks
from wsi_engine.nuclei.predictions import Predictions

SPEC = ModelSpec(
    name="watershed",
    summary="Haematoxylin threshold and seeded watershed on the distance transform",
    mpp=0.5,
    stride=1,
    receptive_radius_px=52,
    largest_object_px=NUCLEUS.longest,
    classes=(),
    licence="Apache-2.0",
    embedded=True,
    max_overlap=0.1,
)

HMAXIMA_SPEC = replace(
    SPEC,
    name="watershed-hmaxima",
    summary="Haematoxylin threshold and watershed from the h-maxima of the distance transform",
    receptive_radius_px=SPEC.receptive_radius_px + DOME_REACH_PX,
)

BACKGROUND_RADIUS_PX = 20
BACKGROUND_CONTRAST = 1.1
"""A nucleus is darker than its surroundings within 10 µm by this factor."""
DEEPEST_PX = 12.0
"""Distances to the border are cut off here, so that the distance of a pixel stays local."""
SEED_SIGMA_PX = 1.5
DOME_HEIGHT_PX = 0.5
"""How far a neck must be narrower than the nuclei at its ends, in distance to the border."""


@dataclass(frozen=True)
class Watershed(HaematoxylinModel):
    """The classical nucleus model.

    Attributes
    ----------
    threshold
        Haematoxylin above which a pixel may be nucleus, in thousandths of optical density;
        set for the slide by ``calibrate``.
    seeds
        What is flooded from: the peaks of the distance to the border, or its h-maxima.
    """

    seeds: Literal["peaks", "h-maxima"] = "peaks"

    @property
    def spec(self) -> ModelSpec:
        """The facts the engine plans by."""
        return SPEC if self.seeds == "peaks" else HMAXIMA_SPEC

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Segment the nuclei of one tile."""
        smooth = smoothed(maps)
        level = np.maximum(
            self.threshold, BACKGROUND_CONTRAST * window_means(maps, BACKGROUND_RADIUS_PX)
        )
        excess = smooth - level
        labels = plausible(self._split(cleaned(excess > 0)), NUCLEUS)
        share_above = 1 - self.threshold / np.maximum(means(labels, smooth), 1)
        return label_predictions(labels, np.clip(share_above, 0, 1), excess, 0.0)

    def _split(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
        """Cut clumps where they are narrow: flood the distance to the border from its seeds."""
        relief = depth_of(mask, DEEPEST_PX, SEED_SIGMA_PX)
        if self.seeds == "peaks":
            seeds = peaks(relief, mask)
        else:
            seeds = domes(relief, mask, DOME_HEIGHT_PX)
        return np.asarray(segmentation.watershed(-relief, seeds, mask=mask), np.int32)
