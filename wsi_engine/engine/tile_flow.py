"""The way of the tiles: read, infer, decode, store, resolve the seams, keep what is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from wsi_engine.engine.plan import Plan
from wsi_engine.engine.progress import Tracker
from wsi_engine.engine.tile_choice import threads_of
from wsi_engine.errors import ModelError
from wsi_engine.models.promises import broken_by_maps, broken_by_predictions
from wsi_engine.models.protocol import Model
from wsi_engine.nuclei.measure.context import add_context
from wsi_engine.nuclei.nuclei import Nuclei, clear_of, nuclei_of_tile, within
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.nuclei.redness import is_red
from wsi_engine.nuclei.seams import resolve_seams
from wsi_engine.schedule.clock import StageClock
from wsi_engine.schedule.inference import Batch, FittingInference, Maps
from wsi_engine.schedule.pipeline import stream
from wsi_engine.schedule.tiles import Tile
from wsi_engine.slide.frames import ModelBox, ModelGrid
from wsi_engine.slide.protocol import RGB
from wsi_engine.store.tile_store import TileStore

TilesWithNuclei = Generator[tuple[Tile, Nuclei], None, None]

TOUCHING_UM = 0.5
"""Nuclei that come so near to a border are taken for cut by it."""

Compute = Callable[[Iterable[Tile]], TilesWithNuclei]
"""Finds the nuclei of some tiles, in their order."""


def find_nuclei(
    plan: Plan,
    store: TileStore,
    compute: Compute,
    clock: StageClock,
    tracker: Tracker,
    check: Callable[[], None],
) -> Generator[Nuclei, None, None]:
    """Stream the nuclei of a slide, each once, in an order that depends on the plan alone.

    Tiles that the store has from an earlier run come from there, the others are computed; they
    begin at once, while those of the store are still read.

    Parameters
    ----------
    check
        Function that is called before a computed tile is stored; it raises where none must be.
    """
    spec, reader = plan.model.spec, plan.reader
    reader.add_lost(store.lost)

    def checked(tiles: Iterable[tuple[Tile, Nuclei]]) -> Iterator[tuple[Tile, Nuclei]]:
        for tile, nuclei in tiles:
            check()
            yield tile, nuclei

    # Whatever goes wrong further on: the threads end before the slide is closed under them.
    with closing(compute(store.missing)) as computed:
        followed = tracker.follow(checked(clock.timed("wait", computed)))
        resolved = resolve_seams(
            clock.timed("store", store.complete(followed, lambda: reader.lost)),
            plan.tile_grid,
            reader.grid,
            spec.largest_object_px,
            spec.max_overlap,
        )
        for nuclei in clock.timed("seams", resolved):
            with clock.measure("seams"):
                wanted = within(nuclei, plan.reach)
                if plan.settings.drop_border:
                    touching = TOUCHING_UM / reader.grid.slide_mpp.mean
                    wanted = clear_of(wanted, plan.border, touching)
            yield wanted


def in_context(found: Iterable[Nuclei], plan: Plan) -> Iterator[Nuclei]:
    """Add to the nuclei what they are to one another, where that is wanted."""
    if "context" not in plan.settings.measure:
        yield from found
        return
    spec, grid = plan.model.spec, plan.reader.grid
    for nuclei, values in add_context(found, plan.tile_grid, grid, spec.largest_object_px):
        yield replace(nuclei, measurements=np.hstack([nuclei.measurements, values]))


def in_cells(found: Iterable[Nuclei], plan: Plan) -> Iterator[tuple[Nuclei, Polygons | None]]:
    """Expand the nuclei to cells, where that is wanted, and add what is measured of these."""
    if plan.settings.cells is None:
        for nuclei in found:
            yield nuclei, None
        return
    # Only here: with it come kernels that other runs do without.
    from wsi_engine.nuclei.cell_stream import add_cells
    from wsi_engine.nuclei.measure.cell_shape import measure_cells

    spec, grid = plan.model.spec, plan.reader.grid
    for nuclei, cells in add_cells(
        found, plan.settings.cells, plan.tile_grid, grid, spec.largest_object_px
    ):
        values = measure_cells(nuclei.polygons, cells, grid.slide_mpp)
        yield replace(nuclei, measurements=np.hstack([nuclei.measurements, values])), cells


def on_slide(tile: Tile, maps: Maps, grid: ModelGrid) -> tuple[Tile, Maps]:
    """Cut the window of a tile and its maps down to the points that lie on the slide."""
    window = tile.window
    step = window.width // maps.shape[1]
    rows = _points_on_slide(window.y, maps.shape[0], step, grid.slide_height / grid.scale_y)
    columns = _points_on_slide(window.x, maps.shape[1], step, grid.slide_width / grid.scale_x)
    seen = ModelBox(
        window.x + columns.start * step,
        window.y + rows.start * step,
        (columns.stop - columns.start) * step,
        (rows.stop - rows.start) * step,
    )
    return replace(tile, window=seen), maps[rows, columns]


def _require_numbers(maps: Maps, tile: Tile, model: str) -> None:
    # A sum is NaN or infinite if any term is, and costs one pass without a copy.
    if maps.dtype.kind == "f" and not np.isfinite(maps.sum(dtype=np.float32)):
        raise ModelError(
            f"{model} computed NaN or infinity on tile {tile.index}: its weights are damaged, or "
            "do not suit this device; try --device cpu"
        )


def _promised_maps(model: Model) -> Callable[[Batch], Maps]:
    def maps(batch: Batch) -> Maps:
        found = model.maps(batch)
        if broken := broken_by_maps(found, batch.shape, model.spec):
            raise ModelError(f"model {model.spec.name!r} broke its promise: {broken}")
        return found

    return maps


def _read_to_measure(plan: Plan, polygons: Polygons) -> tuple[RGB, ModelBox]:
    """Read what nuclei are measured on, where the model sees other pixels."""
    if not len(polygons) or not plan.measurer.needs_pixels:
        return np.empty((0, 0, 3), np.uint8), ModelBox(0, 0, 0, 0)
    window = plan.measurer.window(polygons, plan.measured.grid)
    rgb = plan.measured.read(window)
    plan.reader.add_lost_of(plan.measured)
    return rgb, window


def _points_on_slide(start: int, count: int, step: int, size: float) -> slice:
    """Find the points whose centres lie in [0, size); at least one is left."""
    first = max(0, math.ceil(-start / step - 0.5))
    stop = min(count, math.ceil((size - start) / step - 0.5))
    return slice(first, max(stop, first + 1))


def compute_tiles(
    plan: Plan, models: list[Model], batch_size: int, clock: StageClock, tiles: Iterable[Tile]
) -> TilesWithNuclei:
    """Find the nuclei of some tiles in this process, in their order.

    Parameters
    ----------
    models
        Models of the plan, one for each device.
    """
    settings, grid = plan.settings, plan.reader.grid

    def read(tile: Tile) -> RGB:
        return plan.reader.read(tile.window)

    def decode(tile: Tile, pixels: RGB, maps: Maps) -> Nuclei:
        def measure(polygons: Polygons, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
            rgb, window = pixels, tile.window
            if plan.measured is not plan.reader:
                with clock.measure("read"):
                    rgb, window = _read_to_measure(plan, polygons[wanted])
            with clock.measure("measure"):
                return plan.measurer.measure(polygons, wanted, rgb, window, plan.measured.grid)

        # A nucleus at the slide's border must not compete with its own mirror image.
        seen, maps = on_slide(tile, maps, grid)
        _require_numbers(maps, tile, plan.model.spec.name)
        predictions = plan.model.decode(maps)
        if broken := broken_by_predictions(predictions, plan.model.spec):
            name = plan.model.spec.name
            raise ModelError(f"model {name!r} broke its promise at tile {tile.index}: {broken}")
        if settings.drop_red:
            left, top = seen.window.x - tile.window.x, seen.window.y - tile.window.y
            shown = pixels[top : top + seen.window.height, left : left + seen.window.width]
            predictions = predictions.where(~is_red(predictions, shown))
        reach = plan.measurer.neighbourhood_um
        return nuclei_of_tile(predictions, seen, grid, settings.simplify_um, measure, reach)

    return stream(
        tiles,
        read,
        [FittingInference(_promised_maps(model)) for model in models],
        decode,
        batch_size=batch_size,
        workers=threads_of(settings, plan.tile_grid.window_side),
        clock=clock,
    )
