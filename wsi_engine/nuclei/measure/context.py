"""Where a nucleus stands among the others: density, distances, the space it has for itself.

The columns depend on what lies within 100 µm, whatever tiles found it. On a stream they are
added as soon as nothing more can come that near.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.measure.adjacency import (
    CELL_RADIUS_UM,
    RADII_UM,
    REACH_UM,
    Floats,
    Indices,
    surroundings,
)
from wsi_engine.nuclei.measure.columns import Column, Measurements, by_name
from wsi_engine.nuclei.measure.group import ContextGroup, in_order
from wsi_engine.nuclei.nuclei import CLAIM_MARGIN_PX, Nuclei
from wsi_engine.nuclei.seams import reach_in_tiles
from wsi_engine.schedule.tiles import TileGrid
from wsi_engine.slide.frames import ModelGrid, Mpp
from wsi_engine.slide.stain_vectors import Stains

Values = npt.NDArray[np.float32]

_ENGINE = "this engine"
_GRAPH = "QuPath (Delaunay cluster features); Edelsbrunner, IEEE Trans Inf Theory 29:551 (1983)"

T = TypeVar("T")


class Context(NamedTuple, Generic[T]):
    """What is told of the place of a nucleus: numbers, or the columns that describe them."""

    density_25: T
    density_50: T
    density_100: T
    nearest: T
    neighbours: T
    mean_distance: T
    cell: T


def _density_column(radius: float, *, essential: bool = False) -> Column:
    return Column(
        f"Density {radius:g} µm per mm^2",
        "1/mm^2",
        f"other nuclei whose anchor is within {radius:g} µm, over the area of that disc, "
        "which is whole also at the edge of tissue and slide",
        _ENGINE,
        essential,
    )


CONTEXT_COLUMNS = Context(
    density_25=_density_column(25),
    density_50=_density_column(50, essential=True),
    density_100=_density_column(100),
    nearest=Column(
        "Nearest neighbor distance µm",
        "µm",
        f"to the nearest other anchor; missing where none is within {REACH_UM:g} µm",
        "Clark & Evans, Ecology 35:445 (1954)",
        essential=True,
    ),
    neighbours=Column(
        "Delaunay: Num neighbors",
        "",
        "neighbours: a circle through both anchors holds no third, and its radius is no more "
        f"than {CELL_RADIUS_UM:g} µm",
        _GRAPH,
    ),
    mean_distance=Column(
        "Delaunay: Mean distance µm",
        "µm",
        "to these neighbours; missing where there are none",
        _GRAPH,
    ),
    cell=Column(
        "Voronoi: Area µm^2",
        "µm^2",
        f"of what is nearer to this anchor than to any other, within {CELL_RADIUS_UM:g} µm of it",
        "Voronoi, J reine angew Math 133:97 (1908)",
    ),
)


def context_columns(stains: Stains) -> Context[Column]:
    """Describe the columns of the context, which are the same for all stains."""
    return CONTEXT_COLUMNS


def context_by_name(anchors: Floats, mpp: Mpp, of: Indices | None = None) -> Measurements:
    """Measure the context of nuclei that are all known; as `measure_context`, but by name."""
    found = surroundings(anchors, mpp, of)
    density_25, density_50, density_100 = (
        within / (np.pi * np.square(radius) / 1e6)
        for within, radius in zip(found.within.T, RADII_UM, strict=True)
    )
    context = Context(
        density_25=density_25,
        density_50=density_50,
        density_100=density_100,
        nearest=found.nearest_um,
        neighbours=found.neighbours,
        mean_distance=found.mean_distance_um,
        cell=found.cell_um2,
    )
    return by_name(CONTEXT_COLUMNS, np.column_stack(context).astype(np.float32))


CONTEXT = ContextGroup("context", context_columns, context_by_name, neighbourhood_um=REACH_UM)


def measure_context(anchors: Floats, mpp: Mpp, of: Indices | None = None) -> Values:
    """Measure the context of nuclei that are all known.

    Parameters
    ----------
    anchors
        float64, shape (n, 2), QuPath pixels.
    mpp
        Pixel size.
    of
        Positions of those to measure, int64, shape (m,); all of them by default.

    Returns
    -------
    ndarray
        float32, shape (m, number of ``CONTEXT_COLUMNS``); NaN is missing.
    """
    count = len(anchors) if of is None else len(of)
    return in_order(context_by_name(anchors, mpp, of), CONTEXT_COLUMNS, count, CONTEXT.name)


def add_context(
    chunks: Iterable[Nuclei],
    tile_grid: TileGrid,
    model_grid: ModelGrid,
    largest_object_px: int,
) -> Iterator[tuple[Nuclei, Values]]:
    """Measure the context of nuclei that come as a stream.

    Parameters
    ----------
    chunks
        What leaves ``resolve_seams``, whole or with nuclei taken out.
    tile_grid, model_grid, largest_object_px
        Those that were given to ``resolve_seams``.

    Yields
    ------
    nuclei
        The same chunks in the same order.
    values
        Those of ``measure_context``, the same bits as if all nuclei were known at once.

    Notes
    -----
    Nuclei wait until the rows of tiles below them are through, as far as the settling of seams
    and 100 µm more reach. Memory holds a band as wide as the slide, however high that is: no
    more than four rows of tiles where these are much larger than nuclei and than 100 µm.
    """
    frontier = Frontier(tile_grid, model_grid, largest_object_px)
    band = _Band(model_grid.slide_mpp)
    for nuclei in chunks:
        band.append(nuclei)
        if frontier.advances(nuclei.anchors):
            yield from band.release(frontier.line)
    yield from band.release(math.inf)


class Frontier:
    """The line above which no nucleus comes any more, in QuPath pixels."""

    def __init__(self, tiles: TileGrid, grid: ModelGrid, largest_object_px: int) -> None:
        self.line = -math.inf
        self._core, self._scale = tiles.core, grid.scale_y
        self._reach = reach_in_tiles(tiles, largest_object_px)
        # Tiles also report a little beyond their cores; one more pixel for rounded anchors.
        self._margin = CLAIM_MARGIN_PX + 1

    def advances(self, anchors: Floats) -> bool:
        """Take note of nuclei that came; return whether the line is lower now."""
        if len(anchors) == 0:
            return False
        lowest = anchors[:, 1].max() / self._scale
        row = (lowest - self._margin) // self._core
        line = ((row - self._reach) * self._core - self._margin) * self._scale
        advanced = line > self.line
        self.line = max(self.line, line)
        return bool(advanced)


class _Band:
    """Chunks that wait for their surroundings, and the nuclei before them that are near."""

    def __init__(self, mpp: Mpp) -> None:
        self._mpp = mpp
        self._reach_px = REACH_UM / mpp.y
        self._waiting: deque[Nuclei] = deque()
        self._past = np.empty((0, 2))

    def append(self, nuclei: Nuclei) -> None:
        self._waiting.append(nuclei)

    def release(self, line: float) -> Iterator[tuple[Nuclei, Values]]:
        """Yield the chunks, from the first on, that nothing below a line is near to."""
        known = np.concatenate([self._past, *[chunk.anchors for chunk in self._waiting]])
        ready = []
        while self._waiting and _bottom(self._waiting[0]) + self._reach_px < line:
            ready.append(self._waiting.popleft())
        if not ready:
            return
        bounds = np.cumsum([len(self._past), *[len(chunk) for chunk in ready]])
        measured = measure_context(known, self._mpp, np.arange(bounds[0], bounds[-1]))
        top = min([line, *[chunk.anchors[:, 1].min() for chunk in self._waiting if len(chunk)]])
        past = known[: bounds[-1]]
        self._past = past[past[:, 1] >= top - self._reach_px]
        for chunk, start, stop in zip(ready, bounds[:-1], bounds[1:], strict=True):
            yield chunk, measured[start - bounds[0] : stop - bounds[0]]


def _bottom(nuclei: Nuclei) -> float:
    return float(nuclei.anchors[:, 1].max(initial=-math.inf))
