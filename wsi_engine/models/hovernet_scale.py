"""Lengths that a HoVerNet's decoder measures by, to be had without what it computes with."""

from __future__ import annotations

import math
from dataclasses import dataclass

OPENING_REACH_PX = 4
LARGEST_OBJECT_PX = 96
"""24 µm: twice a large tumour nucleus. What is wider is a clump that was not split, and tiles
would cut it differently, so it is not reported, nor is a wider hole in a marker filled."""

SMALLEST_PX = 10


@dataclass(frozen=True, slots=True)
class Scale:
    """What the decoder measures by, in pixels of some size.

    Attributes
    ----------
    sobel_side
        Side of the Sobel filter, odd.
    smallest_marker
        Area of the smallest seed of a nucleus.
    longest
        Longest side of an object's bounding box, and of a hole that is filled.
    """

    sobel_side: int = 21
    smallest_marker: int = SMALLEST_PX
    longest: int = LARGEST_OBJECT_PX

    @property
    def reach_px(self) -> int:
        """How far the decoder looks."""
        return self.sobel_side // 2 + OPENING_REACH_PX


FINE = Scale()
"""Pixels of 0.25 µm, as HoVer-Net has them."""

DECODER_REACH_PX = FINE.reach_px


def scale_at(mpp: float) -> Scale:
    """Return the scale of a pixel size: at 0.5 µm, what TIAToolbox's HoVerNet+ is decoded by."""
    share = 0.25 / mpp
    return Scale(
        sobel_side=2 * max(1, round(10 * share)) + 1,
        smallest_marker=math.ceil(SMALLEST_PX * share**2),
        longest=round(LARGEST_OBJECT_PX * share),
    )
