"""Everything that is decided before the first tile is computed."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import shapely

from wsi_engine.config import RunSettings
from wsi_engine.engine.found_regions import regions_of_run
from wsi_engine.engine.progress import Observer, Progress, ignore
from wsi_engine.engine.tile_choice import choose_core, context_beyond_slide
from wsi_engine.errors import RegionError, SlideError
from wsi_engine.models.around import load_model
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.nuclei.identity import namespace_of
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.groups import columns_of, measurer_of
from wsi_engine.nuclei.measure.measurer import Measurer
from wsi_engine.nuclei.measure.ring import WIDTH_UM
from wsi_engine.qupath.regions import Regions
from wsi_engine.schedule.clock import StageClock
from wsi_engine.schedule.tiles import Tile, TileGrid
from wsi_engine.slide.fields import sample_fields
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.frames import ModelGrid
from wsi_engine.slide.glass import GREY
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.protocol import Slide, SlideInfo
from wsi_engine.slide.resolution import with_resolution
from wsi_engine.slide.stain_vectors import choose_stains
from wsi_engine.slide.tissue import Tissue, find_tissue
from wsi_engine.slide.unreadable import area_of, without
from wsi_engine.slide.whole_pixels import make_measured_grid, make_model_grid

RESULT_VERSION = 8
"""Counted up when the same settings come to give other nuclei."""

NEARLY_ALL = 0.999

BORDER_MARGIN_UM = 8.0
"""How far outside of the tissue nuclei are kept: those that its outline cuts belong to it."""


@dataclass(frozen=True)
class Plan:
    """What to compute on one slide.

    Attributes
    ----------
    regions
        Regions of interest, drawn by a person or found by a model.
    area
        Area that is searched: tissue, regions of interest, or both; QuPath pixels.
    reader, measured
        Read the pixels that the model sees, and those that nuclei are measured on; one reader
        where these are the same.
    reach
        Area in which nuclei are kept: within the regions of interest, up to the border of tissue
        and a little beyond.
    tiles
        Tiles that touch the reach, in scan order.
    given
        The model as it was given, if that was an object and no name.
    """

    info: SlideInfo
    settings: RunSettings
    model: Model
    reader: GridReader
    measured: GridReader
    tissue: Tissue | None
    regions: Regions | None
    area: shapely.Geometry
    reach: shapely.Geometry
    measurer: Measurer
    tile_grid: TileGrid
    tiles: tuple[Tile, ...]
    slide_fingerprint: str
    given: Model | None = None

    @property
    def area_mm2(self) -> float:
        """Size of the area in mm², less what could not be read of it so far."""
        read = without(self.area, self.reader.unreadable)
        return float(read.area * self.reader.grid.slide_mpp.pixel_area_um2 / 1e6)

    @cached_property
    def border(self) -> shapely.Geometry:
        """Border of the slide, or of the regions of interest on it, in QuPath pixels."""
        return _bounds_of_work(self.info, self.regions).boundary

    @property
    def columns(self) -> tuple[Column, ...]:
        """What is measured of each nucleus."""
        columns = columns_of(
            self.settings.measure,
            self.measurer.stains,
            self.measured.grid.pixel,
            self.settings.cells,
        )
        if self.settings.cells is None:
            return columns
        from wsi_engine.nuclei.measure.cell_shape import CELL_COLUMNS

        return (*columns, *CELL_COLUMNS)

    def reading(self, slide: Slide) -> Plan:
        """Return the same plan for the slide as it was opened once more."""
        reader, measured = _readers(slide, self.reader.grid, self.measured.grid)
        return replace(self, reader=reader, measured=measured)

    @property
    def namespace(self) -> uuid.UUID:
        """Namespace of the ids of the nuclei."""
        return namespace_of(self.slide_fingerprint, self.model.spec.name)


def make_plan(
    slide: Slide,
    settings: RunSettings,
    device: str,
    clock: StageClock,
    observe: Observer = ignore,
    given: Model | None = None,
    regions: Regions | Path | None = None,
) -> Plan:
    """Decide what to compute on a slide, and calibrate the model to it on a device.

    Parameters
    ----------
    given
        A model, in place of the one that the settings name.
    regions
        The regions that bound the work, where they are known already; else the file that keeps
        them if a model finds them.

    Raises
    ------
    EngineError
        When the pixel size or the model is unknown, or there is nothing to work on.
    """
    info = with_resolution(slide.info, settings.mpp)
    observe(Progress(info.path.name, "tissue"))
    with clock.measure("tissue"):
        tissue = find_tissue(slide, info) if settings.tissue else None
    if settings.regions_model is not None:
        observe(Progress(info.path.name, "regions"))
    with clock.measure("tissue" if settings.regions_model is None else "regions"):
        if not isinstance(regions, Regions):
            regions = regions_of_run(slide, info, tissue, settings, device, regions)
        bounds = _bounds_of_work(info, regions)
        area = _working_area(info, tissue, bounds, bounded=regions is not None)
    observe(Progress(info.path.name, "calibration"))
    with clock.measure("calibration"):
        loaded = load_model(settings, given, info)
        # A file of weights may be for other pixels than the model that it is for.
        reader, measured = _readers(
            slide, make_model_grid(info, loaded.spec.mpp), make_measured_grid(info)
        )
        if tissue is not None:
            reader.add_unreadable(tissue.unreadable)
        fields = sample_fields(reader, area)
        model = loaded.to(device).calibrate(fields)
    spec, grid = model.spec, reader.grid
    measurer = measurer_of(settings.measure, choose_stains(settings.stains, fields), settings.cells)
    reach = area if tissue is None else _reach(area, bounds, grid)
    tile_grid = TileGrid(
        grid.extent,
        choose_core(settings, spec),
        _halo(settings, spec),
        spec.stride,
        context_beyond_slide(spec, measurer.neighbourhood_um / min(grid.pixel.x, grid.pixel.y)),
    )
    return Plan(
        info=info,
        settings=settings,
        model=model,
        reader=reader,
        measured=measured,
        tissue=tissue,
        regions=regions,
        area=area,
        reach=reach,
        measurer=measurer,
        tile_grid=tile_grid,
        tiles=tuple(tile_grid.tiles(shapely.transform(reach, grid.from_qupath))),
        slide_fingerprint=fingerprint(info.path),
        given=given,
    )


def _halo(settings: RunSettings, spec: ModelSpec) -> int:
    """Return the halo of the model, larger where rings are wider than it was made for."""
    if settings.cells is None or "ring" not in settings.measure:
        return spec.halo_px
    more = 2 * max(0.0, settings.cells - WIDTH_UM) / spec.mpp
    return spec.halo_px + math.ceil(more / spec.stride) * spec.stride


def _readers(slide: Slide, seen: ModelGrid, measured: ModelGrid) -> tuple[GridReader, GridReader]:
    reader = GridReader(slide, seen)
    return reader, reader if measured == seen else GridReader(slide, measured)


def _bounds_of_work(info: SlideInfo, regions: Regions | None) -> shapely.Geometry:
    slide = shapely.box(0, 0, info.bounds.width, info.bounds.height)
    return slide if regions is None else regions.within(slide)


def _working_area(
    info: SlideInfo, tissue: Tissue | None, bounds: shapely.Geometry, *, bounded: bool
) -> shapely.Geometry:
    if tissue is None:
        return bounds
    area = shapely.intersection(bounds, shapely.union_all(tissue.pieces))
    if area.area == 0:
        where = "in the region of interest" if bounded else f"on {info.path.name}"
        lost = shapely.intersection(bounds, area_of(tissue.unreadable)).area / bounds.area
        if lost > NEARLY_ALL:
            raise SlideError(
                f"{info.path.name} is damaged: nothing could be read {where}; copy the slide again "
                "from where it was scanned"
            )
        if lost > 0:
            where += f", of which {100 * lost:.0f} % could not be read"
        if tissue.is_grey:
            raise SlideError(f"{info.path.name} is not supported: {GREY}; save it in colour")
        raise RegionError(
            f"no tissue found {where}: if there is some, switch the search off with --no-tissue"
        )
    return area


def _reach(area: shapely.Geometry, bounds: shapely.Geometry, grid: ModelGrid) -> shapely.Geometry:
    margin = BORDER_MARGIN_UM / grid.slide_mpp.mean
    return shapely.intersection(shapely.buffer(area, margin, quad_segs=4), bounds)
