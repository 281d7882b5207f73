"""In which region of interest nuclei lie, as their tables and QuPath tell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.labels import Held
from wsi_engine.qupath.regions import Regions


def held_by(regions: Regions | None, anchors: npt.NDArray[np.float64]) -> list[Held]:
    """Return the smallest region of interest that holds each nucleus.

    Parameters
    ----------
    regions
        Regions of interest, if there are any.
    anchors
        In QuPath pixels, shape (n, 2).
    """
    nowhere: Held = (None, None)
    if regions is None:
        return [nowhere] * len(anchors)
    names = [(region.name or region.class_name, region.id) for region in regions.wanted]
    return [names[k] if k >= 0 else nowhere for k in regions.holding(anchors)]
