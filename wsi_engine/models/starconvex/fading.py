"""Slides that are stained darker than most are shown paler to the network, all over alike.

On darker fields than it learnt most from, the network takes more for nuclei that is none; paler
ones it knows as they are (benchmarks/model.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.slide.optical_density import shifted_od

PALEST_TISSUE_OD = 0.08
"""What has less density in the mean of the channels is taken for glass."""

FEWEST_PIXELS = 500
LEAST_FACTOR = 0.5

Pixels = npt.NDArray[np.uint8]


def fading_of(fields: Pixels, largest_density: float) -> float:
    """Return the factor that gives the tissue of a slide no more than a median density.

    Parameters
    ----------
    fields
        Fields of a slide, shape (n, h, w, 3).
    largest_density
        Largest median, over tissue, of the optical density in the mean of the channels.

    Returns
    -------
    float
        Between 0.5 and 1; 1 for a slide that is no darker, or of which too little is seen.
    """
    density = shifted_od(np.arange(256, dtype=np.float32))[fields].mean(axis=-1)
    tissue = density[density > PALEST_TISSUE_OD]
    if tissue.size < FEWEST_PIXELS:
        return 1.0
    factor = largest_density / float(np.median(tissue))
    # Rounded, so that a last digit of the median is no other slide.
    return round(min(max(factor, LEAST_FACTOR), 1.0), 3)


def faded(pixels: Pixels, factor: float) -> Pixels:
    """Return pixels with so much of their optical density."""
    if factor == 1:
        return pixels
    shade = 256 * 10 ** (-factor * shifted_od(np.arange(256, dtype=np.float64))) - 1
    return np.rint(shade).astype(np.uint8)[pixels]
