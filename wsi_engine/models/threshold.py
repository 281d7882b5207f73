"""The simplest methods: a threshold on haematoxylin, and connected components.

One threshold for the whole slide (Otsu), or for each pixel how much darker it must be than the
mean of its surroundings. What touches is one object, and what is larger than a nucleus is not
reported: these are what every other method has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.models.haematoxylin_model import HaematoxylinModel
from wsi_engine.models.label_objects import NUCLEUS, label_predictions, means, plausible
from wsi_engine.models.nuclear_mask import (
    BLUR_REACH_PX,
    LARGEST_HOLE_PX,
    OPENING_REACH_PX,
    cleaned,
    smoothed,
    window_means,
)
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.nuclei.predictions import Predictions

WINDOW_RADIUS_PX = 25
"""Surroundings of 12.5 µm, of which most is not nucleus."""
CONTRAST = 0.35
"""How far a nucleus exceeds its surroundings, as a share of the slide's threshold.

With Sauvola's rule in its place, F1 on the TNBC images is 0.44 at most, with this 0.50.
"""

SPEC = ModelSpec(
    name="threshold",
    summary="Haematoxylin above one threshold for the slide (Otsu), connected components",
    mpp=0.5,
    stride=1,
    # A hole may be as long as its area.
    receptive_radius_px=BLUR_REACH_PX + OPENING_REACH_PX + LARGEST_HOLE_PX,
    largest_object_px=NUCLEUS.longest,
    classes=(),
    licence="Apache-2.0",
    embedded=True,
    max_overlap=0.1,
)

LOCAL_SPEC = replace(
    SPEC,
    name="threshold-local",
    summary="Haematoxylin above the mean of its surroundings, connected components",
    receptive_radius_px=SPEC.receptive_radius_px + WINDOW_RADIUS_PX,
)


@dataclass(frozen=True)
class Threshold(HaematoxylinModel):
    """A threshold on haematoxylin.

    Attributes
    ----------
    threshold
        Haematoxylin above which a pixel is nucleus, in thousandths of optical density; set
        for the slide by ``calibrate``.
    kind
        Whether it holds everywhere, or says how far a pixel must exceed its surroundings.
    """

    kind: Literal["global", "local"] = "global"

    @property
    def spec(self) -> ModelSpec:
        """The facts the engine plans by."""
        return SPEC if self.kind == "global" else LOCAL_SPEC

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Segment the nuclei of one tile."""
        smooth = smoothed(maps)
        if self.kind == "global":
            excess = smooth - np.float32(self.threshold)
        else:
            excess = (
                smooth
                - window_means(maps, WINDOW_RADIUS_PX)
                - np.float32(CONTRAST * self.threshold)
            )
        components, _ = ndimage.label(cleaned(excess > 0))
        labels = plausible(components.astype(np.int32, copy=False), NUCLEUS)
        above = means(labels, excess)
        scores = above / np.maximum(means(labels, smooth), 1)
        return label_predictions(labels, np.clip(scores, 0, 1), excess, 0.0)
