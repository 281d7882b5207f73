"""What is known of a slide before a run, and how a run would read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import shapely

from wsi_engine.errors import ResolutionError
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.slide.glass import GREY
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import Level, Slide, SlideInfo
from wsi_engine.slide.quality.flag import Flag
from wsi_engine.slide.quality.overview import read_slide_overview
from wsi_engine.slide.quality.stain import stain_flag
from wsi_engine.slide.resolution import resolution_warnings, with_resolution
from wsi_engine.slide.tissue import Tissue, find_tissue
from wsi_engine.slide.whole_pixels import make_model_grid, reason_for


@dataclass(frozen=True)
class Reading:
    """How a model would see a slide.

    Attributes
    ----------
    model, mpp
        Name of the model, and the pixel size in µm that it learnt from.
    level
        Level of the pyramid that is read.
    pixel_um
        Width and height in µm of the pixels that the model sees.
    reason
        Why these, in words.
    """

    model: str
    mpp: float
    level: Level
    pixel_um: tuple[float, float]
    reason: str


@dataclass(frozen=True)
class Inspection:
    """A slide that was looked at.

    Attributes
    ----------
    info
        Its facts; the pixel size is that of a run, the one that was stated where one was.
    tissue, stain, reading
        Its tissue, whether its colours are those of H&E, and how a model would see it; ``None``
        where the pixel size is unknown.
    warnings
        What a run would warn of, or why there would be none.
    """

    info: SlideInfo
    tissue: Tissue | None
    stain: Flag | None
    reading: Reading | None
    warnings: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        info, tissue, stain = self.info, self.tissue, self.stain
        mpp = info.mpp
        return {
            "file": info.path.name,
            "vendor": info.vendor,
            "width_px": info.width,
            "height_px": info.height,
            "levels": [
                {name: getattr(level, name) for name in ("index", "width", "height", "downsample")}
                for level in info.levels
            ],
            "bounds_px": {
                name: getattr(info.bounds, name) for name in ("x", "y", "width", "height")
            },
            "objective_power": info.objective_power,
            "focal_planes": info.focal_planes,
            "associated_images": list(info.associated_images),
            "pixel_um": None if mpp is None else [mpp.x, mpp.y],
            "pixel_source": info.mpp_source,
            "tissue": None
            if tissue is None
            else {
                "area_mm2": tissue.area_mm2,
                "pieces": len(tissue.pieces),
                "damaged_regions": len(tissue.unreadable),
            },
            "stain": None
            if stain is None
            else {name: getattr(stain, name) for name in ("level", "value", "unit", "sentence")},
            "reading": None
            if self.reading is None
            else asdict(self.reading) | {"level": self.reading.level.index},
            "warnings": list(self.warnings),
        }


def inspect(path: Path, spec: ModelSpec, mpp: float | None = None) -> Inspection:
    """Look at a slide, without looking for nuclei.

    Parameters
    ----------
    path
        The slide.
    spec
        Model whose reading is shown.
    mpp
        Pixel size in µm, if the slide's own is missing or wrong.

    Raises
    ------
    SlideError
        When the slide cannot be opened.
    """
    with open_slide(path) as slide:
        try:
            info = with_resolution(slide.info, mpp)
        except ResolutionError as error:
            return Inspection(slide.info, None, None, None, (str(error),))
        tissue = find_tissue(slide, info)
        warnings = resolution_warnings(slide.info, mpp)
        if tissue.unreadable:
            lost = len(tissue.unreadable)
            warnings.insert(0, f"{info.path.name} is damaged: {lost} region(s) cannot be read")
        if tissue.is_grey:
            warnings.insert(0, f"{info.path.name}: {GREY}")
        overview = read_slide_overview(slide, info)
        area = shapely.union_all(tissue.pieces)
        stain = stain_flag(overview, overview.mask_of(area))
        return Inspection(info, tissue, stain, _reading(slide, info, spec), tuple(warnings))


def _reading(slide: Slide, info: SlideInfo, spec: ModelSpec) -> Reading:
    reader = GridReader(slide, make_model_grid(info, spec.mpp))
    pixel = reader.grid.pixel
    reason = reason_for(reader.grid, spec.mpp)
    return Reading(spec.name, spec.mpp, reader.level, (pixel.x, pixel.y), reason)
