"""The cells of nuclei that come as a stream, as soon as nothing more can come near them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import shapely

from wsi_engine.nuclei.cells import expanded, reach_um
from wsi_engine.nuclei.measure.context import Frontier
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.schedule.tiles import TileGrid
from wsi_engine.slide.frames import ModelGrid


def add_cells(
    chunks: Iterable[Nuclei],
    distance_um: float,
    tile_grid: TileGrid,
    model_grid: ModelGrid,
    largest_object_px: int,
) -> Iterator[tuple[Nuclei, Polygons]]:
    """Expand nuclei that come as a stream.

    Parameters
    ----------
    chunks
        What leaves ``resolve_seams``, whole or with nuclei taken out.
    distance_um
        How far a cell may reach from its nucleus.
    tile_grid, model_grid, largest_object_px
        Those that were given to ``resolve_seams``.

    Yields
    ------
    nuclei
        The same chunks in the same order.
    cells
        Those of ``expanded``, as if all nuclei were known at once.

    Notes
    -----
    Nuclei wait as in ``add_context``: memory holds a band as wide as the slide.
    """
    frontier = Frontier(tile_grid, model_grid, largest_object_px)
    reach = reach_um(distance_um) / model_grid.slide_mpp.y
    # What comes below the line may reach above it by its own size.
    ahead = reach + largest_object_px * model_grid.scale_y
    size = (float(model_grid.slide_width), float(model_grid.slide_height))
    waiting: deque[Nuclei] = deque()
    past: Polygons = np.empty(0, object)

    def release(line: float) -> Iterator[tuple[Nuclei, Polygons]]:
        nonlocal past
        known = np.concatenate([past, *[chunk.polygons for chunk in waiting]])
        ready = []
        while waiting and _extent(waiting[0].polygons)[1] + ahead < line:
            ready.append(waiting.popleft())
        if not ready:
            return
        ends = np.cumsum([len(past), *[len(chunk) for chunk in ready]])
        of = np.arange(ends[0], ends[-1])
        cells = expanded(known, distance_um, model_grid.slide_mpp, size, of)
        top = min([line - ahead, *[_extent(chunk.polygons)[0] for chunk in waiting]])
        done = known[: ends[-1]]
        past = done[shapely.bounds(done)[:, 3] >= top - reach]
        for chunk, start, stop in zip(ready, ends[:-1], ends[1:], strict=True):
            yield chunk, cells[start - ends[0] : stop - ends[0]]

    for nuclei in chunks:
        waiting.append(nuclei)
        if frontier.advances(nuclei.anchors):
            yield from release(frontier.line)
    yield from release(math.inf)


def _extent(polygons: Polygons) -> tuple[float, float]:
    """Return top and bottom of polygons, inverted infinities if there are none."""
    bounds = shapely.bounds(polygons)
    return float(bounds[:, 1].min(initial=math.inf)), float(bounds[:, 3].max(initial=-math.inf))
