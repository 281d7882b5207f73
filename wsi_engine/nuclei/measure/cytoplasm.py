"""The stains in the ring around a nucleus, and how much of the cell the nucleus takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.measure.colour import Statistics, stain_statistics, statistics
from wsi_engine.nuclei.measure.columns import Column, Measurements
from wsi_engine.nuclei.measure.pixels import PixelSets
from wsi_engine.nuclei.measure.ring import WIDTH_UM
from wsi_engine.nuclei.measure.view import PixelView
from wsi_engine.slide.stain_vectors import Stains

RATIO = Column(
    "Nucleus/Cell area ratio",
    "",
    f"nucleus / (nucleus + ring of {WIDTH_UM:g} µm, clipped at neighbours), in pixels",
    "QuPath, ObjectMeasurements.addShapeMeasurements; the cell is the nucleus and its ring",
    True,
)


def ring_columns(stains: Stains) -> tuple[Column, ...]:
    """Describe the columns of the ring."""
    return (*[column for channel in _in_ring(stains) for column in channel], RATIO)


def measure_ring(view: PixelView) -> Measurements:
    """Measure the stains in the rings of nuclei, and the share of the nucleus in its cell."""
    measured = statistics(view.ring_amounts, view.ring_pixels, _in_ring(view.stains))
    return measured | {RATIO.name: area_ratio(view.pixels, view.ring_pixels)}


def _in_ring(stains: Stains) -> list[Statistics[Column]]:
    return stain_statistics(stains, "Cytoplasm: ", f"ring of {WIDTH_UM:g} µm")


def area_ratio(sets: PixelSets, around: PixelSets) -> npt.NDArray[np.float32]:
    """Share of the nucleus in nucleus and ring; NaN where there are no pixels."""
    own, ring = np.diff(sets.offsets), np.diff(around.offsets)
    with np.errstate(invalid="ignore"):
        return np.asarray(own / np.where(own > 0, own + ring, np.nan), np.float32)
