"""Regions as a DICOM label map segmentation (PS3.3, A.51)."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.errors import ExportError
from wsi_engine.export.dicom import codes
from wsi_engine.export.dicom.identity import Identity, made_of
from wsi_engine.export.dicom.slide import DicomSlide
from wsi_engine.export.extras import extra
from wsi_engine.nuclei.raster import draw_polygons
from wsi_engine.regions.tables import read_written_regions
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import REGIONS_TABLE
from wsi_engine.results.region import Region

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

log = logging.getLogger(__name__)

MOST_PIXELS = 1 << 24
"""Pixels of the label map: 5 µm on a slide of 2 x 2 cm; highdicom holds them several times."""

TILE = 512
_MOST_SEGMENTS = 65_535


def segmentation(run: SlideResult, slide: DicomSlide, identity: Identity) -> Dataset | None:
    """Return the tissue and the annotations of a result as segments of one label map.

    Pixel values are the numbers of segments; each region is one, under its name, with the code of
    its class; cores that are missing are none. Where regions overlap, a pixel belongs to the later
    one: annotations come after tissue. Pixels are a power of two times those of the slide's finest
    level, the smallest that give
    `MOST_PIXELS` at most.

    Raises
    ------
    ExportError
        When there are more regions than a label map has values, or the slide's header lacks what
        a segmentation takes over.
    """
    regions = _regions(run)
    if not regions:
        return None
    try:
        origin = slide.to_reference
    except ExportError as error:
        log.warning("%s, and the regions are not written", f"{error}".rpartition(":")[0])
        return None
    if len(regions) > _MOST_SEGMENTS:
        raise ExportError(
            f"{run.name} has {len(regions):,} regions, and a label map {_MOST_SEGMENTS:,} values: "
            "leave the annotations out with `wsi-engine regions`"
        )
    size = (slide.finest.TotalPixelMatrixRows, slide.finest.TotalPixelMatrixColumns)
    step = step_of(size)
    labels = _drawn(regions, slide, tuple(-(-side // step) for side in size), step)
    kinds = [codes.area_code(region.class_name) for region in regions]
    seg = extra("highdicom.seg", "dicom")
    finders = _finders(run)
    described = [
        seg.SegmentDescription(
            segment_number=number,
            segment_label=codes.text(region.name),
            segmented_property_category=codes.concept(category),
            segmented_property_type=codes.concept(kind),
            algorithm_type="MANUAL" if finder is None else "AUTOMATIC",
            algorithm_identification=None if finder is None else identity.algorithm(finder),
        )
        for number, (region, (category, kind), finder) in enumerate(
            zip(regions, kinds, [finders.get(r.id) for r in regions], strict=True), start=1
        )
    ]
    own = identity.arguments("regions", [kind for _, kind in kinds])
    geometry = _geometry(slide.finest, origin, step)
    made = made_of(
        slide,
        lambda: seg.Segmentation(
            source_images=[slide.finest],
            pixel_array=labels,
            segmentation_type="LABELMAP",
            segment_descriptions=described,
            content_label="REGIONS",
            content_description="Tissue and annotations",
            tile_pixel_array=True,
            tile_size=(TILE, TILE),
            transfer_syntax_uid=extra("pydicom.uid", "dicom").RLELossless,
            **geometry,
            **own,
        ),
        identity,
    )
    # Left alone, highdicom draws one, and bytes would differ from export to export.
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = identity.uid("dimensions")
    return made


def step_of(size: tuple[int, int]) -> int:
    """Return how many pixels of the slide, a power of two, are one of the label map's along a side.

    Examples
    --------
    >>> step_of((4000, 4000)), step_of((80_000, 60_000))
    (1, 32)
    """
    step = 1
    while math.prod(-(-side // step) for side in size) > MOST_PIXELS:
        step *= 2
    return step


def _regions(run: SlideResult) -> list[Region]:
    if (run.folder / REGIONS_TABLE).exists():
        regions = read_written_regions(run.folder)
    else:
        regions = [*run.tissue, *run.drawn]
    tissue = {piece.id for piece in run.tissue}
    there = [region for region in regions if not region.is_missing]
    return sorted(there, key=lambda region: region.id not in tissue)


def _finders(run: SlideResult) -> dict[str | None, str]:
    """Name what found a region, by its id; those that a person drew are left out."""
    finders: dict[str | None, str] = {piece.id: "tissue" for piece in run.tissue}
    model = getattr(run.record.settings, "regions_model", None)
    if model is not None:
        finders |= {region.id: Path(model).name for region in run.drawn}
    return finders


def _drawn(
    regions: list[Region], slide: DicomSlide, shape: tuple[int, ...], step: int
) -> npt.NDArray[Any]:
    labels = np.zeros(shape, np.uint8 if len(regions) < 256 else np.uint16)
    offset = np.asarray(slide.offset)
    shapes = [shapely.transform(r.geometry, lambda xy: (xy + offset) / step) for r in regions]
    draw_polygons(np.array(shapes, object), np.arange(1, len(shapes) + 1), labels)
    return labels


def _geometry(header: Dataset, origin: npt.NDArray[np.float64], step: int) -> dict[str, Any]:
    """Return pixel size, orientation and position of pixels that are ``step`` times as large."""
    hd = extra("highdicom", "dicom")
    measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    down, across = (float(side) for side in measures.PixelSpacing)
    # Positions are of the centre of a pixel, which moves as pixels grow from the same corner.
    x, y, z = origin @ [step / 2, step / 2, 1]
    return {
        "pixel_measures": hd.PixelMeasuresSequence(
            pixel_spacing=(down * step, across * step),
            slice_thickness=measures.get("SliceThickness", 0.001),
        ),
        "plane_orientation": hd.PlaneOrientationSequence("SLIDE", header.ImageOrientationSlide),
        "plane_positions": [hd.PlanePositionSequence("SLIDE", (x, y, z), (1, 1))],
    }
