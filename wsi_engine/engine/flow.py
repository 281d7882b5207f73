"""The way of the tiles: read, infer, decode, store, settle the seams, keep what is wanted."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from itertools import chain, islice

import numpy as np
import numpy.typing as npt
import torch

from wsi_engine.engine.plan import Plan
from wsi_engine.engine.progress import Tracker
from wsi_engine.models.devices import default_batch_size
from wsi_engine.nuclei.nuclei import Nuclei, nuclei_of_tile, within
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.nuclei.seams import resolve_seams
from wsi_engine.schedule.clock import StageClock
from wsi_engine.schedule.inference import FittingInference, Maps
from wsi_engine.schedule.pipeline import stream
from wsi_engine.schedule.tiles import Tile
from wsi_engine.slide.protocol import RGB
from wsi_engine.store.tile_store import TileStore


def find_nuclei(
    plan: Plan,
    store: TileStore,
    devices: list[torch.device],
    clock: StageClock,
    tracker: Tracker,
) -> Generator[Nuclei, None, None]:
    """Stream the nuclei of a slide, each once, in an order that depends on the plan alone.

    Tiles that the store has from an earlier run are replayed, the others computed.
    """
    spec = plan.model.spec
    # Whatever goes wrong further on: the threads end before the slide is closed under them.
    with closing(_compute(plan, store.finished_tiles, devices, clock)) as computed:
        tiles = chain(
            store.replay(plan.tiles),
            store.keep(tracker.follow(clock.timed("wait", computed))),
        )
        settled = resolve_seams(
            clock.timed("store", tiles),
            plan.tile_grid,
            plan.reader.grid,
            spec.largest_object_px,
            spec.max_overlap,
        )
        for nuclei in clock.timed("seams", settled):
            with clock.measure("seams"):
                wanted = within(nuclei, plan.area)
            yield wanted


def _compute(
    plan: Plan, finished: int, devices: list[torch.device], clock: StageClock
) -> Generator[tuple[Tile, Nuclei], None, None]:
    settings, grid = plan.settings, plan.reader.grid
    workers = settings.workers if settings.workers != "auto" else os.cpu_count() or 1
    batch_size = settings.batch_size
    if batch_size == "auto":
        batch_size = default_batch_size(devices)

    def read(tile: Tile) -> RGB:
        return plan.reader.read(tile.window)

    def decode(tile: Tile, pixels: RGB, maps: Maps) -> Nuclei:
        def measure(polygons: Polygons, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
            with clock.measure("measure"):
                return plan.measurer.measure(polygons, wanted, pixels, tile.window, grid)

        predictions = plan.model.decode(maps)
        reach = plan.measurer.neighbourhood_um
        return nuclei_of_tile(predictions, tile, grid, settings.simplify_um, measure, reach)

    return stream(
        islice(plan.tiles, finished, None),
        read,
        [FittingInference(plan.model.to(device).maps) for device in devices],
        decode,
        batch_size=batch_size,
        workers=workers,
        clock=clock,
    )
