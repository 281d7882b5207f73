"""The stains in the ring around a nucleus, and how much of the cell the nucleus takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.measure.colour import Statistics, stain_statistics, statistics
from wsi_engine.nuclei.measure.columns import Column, Measurements
from wsi_engine.nuclei.measure.group import PixelGroup
from wsi_engine.nuclei.measure.pixels import PixelSets, stain_amounts
from wsi_engine.nuclei.measure.ring import WIDTH_UM, reach_um, rings
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


def cytoplasm_of(cells_um: float) -> PixelGroup:
    """Return the group ``ring`` for nuclei that have cells: cytoplasm, and cell as a whole.

    Its rings are as wide as cells reach, and end half-way to neighbours as cells do. The area
    ratio is left to the outlines of the cells.

    Parameters
    ----------
    cells_um
        How far cells reach from their nuclei.
    """
    rim = f"cell outside of its nucleus, up to {cells_um:g} µm from it"

    def described(stains: Stains) -> tuple[list[Statistics[Column]], list[Statistics[Column]]]:
        return (
            stain_statistics(stains, "Cytoplasm: ", rim),
            stain_statistics(stains, "Cell: ", "cell, its nucleus included"),
        )

    def columns(stains: Stains) -> tuple[Column, ...]:
        return tuple(c for part in described(stains) for channel in part for c in channel)

    def measure(view: PixelView) -> Measurements:
        cytoplasm, cell = described(view.stains)
        around = rings(view.crowd, view.crowd_pixels, view.field, cells_um).take(view.wanted)
        both = view.pixels.joined(around)
        return statistics(
            stain_amounts(view.field.rgb, around, view.stains), around, cytoplasm
        ) | statistics(stain_amounts(view.field.rgb, both, view.stains), both, cell)

    return PixelGroup("ring", columns, measure, neighbourhood_um=reach_um(cells_um))


def _in_ring(stains: Stains) -> list[Statistics[Column]]:
    return stain_statistics(stains, "Cytoplasm: ", f"ring of {WIDTH_UM:g} µm")


def area_ratio(sets: PixelSets, around: PixelSets) -> npt.NDArray[np.float32]:
    """Share of the nucleus in nucleus and ring; NaN where there are no pixels."""
    own, ring = np.diff(sets.offsets), np.diff(around.offsets)
    with np.errstate(invalid="ignore"):
        return np.asarray(own / np.where(own > 0, own + ring, np.nan), np.float32)
