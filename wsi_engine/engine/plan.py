"""Everything that is decided before the first tile is computed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import shapely
import torch

from wsi_engine.config import RunSettings
from wsi_engine.engine.progress import Observer, Progress, ignore
from wsi_engine.errors import RegionError, SettingsError
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.models.registry import ModelEntry, find_model
from wsi_engine.nuclei.identity import namespace_of
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.groups import columns_of, measurer_of
from wsi_engine.nuclei.measure.measurer import Measurer
from wsi_engine.qupath.regions import Regions, read_bounds_of_work
from wsi_engine.schedule.clock import StageClock
from wsi_engine.schedule.tiles import Tile, TileGrid
from wsi_engine.slide.fields import sample_fields
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.protocol import Slide, SlideInfo
from wsi_engine.slide.resolution import with_resolution
from wsi_engine.slide.stain_vectors import choose_stains
from wsi_engine.slide.tissue import Tissue, find_tissue

RESULT_VERSION = 3
"""Counted up when the same settings come to give other nuclei."""


@dataclass(frozen=True)
class Plan:
    """What to compute on one slide.

    Attributes
    ----------
    regions
        Regions of interest, which a person drew.
    area
        Area in which nuclei are wanted: tissue, regions of interest, or both; QuPath pixels.
    tiles
        Tiles that touch the area, in scan order.
    given
        The model as it was given, if that was an object and no name.
    """

    info: SlideInfo
    settings: RunSettings
    model: Model
    reader: GridReader
    tissue: Tissue | None
    regions: Regions | None
    area: shapely.Geometry
    measurer: Measurer
    tile_grid: TileGrid
    tiles: tuple[Tile, ...]
    slide_fingerprint: str
    given: Model | None = None

    @property
    def area_mm2(self) -> float:
        """Size of the area in mm²."""
        return float(self.area.area * self.reader.grid.slide_mpp.pixel_area_um2 / 1e6)

    @property
    def columns(self) -> tuple[Column, ...]:
        """What is measured of each nucleus."""
        return columns_of(self.settings.measure, self.measurer.stains)

    @property
    def namespace(self) -> uuid.UUID:
        """Namespace of the ids of the nuclei."""
        return namespace_of(self.slide_fingerprint, self.model.spec.name)


def make_plan(
    slide: Slide,
    settings: RunSettings,
    device: torch.device,
    clock: StageClock,
    observe: Observer = ignore,
    given: Model | None = None,
) -> Plan:
    """Decide what to compute on a slide, and calibrate the model to it on a device.

    Parameters
    ----------
    given
        A model, in place of the one that the settings name.

    Raises
    ------
    EngineError
        When the pixel size or the model is unknown, or there is nothing to work on.
    """
    entry = find_model(settings.model) if given is None else ModelEntry(given.spec, lambda _: given)
    info = with_resolution(slide.info, settings.mpp)
    observe(Progress(info.path.name, "tissue"))
    with clock.measure("tissue"):
        tissue = find_tissue(slide, info) if settings.tissue else None
        regions = _regions(settings)
        area = _working_area(info, tissue, regions)
    observe(Progress(info.path.name, "calibration"))
    reader = GridReader(slide, make_grid(info, entry.spec.mpp))
    with clock.measure("calibration"):
        fields = sample_fields(reader, area)
        model = entry.load(settings.weights).to(device).calibrate(fields)
    spec, grid = model.spec, reader.grid
    tile_grid = TileGrid(
        grid.extent, core_side(settings.tile_size, spec), spec.halo_px, spec.stride
    )
    return Plan(
        info=info,
        settings=settings,
        model=model,
        reader=reader,
        tissue=tissue,
        regions=regions,
        area=area,
        measurer=measurer_of(settings.measure, choose_stains(settings.stains, fields)),
        tile_grid=tile_grid,
        tiles=tuple(tile_grid.tiles(shapely.transform(area, grid.from_qupath))),
        slide_fingerprint=fingerprint(info.path),
        given=given,
    )


def core_side(tile_size: int, spec: ModelSpec) -> int:
    """Round a tile's side up to what the model can take."""
    return -(-tile_size // spec.stride) * spec.stride


def _regions(settings: RunSettings) -> Regions | None:
    # Not where settings are made: the manifest of an archive names the file of each slide.
    if settings.roi is None and (settings.roi_class or settings.exclude_class):
        raise SettingsError("classes of annotations need a file of annotations: give --roi, too")
    if settings.roi is None:
        return None
    return read_bounds_of_work(settings.roi, settings.roi_class, settings.exclude_class)


def _working_area(
    info: SlideInfo, tissue: Tissue | None, regions: Regions | None
) -> shapely.Geometry:
    area = shapely.box(0, 0, info.bounds.width, info.bounds.height)
    if regions is not None:
        area = regions.within(area)
    if tissue is not None:
        area = shapely.intersection(area, shapely.union_all(tissue.pieces))
        if area.area == 0:
            where = "in the region of interest" if regions else f"on {info.path.name}"
            raise RegionError(
                f"no tissue found {where}: if there is some, switch the search off with --no-tissue"
            )
    return area
