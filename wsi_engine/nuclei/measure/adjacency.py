"""Who lies how near to whom: counts within radii, Voronoi cells and Delaunay neighbours.

All of it is local. What lies further away than ``REACH_UM`` changes nothing, so any block of
a slide that holds the surroundings of a nucleus gives the same bits. For that, offsets are
whole hundredths of a pixel before they become µm, and a nucleus meets its neighbours in one
order: the nearest first, ties by their offset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.slide.frames import Mpp

RADII_UM = (25.0, 50.0, 100.0)
"""Within which nuclei are counted."""

CELL_RADIUS_UM = 50.0
"""Voronoi cells end here, so that they are local; a circle through two neighbours that holds no
third nucleus is no larger. The Delaunay graph is thus that of the alpha complex."""

REACH_UM = 100.0
"""What decides on a nucleus is this near: the largest radius, and twice that of a cell."""

SHORTEST_BORDER_UM = 1e-3
"""Neighbours share a longer border. Of nuclei on one circle, as on a grid, those that face each
other share a point only; in floating numbers it is a border of some femtometres."""

STEPS_PER_PX = 100
"""Anchors lie on the 0.01 px grid."""

Counts = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Surroundings:
    """What lies around some nuclei; arrays of shape (m,) unless stated.

    Attributes
    ----------
    within
        int32, shape (m, 3): other nuclei no further away than each of ``RADII_UM``.
    nearest_um
        Distance of the nearest other nucleus; NaN where none is within ``REACH_UM``.
    neighbours
        int32, number of Delaunay neighbours.
    mean_distance_um
        Mean distance of the Delaunay neighbours; NaN where there are none.
    cell_um2
        Area of the Voronoi cell within ``CELL_RADIUS_UM``.
    """

    within: Counts
    nearest_um: Floats
    neighbours: Counts
    mean_distance_um: Floats
    cell_um2: Floats


def surroundings(anchors: Floats, mpp: Mpp, of: Indices | None = None) -> Surroundings:
    """Measure what lies around nuclei.

    Parameters
    ----------
    anchors
        float64, shape (n, 2), QuPath pixels; hundredths count.
    mpp
        Pixel size.
    of
        Positions of the nuclei to measure, int64, shape (m,); all of them by default. The
        others are surroundings only.

    Notes
    -----
    Nuclei at the very same place share one cell, a part each, and count as one neighbour; they
    are not Delaunay neighbours of each other, but near each other at distance 0.
    """
    return _look(anchors, mpp, of, trace=False)[0]


def neighbour_pairs(anchors: Floats, mpp: Mpp) -> Indices:
    """Return the edges of the Delaunay graph that ``surroundings`` speaks of.

    Returns
    -------
    ndarray
        int64, shape (p, 2): positions ``i < j``, each pair once, sorted. Of several nuclei at
        the same place the first stands for all.
    """
    edges = _look(anchors, mpp, None, trace=True)[1]
    pairs = edges[edges[:, 0] < edges[:, 1]]
    return pairs[np.lexsort(pairs.T[::-1])]


def _look(
    anchors: Floats, mpp: Mpp, of: Indices | None, trace: bool
) -> tuple[Surroundings, Indices]:
    """Return what lies around nuclei and, if traced, the edges from both of their ends."""
    places = np.round(np.asarray(anchors, np.float64) * STEPS_PER_PX).astype(np.int64)
    steps = np.array([mpp.x, mpp.y]) / STEPS_PER_PX
    bins = (places * steps // REACH_UM).astype(np.int64)
    bins -= bins.min(axis=0, initial=0) - 1
    across = int(bins[:, 0].max(initial=0)) + 2
    keys = bins[:, 1] * across + bins[:, 0]
    # Within a bin from place to place, so that equal places follow each other.
    order = np.lexsort((places[:, 0], places[:, 1], keys))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    wanted = rank if of is None else rank[of]
    keys, count = keys[order], len(wanted)
    # Bins of a row follow each other: three runs hold all that is within reach.
    first = keys[wanted][:, None] + across * np.array([-1, 0, 1]) - 1
    runs = np.stack([np.searchsorted(keys, first), np.searchsorted(keys, first + 3)], axis=2)
    found = Surroundings(
        within=np.zeros((count, len(RADII_UM)), np.int32),
        nearest_um=np.full(count, np.nan),
        neighbours=np.zeros(count, np.int32),
        mean_distance_um=np.full(count, np.nan),
        cell_um2=np.empty(count),
    )
    # The graph can be drawn without crossings, so all ends together have at most 6 edges each.
    edges = np.empty((6 * count if trace else 0, 2), np.int64)
    traced = _look_around(
        places[order], wanted, runs, steps, np.array(RADII_UM), found.within, found.nearest_um,
        found.neighbours, found.mean_distance_um, found.cell_um2, edges,
    )  # fmt: skip
    return found, order[edges[:traced]]


@kernel
def _look_around(
    places: Indices,
    wanted: Indices,
    runs: Indices,
    steps: Floats,
    radii: Floats,
    within: Counts,
    nearest: Floats,
    neighbours: Counts,
    mean_distance: Floats,
    area: Floats,
    edges: Indices,
) -> int:
    """Measure the wanted ones of places that are sorted by bins of ``REACH_UM``.

    Parameters
    ----------
    places
        x and y in hundredths of a pixel, shape (n, 2).
    wanted
        Positions of the nuclei to measure, shape (m,).
    runs
        Where to look for what is around each: three starts and stops, shape (m, 3, 2).
    steps
        µm per hundredth of a pixel, shape (2,).
    radii
        Those within which nuclei are counted, ascending, shape (3,).
    within, nearest, neighbours, mean_distance, area
        The attributes of `Surroundings`: zeros, or NaN, that are written over.
    edges
        Get the edges, if there is room for any, shape (room, 2).

    Returns
    -------
    int
        Number of edges.
    """
    count = len(wanted)
    traced = crowd = 0
    for k in range(count):
        around = 0
        for row in range(3):
            around += runs[k, row, 1] - runs[k, row, 0]
        crowd = max(crowd, around)
    near = np.empty((crowd, 3))
    who = np.empty(crowd, np.int64)
    cell, spare = np.empty((crowd + 8, 2)), np.empty((crowd + 8, 2))
    owner, spare_owner = np.empty(crowd + 8, np.int64), np.empty(crowd + 8, np.int64)
    for k in range(count):
        found = _gather(places, wanted[k], runs[k], steps, radii[-1], near, who)
        for m in range(found):
            for shell in range(len(radii)):
                within[k, shell] += near[m, 2] <= radii[shell] * radii[shell]
        _start_cell(cell, owner)
        corners, reach2 = np.int64(4), CELL_RADIUS_UM**2
        start, twins, is_first = np.int64(0), 0, True
        # Sorted shell by shell: in dense tissue the first decides, and the others are many.
        for radius in radii:
            stop = _nearest_first(near, who, start, found, radius * radius)
            for m in range(start, stop):
                if near[m, 2] == 0:
                    twins += 1
                    is_first &= who[m] > wanted[k]
                    continue
                if near[m, 2] >= 4 * reach2:
                    break
                if m > 0 and near[m, 0] == near[m - 1, 0] and near[m, 1] == near[m - 1, 1]:
                    continue
                corners = _cut(cell, owner, corners, near[m], m, spare, spare_owner)
                cell, spare, owner, spare_owner = spare, cell, spare_owner, owner
                reach2 = _farthest(cell, corners)
            start = stop
            if radius * radius >= 4 * reach2:
                break
        if found > 0:
            nearest[k] = math.sqrt(near[0, 2])
        area[k] = _area(cell, corners) / (twins + 1)
        total = 0.0
        for c in range(corners):
            if owner[c] >= 0 and _border(cell, corners, c) > SHORTEST_BORDER_UM:
                neighbours[k] += 1
                total += math.sqrt(near[owner[c], 2])
                if len(edges) and is_first:
                    edges[traced, 0], edges[traced, 1] = wanted[k], who[owner[c]]
                    traced += 1
        if neighbours[k] > 0:
            mean_distance[k] = total / neighbours[k]
    return traced


@kernel
def _gather(
    places: Indices,
    i: int,
    runs: Indices,
    steps: Floats,
    reach: float,
    near: Floats,
    who: Indices,
) -> int:
    """Write x and y offset and squared distance of all others within reach; return how many.

    Others are looked for in runs of the places (n, 2), given by start and stop, shape (3, 2).
    Room for k: near has shape (k, 3), who, which gets their positions, (k,).
    """
    found = 0
    for row in range(3):
        for j in range(runs[row, 0], runs[row, 1]):
            dx = (places[j, 0] - places[i, 0]) * steps[0]
            dy = (places[j, 1] - places[i, 1]) * steps[1]
            squared = dx * dx + dy * dy
            if j != i and squared <= reach * reach:
                near[found, 0], near[found, 1], near[found, 2] = dx, dy, squared
                who[found] = j
                found += 1
    return found


@kernel
def _nearest_first(near: Floats, who: Indices, start: int, found: int, limit: float) -> int:
    """Bring those within a squared distance to the front, in order; return where they end.

    Shapes are those of `_gather`: (k, 3) and (k,).
    """
    stop = start
    for j in range(start, found):
        if near[j, 2] > limit:
            continue
        x, y, squared, name = near[j, 0], near[j, 1], near[j, 2], who[j]
        near[j, 0], near[j, 1], near[j, 2] = near[stop, 0], near[stop, 1], near[stop, 2]
        who[j] = who[stop]
        at = stop
        while at > start and _comes_before(x, y, squared, name, near[at - 1], who[at - 1]):
            for axis in range(3):
                near[at, axis] = near[at - 1, axis]
            who[at] = who[at - 1]
            at -= 1
        near[at, 0], near[at, 1], near[at, 2] = x, y, squared
        who[at] = name
        stop += 1
    return stop


@kernel
def _comes_before(
    x: float, y: float, squared: float, name: int, other: Floats, other_name: int
) -> bool:
    """Whether a neighbour comes before another one, which is a row (3,) of `_gather`."""
    if squared != other[2]:
        return squared < other[2]
    if y != other[1]:
        return y < other[1]
    if x != other[0]:
        return x < other[0]
    return name < other_name


@kernel
def _start_cell(cell: Floats, owner: Indices) -> None:
    """Write the four corners of the square around the largest cell.

    A cell has room for k corners, shape (k, 2); owner, shape (k,), names the neighbour behind the
    border that follows each corner, -1 for none.
    """
    r = CELL_RADIUS_UM
    cell[0, 0], cell[0, 1] = -r, -r
    cell[1, 0], cell[1, 1] = r, -r
    cell[2, 0], cell[2, 1] = r, r
    cell[3, 0], cell[3, 1] = -r, r
    owner[:4] = -1


@kernel
def _cut(
    cell: Floats,
    owner: Indices,
    corners: int,
    neighbour: Floats,
    name: int,
    cut: Floats,
    cut_owner: Indices,
) -> int:
    """Keep what is nearer to the origin than to a neighbour, a row (3,) of `_gather`.

    Writes the cell that is left, in the shapes of `_start_cell`; returns its number of corners.
    """
    x, y, half = neighbour[0], neighbour[1], neighbour[2] / 2
    kept = 0
    beyond = x * cell[corners - 1, 0] + y * cell[corners - 1, 1] - half
    for c in range(corners):
        before = c - 1 if c > 0 else corners - 1
        here = x * cell[c, 0] + y * cell[c, 1] - half
        if (here > 0) != (beyond > 0):
            t = beyond / (beyond - here)
            cut[kept, 0] = cell[before, 0] + t * (cell[c, 0] - cell[before, 0])
            cut[kept, 1] = cell[before, 1] + t * (cell[c, 1] - cell[before, 1])
            cut_owner[kept] = name if here > 0 else owner[before]
            kept += 1
        if here <= 0:
            cut[kept, 0], cut[kept, 1] = cell[c, 0], cell[c, 1]
            cut_owner[kept] = owner[c]
            kept += 1
        beyond = here
    return kept


@kernel
def _farthest(cell: Floats, corners: int) -> float:
    """Squared distance of the farthest corner, but no more than that of the largest cell."""
    farthest = 0.0
    for c in range(corners):
        farthest = max(farthest, cell[c, 0] ** 2 + cell[c, 1] ** 2)
    return min(farthest, CELL_RADIUS_UM**2)


@kernel
def _crossings(cell: Floats, corners: int, c: int) -> tuple[float, float]:
    """Where the border after a corner enters and leaves the disc, as parts of it in 0 to 1."""
    after = c + 1 if c + 1 < corners else 0
    x, y = cell[c, 0], cell[c, 1]
    dx, dy = cell[after, 0] - x, cell[after, 1] - y
    a, b = dx * dx + dy * dy, x * dx + y * dy
    root = b * b - a * (x * x + y * y - CELL_RADIUS_UM**2)
    if a == 0 or root <= 0:
        return 1.0, 1.0
    root = math.sqrt(root)
    enter, leave = max((-b - root) / a, 0.0), min((-b + root) / a, 1.0)
    return (enter, leave) if enter < leave else (1.0, 1.0)


@kernel
def _border(cell: Floats, corners: int, c: int) -> float:
    """Length of the border after a corner, as far as it lies in the disc."""
    after = c + 1 if c + 1 < corners else 0
    enter, leave = _crossings(cell, corners, c)
    return (leave - enter) * math.hypot(cell[after, 0] - cell[c, 0], cell[after, 1] - cell[c, 1])


@kernel
def _area(cell: Floats, corners: int) -> float:
    """Area that a convex cell around the origin shares with the disc."""
    total = 0.0
    for c in range(corners):
        after = c + 1 if c + 1 < corners else 0
        x0, y0, x1, y1 = cell[c, 0], cell[c, 1], cell[after, 0], cell[after, 1]
        enter, leave = _crossings(cell, corners, c)
        px, py = x0 + enter * (x1 - x0), y0 + enter * (y1 - y0)
        qx, qy = x0 + leave * (x1 - x0), y0 + leave * (y1 - y0)
        total += px * qy - py * qx
        total += _sector(x0, y0, px, py) + _sector(qx, qy, x1, y1)
    return total / 2


@kernel
def _sector(x0: float, y0: float, x1: float, y1: float) -> float:
    """Twice the area of the disc between two directions."""
    angle = math.atan2(x0 * y1 - y0 * x1, x0 * x1 + y0 * y1)
    return angle * CELL_RADIUS_UM**2
