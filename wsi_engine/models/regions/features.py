"""What a pixel classifier sees of a pixel: colour, edges and texture at several scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.feature import multiscale_basic_features

CHANNELS = 3
BEYOND_BLUR_PX = 2
"""How far the second differences of a blurred image reach beyond the blur."""

LARGEST_SIGMA_PX = 64.0


@dataclass(frozen=True, slots=True)
class Features:
    """Gaussian blur, its gradient and the eigenvalues of its Hessian, of each colour channel.

    They are scikit-image's `multiscale_basic_features`, at scales that double.

    Attributes
    ----------
    sigma_min_px, sigma_max_px
        Smallest and largest standard deviation of the blur, in pixels.
    """

    sigma_min_px: float = 1.0
    sigma_max_px: float = 16.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.sigma_min_px <= self.sigma_max_px <= LARGEST_SIGMA_PX:
            raise ValueError(
                f"scales from {self.sigma_min_px} to {self.sigma_max_px} px are none: they lie "
                f"between 0.1 and {LARGEST_SIGMA_PX:g}, the smallest first"
            )

    @property
    def count(self) -> int:
        """Number of features of a pixel."""
        scales = int(np.log2(self.sigma_max_px) - np.log2(self.sigma_min_px) + 1)
        return 4 * CHANNELS * scales

    @property
    def margin_px(self) -> int:
        """How far the surroundings of a pixel can change its features."""
        # scipy cuts a Gaussian off at four standard deviations.
        return int(4 * self.sigma_max_px + 0.5) + BEYOND_BLUR_PX

    def of(self, window: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute the features of the pixels of a window that have their surroundings in it.

        Parameters
        ----------
        window
            uint8, shape (height, width, 3).

        Returns
        -------
        ndarray
            float32, shape (height - 2 m, width - 2 m, count) with m the margin.
        """
        inside = slice(self.margin_px, -self.margin_px)
        # One channel after the other: what lies in the margin is soon forgotten.
        channels = [
            multiscale_basic_features(
                window[..., channel], sigma_min=self.sigma_min_px, sigma_max=self.sigma_max_px
            )[inside, inside].copy()
            for channel in range(CHANNELS)
        ]
        return np.concatenate(channels, axis=-1, dtype=np.float32)
