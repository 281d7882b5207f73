"""All checks of a slide's pixels."""

from __future__ import annotations

import shapely

from wsi_engine.slide.protocol import Slide, SlideInfo
from wsi_engine.slide.quality.flag import Flag, FlagLevel
from wsi_engine.slide.quality.focus import focus_flag
from wsi_engine.slide.quality.folds import folds_flag
from wsi_engine.slide.quality.ink import ink_flag
from wsi_engine.slide.quality.overview import Overview

LITTLE_TISSUE_MM2 = 0.1
"""Less than half a high-power field of 0.24 mm²: too little for a density."""


def assess_slide(
    slide: Slide, info: SlideInfo, area: shapely.Geometry, overview: Overview
) -> list[Flag]:
    """Check focus, pen, folds and amount of tissue.

    Parameters
    ----------
    slide
        Slide to read fields from.
    info
        Its facts, with a pixel size.
    area
        Tissue, or where else nuclei are looked for, in QuPath pixels.
    overview
        Overview of the slide.
    """
    assert info.mpp is not None
    tissue = overview.mask_of(area)
    return [
        focus_flag(slide, info, area),
        ink_flag(overview, tissue),
        folds_flag(overview, tissue),
        tissue_flag(area.area * info.mpp.pixel_area_um2 / 1e6),
    ]


def tissue_flag(area_mm2: float) -> Flag:
    """Say whether there is enough tissue for numbers per mm²."""
    level: FlagLevel = "ok"
    sentence = f"{area_mm2:.2f} mm² of tissue."
    if area_mm2 < LITTLE_TISSUE_MM2:
        level = "look" if area_mm2 > 0 else "bad"
        sentence = f"Only {area_mm2:.3f} mm² of tissue: a density from so little says little."
    return Flag("tissue", level, round(area_mm2, 3), "mm²", sentence)
