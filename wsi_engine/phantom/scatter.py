"""Scattering nuclei over a tissue: packed as cells are, some of them touching."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.phantom.noise import FloatImage
from wsi_engine.phantom.outlines import FloatArray, Kind, PhantomNuclei, make_nuclei
from wsi_engine.phantom.tissue import Tissue

_GAP_UM = 0.35
_EDGE_PX = 2.0
# Partners are set to share up to this much of the smaller nucleus; below 0 they just touch.
_OVERLAP_TARGET = (-0.06, 0.20)
_BISECTIONS = 14
# Not below any rate that _rate returns, in nuclei per mm².
_HIGHEST_RATE = 85_000.0


def scatter_nuclei(
    tissue: Tissue, rng: np.random.Generator, touching_share: float = 0.15
) -> PhantomNuclei:
    """Scatter nuclei over a field; all lie wholly inside it.

    Epithelial nuclei line the base of glands, spindle-like ones follow the fibres of the
    stroma, lymphocytes lie loose in the stroma and dense in the aggregates.

    Parameters
    ----------
    tissue
        Tissue over which the nuclei are scattered.
    rng
        Source of everything random.
    touching_share
        Share of nuclei, 0 to 0.5, that touch or overlap another one, always in pairs. A pair
        shares at most a fifth of the smaller nucleus. All others keep 0.35 µm apart.

    Returns
    -------
    PhantomNuclei
        In random order, in pixels of the field.
    """
    candidates = PhantomNuclei.joined([_candidates(kind, tissue, rng) for kind in Kind])
    candidates = candidates.take(rng.permutation(len(candidates)))
    candidates = candidates.take(_inside(candidates, tissue.shape))
    apart = candidates.take(_kept_apart(candidates, _GAP_UM / tissue.mpp))
    # With w partners for n nuclei set apart, 2 w of n + w touch; solved for w.
    wanted = round(len(apart) * touching_share / (2 - touching_share))
    nuclei = PhantomNuclei.joined([apart, _partners(apart, wanted, tissue, rng)])
    return nuclei.take(rng.permutation(len(nuclei)))


def _rate(kind: Kind, tissue: Tissue, points: FloatArray) -> FloatImage:
    """Return how many nuclei of a kind are tried per mm² at points, shape (n,)."""
    depth = tissue.sample(tissue.depth_um, points)
    lymphoid = tissue.sample(tissue.lymphoid, points)
    rate: FloatImage
    match kind:
        case Kind.EPITHELIAL:
            base = np.exp(-(((depth - 8.5) / 3.0) ** 2))
            rate = np.where(depth > 5.0, 80_000 * base + 2_000 * (depth < 14), 0)
        case Kind.LYMPHOCYTE:
            stroma = 4_200 + 80_000 * lymphoid**2
            rate = np.where(depth < -5.0, stroma, 250 * ((depth > 5) & (depth < 15)))
        case Kind.SPINDLE:
            rate = np.where(depth < -3.5, 6_500 * (1 - 0.9 * lymphoid), 0)
    return rate


def _candidates(kind: Kind, tissue: Tissue, rng: np.random.Generator) -> PhantomNuclei:
    """Throw nuclei of one kind at random, at the rate that the tissue gives, overlaps and all."""
    height, width = tissue.shape
    count = rng.poisson(_HIGHEST_RATE * height * width * tissue.mpp**2 * 1e-6)
    points = rng.uniform(0, (width, height), (count, 2))
    points = points[rng.random(count) * _HIGHEST_RATE < _rate(kind, tissue, points)]
    angle = tissue.sample(tissue.direction, points) + rng.normal(0, 0.25, len(points))
    if kind is Kind.LYMPHOCYTE:
        angle = rng.uniform(0, np.pi, len(points))
    return make_nuclei(points, tissue.mpp, rng, kind, angle)


def _inside(nuclei: PhantomNuclei, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Find the nuclei that lie wholly inside the field."""
    outlines = nuclei.outlines()
    low, high = outlines.min(axis=1), outlines.max(axis=1)
    limit = np.array([shape[1], shape[0]]) - _EDGE_PX
    inside: npt.NDArray[np.bool_] = ((low >= _EDGE_PX) & (high <= limit)).all(axis=1)
    return inside


