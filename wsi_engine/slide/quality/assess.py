"""All checks of a slide's pixels."""

from __future__ import annotations

import shapely

from wsi_engine.slide.protocol import Slide, SlideInfo
from wsi_engine.slide.quality.flag import Flag, FlagLevel
from wsi_engine.slide.quality.focus import focus_flag
from wsi_engine.slide.quality.folds import folds_flag
from wsi_engine.slide.quality.ink import ink_flag
from wsi_engine.slide.quality.overview import Overview
from wsi_engine.slide.quality.stain import stain_flag

LITTLE_TISSUE_MM2 = 0.1
"""Less than half a high-power field of 0.24 mm²: too little for a density."""

LARGEST_SHARE, SMALLEST_SLIDE_MM2 = 0.95, 4.0
"""A field cut out of a slide may be all tissue; a slide shows glass somewhere."""


def assess_slide(
    slide: Slide,
    info: SlideInfo,
    area: shapely.Geometry,
    overview: Overview,
    *,
    splits_dab: bool = False,
) -> list[Flag]:
    """Check focus, pen, folds, stain and amount of tissue.

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
    splits_dab
        Whether the nuclei were found on haematoxylin and DAB apart.
    """
    assert info.mpp is not None
    tissue = overview.mask_of(area)
    slide_px = info.bounds.width * info.bounds.height
    return [
        focus_flag(slide, info, area),
        ink_flag(overview, tissue),
        folds_flag(overview, tissue),
        stain_flag(overview, tissue, splits_dab=splits_dab),
        tissue_flag(*(a * info.mpp.pixel_area_um2 / 1e6 for a in (area.area, slide_px))),
    ]


def tissue_flag(area_mm2: float, slide_mm2: float) -> Flag:
    """Say whether there is enough tissue for numbers per mm², and glass beside it."""
    level: FlagLevel = "ok"
    sentence = f"{area_mm2:.2f} mm² of tissue."
    if area_mm2 < LITTLE_TISSUE_MM2:
        level = "look" if area_mm2 > 0 else "bad"
        sentence = f"Only {area_mm2:.3f} mm² of tissue: a density from so little says little."
    elif slide_mm2 > SMALLEST_SLIDE_MM2 and area_mm2 > LARGEST_SHARE * slide_mm2:
        level = "look"
        sentence = (
            f"{area_mm2:.2f} mm² of tissue, {100 * area_mm2 / slide_mm2:.0f} % of the slide: may "
            "glass have been taken for tissue?"
        )
    return Flag("tissue", level, round(area_mm2, 3), "mm²", sentence)
