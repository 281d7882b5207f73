"""What the classical methods share: haematoxylin as map, and one threshold per slide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from wsi_engine.models.nuclear_mask import DEFAULT_THRESHOLD, otsu_threshold
from wsi_engine.slide.stain import MILLI, haematoxylin


@dataclass(frozen=True)
class HaematoxylinModel:
    """A model without a network; its methods add ``spec`` and ``decode``.

    Attributes
    ----------
    threshold
        Haematoxylin above which a pixel may be nucleus, in thousandths of optical density;
        set for the slide by ``calibrate``.
    """

    threshold: float = DEFAULT_THRESHOLD

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Set the threshold from the slide's tissue, by Otsu's method."""
        threshold = otsu_threshold(fields)
        return self if threshold is None else replace(self, threshold=threshold)

    def settings(self) -> dict[str, float]:
        """Return the slide's threshold in optical density."""
        return {"haematoxylin_threshold_od": self.threshold / MILLI}

    def to(self, device: str) -> Self:
        """Return the model itself: it runs on the processor whatever the device."""
        del device
        return self

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Haematoxylin, int16, shape (n, height, width)."""
        return haematoxylin(batch)
