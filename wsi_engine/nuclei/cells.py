"""Cells: nuclei that are expanded until they meet, as the Voronoi cells of their outlines.

From points along the outline, rays go straight away from the nucleus. Each ends at the largest
distance, or where another outline is as near: there a disc that touches the nucleus at the point
where the ray begins touches the other one, too (the medial axis between both). Nothing
but outlines within about twice that distance matters, so a cell is the same whatever the tiling,
and the time is proportional to the number of nuclei.
"""

from __future__ import annotations

import numpy as np
import shapely

from wsi_engine.nuclei.cell_rays import LIFT_PX, expand
from wsi_engine.nuclei.cell_room import GAP_UM, Floats, Indices
from wsi_engine.nuclei.polygons import (
    DECIMALS,
    Polygons,
    largest_part,
    made_valid,
    polygons_from_rings,
)
from wsi_engine.slide.frames import Mpp

SIMPLIFY_UM = 0.03
"""How far fewer vertices may move the border of a cell that touches no nucleus but its own."""


def reach_um(distance_um: float) -> float:
    """How near outlines are that cells of such a size have to share out the space between them."""
    return 2 * distance_um + GAP_UM


def expanded(
    nuclei: Polygons,
    distance_um: float,
    mpp: Mpp,
    size: tuple[float, float],
    of: Indices | None = None,
) -> Polygons:
    """Return the cells of nuclei: each nucleus, and what is near to it and nearest to it.

    Parameters
    ----------
    nuclei
        Valid polygons on the 0.01 px grid, in QuPath pixels, shape (n,).
    distance_um
        How far a cell may reach from its nucleus.
    mpp
        Pixel size.
    size
        Width and height of the slide in QuPath pixels; cells end there.
    of
        Positions of the nuclei that are asked for, shape (m,); all of them by default. The
        others, at least all within `reach_um` of one of these, are surroundings only.

    Returns
    -------
    ndarray
        Valid polygons on the 0.01 px grid, shape (m,). Each covers its nucleus. Two of them share
        no more than their nuclei do, but for some hundredths of a µm² where these touch.
    """
    wanted = np.arange(len(nuclei)) if of is None else of
    if len(wanted) == 0:
        return np.empty(0, object)
    scale = np.array([mpp.x, mpp.y])
    outlines = shapely.get_exterior_ring(nuclei)
    xy, owners = shapely.get_coordinates(outlines, return_index=True)
    rings = np.searchsorted(owners, np.arange(len(nuclei) + 1))
    bounds = shapely.bounds(nuclei)
    near, offsets = _neighbours(bounds, wanted, reach_um(distance_um) / scale)
    ends, cells, touches = expand(
        xy * scale, rings, bounds * np.tile(scale, 2), wanted, near, offsets,
        distance_um, size[0] * mpp.x, size[1] * mpp.y, LIFT_PX * mpp.mean,
    )  # fmt: skip
    rays = polygons_from_rings(np.round(ends[: cells[-1]] / scale, DECIMALS), cells)
    whole = _valid(rays, nuclei[wanted])
    simple = whole.copy()
    simple[~touches] = shapely.transform(
        shapely.simplify(whole[~touches], SIMPLIFY_UM / mpp.mean, preserve_topology=False), _rounded
    )
    return _covering(nuclei[wanted], whole, simple)


def _neighbours(bounds: Floats, wanted: Indices, reach: Floats) -> tuple[Indices, Indices]:
    """List who lies around each of the wanted: k has ``near[offsets[k]:offsets[k + 1]]``."""
    tree = shapely.STRtree(shapely.box(*bounds.T))
    around = bounds[wanted] + np.concatenate([-reach, reach])
    mine, near = tree.query(shapely.box(*around.T))
    others = wanted[mine] != near
    mine, near = mine[others], near[others]
    order = np.lexsort((near, mine))
    return near[order], np.searchsorted(mine[order], np.arange(len(wanted) + 1))


def _covering(nuclei: Polygons, *candidates: Polygons) -> Polygons:
    """Choose of each nucleus the last candidate that is valid and covers it, else itself."""
    found = nuclei.copy()
    for cells in candidates:
        good = (
            (shapely.get_type_id(cells) == shapely.GeometryType.POLYGON)
            & shapely.is_valid(cells)
            & shapely.covers(cells, nuclei)
        )
        found[good] = cells[good]
    return found


def _valid(cells: Polygons, nuclei: Polygons) -> Polygons:
    """Mend the borders that cross themselves, where rays of a hollow in an outline meet."""
    crossed = ~shapely.is_valid(cells)
    if not crossed.any():
        return cells
    mended = shapely.union(made_valid(cells[crossed]), nuclei[crossed])
    for k in np.flatnonzero(shapely.get_type_id(mended) != shapely.GeometryType.POLYGON):
        mended[k] = largest_part(mended[k])
    whole = cells.copy()
    filled = shapely.polygons(shapely.get_exterior_ring(mended))
    whole[crossed] = shapely.transform(filled, _rounded)
    return whole


def _rounded(points: Floats) -> Floats:
    return np.round(points, DECIMALS)