def _kept_apart(nuclei: PhantomNuclei, gap_px: float) -> npt.NDArray[np.intp]:
    """Return the nuclei that keep a gap to every one kept before them, first come first served."""
    neighbours = _neighbours(nuclei.polygons(), gap_px)
    kept = np.zeros(len(nuclei), bool)
    for index, others in enumerate(neighbours):
        kept[index] = not kept[others].any()
    return np.flatnonzero(kept)


def _neighbours(polygons: npt.NDArray[np.object_], gap_px: float) -> list[npt.NDArray[np.intp]]:
    """Return for each polygon the indices of all others nearer than a gap."""
    left, right = shapely.STRtree(polygons).query(polygons, "dwithin", gap_px)
    other = left != right
    left, right = left[other], right[other]
    order = np.argsort(left, kind="stable")
    borders = np.searchsorted(left[order], np.arange(1, len(polygons)))
    return np.split(right[order], borders)[: len(polygons)]


def _partners(
    hosts: PhantomNuclei, wanted: int, tissue: Tissue, rng: np.random.Generator
) -> PhantomNuclei:
    """Build up to ``wanted`` nuclei, each touching or overlapping one host and no other."""
    rows = rng.permutation(len(hosts))[: 6 * wanted]
    chosen = hosts.take(rows)
    parts, places = [], []
    for kind in Kind:
        places.append(np.flatnonzero(chosen.kind == kind))
        centers = chosen.shapes.center_px[places[-1]]
        angle = chosen.shapes.angle[places[-1]] + rng.normal(0, 0.3, len(centers))
        parts.append(make_nuclei(centers, tissue.mpp, rng, kind, angle))
    partners = PhantomNuclei.joined(parts).take(np.argsort(np.concatenate(places)))
    partners = _pushed_apart(chosen, partners, rng)

    at_home = np.zeros(len(rows), bool)
    for kind in Kind:
        same = partners.kind == kind
        at_home[same] = _rate(kind, tissue, partners.shapes.center_px[same]) > 0
    at_home &= _inside(partners, tissue.shape)

    polygons = np.concatenate([hosts.polygons(), partners.polygons()])
    neighbours = _neighbours(polygons, _GAP_UM / tissue.mpp)
    taken = np.zeros(len(polygons), bool)
    taken[: len(hosts)] = True
    accepted: list[int] = []
    for index, host in enumerate(rows):
        if len(accepted) == wanted:
            break
        others = neighbours[len(hosts) + index]
        if at_home[index] and not taken[others[others != host]].any():
            taken[len(hosts) + index] = True
            accepted.append(index)
    return partners.take(np.array(accepted, np.intp))


def _pushed_apart(
    hosts: PhantomNuclei, partners: PhantomNuclei, rng: np.random.Generator
) -> PhantomNuclei:
    """Move partners away from their hosts until they share just the part drawn for them."""
    count = len(hosts)
    target = np.clip(rng.uniform(*_OVERLAP_TARGET, count), 0, None)
    heading = rng.uniform(0, 2 * np.pi, count)
    way = np.stack([np.cos(heading), np.sin(heading)], axis=1)
    fixed = hosts.polygons()
    near = np.zeros(count)
    far = 1.3 * (hosts.shapes.semi_axes_px[:, 0] + partners.shapes.semi_axes_px[:, 0])
    for _ in range(_BISECTIONS):
        middle = (near + far) / 2
        moved = partners.moved_to(hosts.shapes.center_px + way * middle[:, None]).polygons()
        smaller = np.minimum(shapely.area(fixed), shapely.area(moved))
        too_near = shapely.area(shapely.intersection(fixed, moved)) > target * smaller
        near = np.where(too_near, middle, near)
        far = np.where(too_near, far, middle)
    return partners.moved_to(hosts.shapes.center_px + way * near[:, None])
