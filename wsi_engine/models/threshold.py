"""The simplest methods: a threshold on haematoxylin, and connected components.

One threshold for the whole slide (Otsu), or for each pixel how much darker it must be than the
mean of its surroundings. What touches is one object, and what is larger than a nucleus is not
reported: these are what every other method has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.models.label_objects import NUCLEUS, label_predictions, means, plausible
from wsi_engine.models.nuclear_mask import (
    BLUR_REACH_PX,
    DEFAULT_THRESHOLD,
    LARGEST_HOLE_PX,
    OPENING_REACH_PX,
    cleaned,
    otsu_threshold,
    smoothed,
    window_sums,
)
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.slide.stain import MILLI, haematoxylin

if TYPE_CHECKING:
    import torch

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
class Threshold:
    """A threshold on haematoxylin.

    Attributes
    ----------
    threshold
        Haematoxylin above which a pixel is nucleus, in thousandths of optical density; set
        for the slide by ``calibrate``.
    kind
        Whether it holds everywhere, or says how far a pixel must exceed its surroundings.
    """

    threshold: float = DEFAULT_THRESHOLD
    kind: Literal["global", "local"] = "global"

    @property
    def spec(self) -> ModelSpec:
        """The facts the engine plans by."""
        return SPEC if self.kind == "global" else LOCAL_SPEC

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Set the threshold from the slide's tissue, by Otsu's method."""
        threshold = otsu_threshold(fields)
        return self if threshold is None else replace(self, threshold=threshold)

    def settings(self) -> dict[str, float]:
        """Return the slide's threshold in optical density."""
        return {"haematoxylin_threshold_od": self.threshold / MILLI}

    def to(self, device: torch.device) -> Self:
        """Return the model itself: it runs on the processor whatever the device."""
        del device
        return self

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Haematoxylin, int16, shape (n, height, width)."""
        return haematoxylin(batch)

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Segment the nuclei of one tile."""
        smooth = smoothed(maps)
        if self.kind == "global":
            excess = smooth - np.float32(self.threshold)
        else:
            excess = smooth - _surroundings(maps) - np.float32(CONTRAST * self.threshold)
        components, _ = ndimage.label(cleaned(excess > 0))
        labels = plausible(components.astype(np.int32, copy=False), NUCLEUS)
        above = means(labels, excess)
        scores = above / np.maximum(means(labels, smooth), 1)
        return label_predictions(labels, np.clip(scores, 0, 1), excess, 0.0)


def _surroundings(density: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Mean over the window around each pixel."""
    pixels = np.float32((2 * WINDOW_RADIUS_PX + 1) ** 2)
    sums = window_sums(density.astype(np.int32), WINDOW_RADIUS_PX)
    return (sums / pixels).astype(np.float32)
