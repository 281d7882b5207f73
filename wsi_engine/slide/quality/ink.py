"""Pen on the slide: ink in colours that no stain has."""

from __future__ import annotations

from wsi_engine.slide.quality.flag import Flag, level_of
from wsi_engine.slide.quality.overview import Overview
from wsi_engine.slide.tissue import Mask, find_ink

SMALLEST_INK_MM2 = 0.01
"""A dot of a pen is 0.2 mm² and more; the largest that passed for ink on slides without any was
below 0.002 mm² (pigment)."""

BAD_SHARE = 0.10
"""Ink that covers so much, relative to the tissue that was found, hides part of the tissue."""


def ink_flag(overview: Overview, tissue: Mask) -> Flag:
    """Say how much ink there is.

    Parameters
    ----------
    overview
        Overview of the slide.
    tissue
        Tissue on it; ink was left out of it when it was found.
    """
    ink = find_ink(overview.density, overview.grid.mpp)
    area = overview.area_mm2(ink)
    if area < SMALLEST_INK_MM2:
        return Flag("pen", "ok", 0.0, "mm²", "No pen marks were found.")
    level = level_of(area, SMALLEST_INK_MM2, BAD_SHARE * max(overview.area_mm2(tissue), 0.1))
    sentence = f"Pen covers {area:.2f} mm²: tissue under it is left out."
    return Flag("pen", level, round(area, 3), "mm²", sentence, overview.polygons_of(ink))
