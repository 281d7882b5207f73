"""How nuclei are arranged in a window: clustered, at random or regular, and who is beside whom.

Points are float64, shape (n, 2), in µm; a window is a shapely polygon or multipolygon in µm
that holds them all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree

from wsi_engine.kernels import kernel

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MOST_FOCAL_POINTS = 100_000
GUARD_IN_EXPECTED_DISTANCES = 3.0
"""At random, a nearest neighbour is further away than this once in 1200 times."""

_SIDES_IN_PIECE = 4
"""Widening fewer is quicker, uniting fewer pieces is."""


def border_distances(points: Floats, window: shapely.Geometry, limit: float) -> Floats:
    """Return how far points lie from the border of a window, holes included.

    Returns
    -------
    ndarray
        float64, shape (n,), µm; infinite for points further than ``limit`` from the border.
    """
    distances = np.full(len(points), np.inf)
    if len(points) == 0 or window.is_empty:
        return distances
    tree = shapely.STRtree(_pieces_of_border(window, 1))
    # Without a limit, searching takes long for points far from all sides.
    (near, _), distances_of_near = tree.query_nearest(
        shapely.points(points), max_distance=limit, all_matches=False, return_distance=True
    )
    distances[near] = distances_of_near
    return distances


def eroded_area(window: shapely.Geometry, distance: float) -> float:
    """Return the area of a window, in µm², that lies further than a distance from its border.

    Notes
    -----
    A negative buffer of the window is the same, but its time grows with the third power of the
    vertices: every offset curve crosses all those nearby. Pieces of the border that are widened
    one by one and united in turn, near ones first, lose most of their outline on the way.
    """
    widened = shapely.buffer(_pieces_of_border(window, _SIDES_IN_PIECE), distance)
    return float(shapely.difference(window, shapely.union_all(widened)).area)


def _pieces_of_border(window: shapely.Geometry, sides: int) -> npt.NDArray[np.object_]:
    """Cut the rings of a window into lines of so many sides; the last of a ring may have less."""
    corners, rings = shapely.get_coordinates(
        shapely.get_parts(shapely.boundary(window)), return_index=True
    )
    sizes = np.bincount(rings)
    ends = np.cumsum(sizes)
    place_in_ring = np.arange(len(rings)) - (ends - sizes)[rings]
    starts = np.flatnonzero((place_in_ring % sides == 0) & (place_in_ring < sizes[rings] - 1))
    counts = np.minimum(starts + sides, ends[rings[starts]] - 1) - starts + 1
    pieces = np.repeat(np.arange(len(starts)), counts)
    place_in_piece = np.arange(len(pieces)) - (np.cumsum(counts) - counts)[pieces]
    chained = corners[starts[pieces] + place_in_piece]
    return np.asarray(shapely.linestrings(chained, indices=pieces))


def ripley_l(
    points: Floats, window: shapely.Geometry, radii: Sequence[float], *, seed: int = 0
) -> Floats:
    """Estimate Ripley's L with the border correction.

    Parameters
    ----------
    points, window
        Points and window in µm.
    radii
        Distances r in µm, shape (k,).
    seed
        Seed of the choice of focal points.

    Returns
    -------
    ndarray
        float64, shape (k,): L(r) = √(K(r)/π), which is r for points at random, more where they
        cluster, less where they keep apart; NaN where no point is as far as r from the border.

    Notes
    -----
    K(r) is the mean number of other points within r of a point, over their density (n - 1)/A.
    The mean is over points at least r from the border, for which nothing is hidden: the
    border method ("reduced sample"; Ripley, J Roy Stat Soc B 50:127, 1988; Baddeley, Rubak &
    Turner, Spatial Point Patterns, 2015, 7.4), which suits a window of any shape. Of more than
    100,000 points a random sample is the focus; their neighbours are still counted among all.
    """
    found = np.full(len(radii), np.nan)
    if len(points) < 2 or window.area <= 0:
        return found
    focal = points
    if len(points) > MOST_FOCAL_POINTS:
        chosen = np.random.default_rng(seed).choice(len(points), MOST_FOCAL_POINTS, replace=False)
        focal = points[np.sort(chosen)]
    distances = border_distances(focal, window, max(radii))
    everybody = cKDTree(points)
    for k, radius in enumerate(radii):
        inner = focal[distances >= radius]
        if len(inner) > 0:
            pairs = cKDTree(inner).count_neighbors(everybody, radius) - len(inner)
            per_point = pairs / len(inner)
            found[k] = math.sqrt(per_point * window.area / (len(points) - 1) / math.pi)
    return found


@dataclass(frozen=True)
class ClarkEvans:
    """Result of the test by Clark and Evans; NaN where it is not defined.

    Attributes
    ----------
    ratio
        R, mean nearest neighbour distance over that expected at random: 0 for points in
        clumps, 1 at random, 2.149 on a hexagonal grid.
    z, p
        Standard score and its two-sided p-value.
    """

    ratio: float
    z: float
    p: float


def clark_evans(points: Floats, window: shapely.Geometry) -> ClarkEvans:
    """Compare nearest neighbour distances with those of points at random.

    Parameters
    ----------
    points, window
        Points and window in µm.

    Notes
    -----
    Clark & Evans, Ecology 35:445 (1954), with a guard zone: points nearer to the border than
    three expected distances are neighbours only, and the density is that of the rest (Boots &
    Getis, Point Pattern Analysis, 1988). The variance of the mean is 0.0703/(m λ) for m
    points of density λ (Donnelly in Hodder, Simulation Studies in Archaeology, 1978, 91): more
    than Clark and Evans took it to be, as nearest neighbours often are so of each other.

    Nuclei have a size, so that they can never be quite at random: R is above 1 at short
    range, and with thousands of them p is small for differences that matter to nobody.
    """
    if len(points) < 2 or window.area <= 0:
        return ClarkEvans(math.nan, math.nan, math.nan)
    guard = GUARD_IN_EXPECTED_DISTANCES * 0.5 * math.sqrt(window.area / len(points))
    inner = points[border_distances(points, window, guard) >= guard]
    area = eroded_area(window, guard) if len(inner) >= 2 else 0.0
    if area <= 0:
        return ClarkEvans(math.nan, math.nan, math.nan)
    mean = float(cKDTree(points).query(inner, k=2)[0][:, 1].mean())
    density = len(inner) / area
    expected = 0.5 / math.sqrt(density)
    z = (mean - expected) / math.sqrt(0.0703 / (len(inner) * density))
    return ClarkEvans(mean / expected, z, math.erfc(abs(z) / math.sqrt(2)))


@dataclass(frozen=True)
class Enrichment:
    """Which classes are neighbours more often than by chance; symmetric, shape (c, c).

    Attributes
    ----------
    observed
        int64, neighbour pairs of two classes; each pair counts once.
    expected
        Mean over the permutations.
    z
        Observed against mean and standard deviation of the permutations; NaN where they
        do not vary.
    p
        Two-sided; NaN where ``z`` is.
    """

    observed: npt.NDArray[np.int64]
    expected: Floats
    z: Floats
    p: Floats


def neighbourhood_enrichment(
    labels: npt.NDArray[np.integer],
    pairs: Indices,
    classes: int,
    *,
    permutations: int = 999,
    seed: int = 0,
) -> Enrichment:
    """Test by permutation which classes are neighbours more or less often than by chance.

    Parameters
    ----------
    labels
        Class of each nucleus, shape (n,); -1 for none, which takes no part.
    pairs
        Neighbours, int64, shape (p, 2), each pair once: those of ``neighbour_pairs``, or of a
        radius.
    classes
        Number of classes c.
    permutations
        Number of times that classes are dealt out anew over the nuclei; the neighbours stay.
    seed
        Seed of the permutations.

    Notes
    -----
    Schapiro et al., Nat Methods 14:873 (2017, histoCAT); Palla et al., Nat Methods 19:171
    (2022, squidpy). p is twice the smaller tail, at most 1, with the observation counted
    among the permutations (Phipson & Smyth, Stat Appl Genet Mol Biol 9:39, 2010): never 0.
    """
    classified = np.flatnonzero(labels >= 0)
    position = np.full(len(labels), -1, np.int64)
    position[classified] = np.arange(len(classified))
    ends = position[pairs]
    ends = ends[(ends >= 0).all(axis=1)]
    kinds = labels[classified].astype(np.int16)  # narrow: dealing them out is half of the cost
    observed = _counts(kinds, ends, classes)
    total, squares = np.zeros((2, classes, classes))
    at_least, at_most = np.ones((2, classes, classes))
    rng = np.random.default_rng(seed)
    for _ in range(permutations):
        rng.shuffle(kinds)
        difference = _counts(kinds, ends, classes) - observed
        total += difference
        squares += difference.astype(np.float64) ** 2
        at_least += difference >= 0
        at_most += difference <= 0
    mean = total / permutations
    variance = (squares - permutations * mean**2) / max(permutations - 1, 1)
    varies = np.sqrt(np.where(variance > 0, variance, np.nan))
    z = -mean / varies
    p = np.minimum(2 * np.minimum(at_least, at_most) / (permutations + 1), 1)
    return Enrichment(observed, observed + mean, z, np.where(np.isnan(z), np.nan, p))


@kernel
def _counts(
    kinds: npt.NDArray[np.int16], ends: npt.NDArray[np.int64], classes: int
) -> npt.NDArray[np.int64]:
    """Count the pairs of each two classes, symmetric.

    Kinds have shape (n,), the two ends of pairs (p, 2), the counts (classes, classes).
    """
    counts = np.zeros((classes, classes), np.int64)
    for k in range(len(ends)):
        counts[kinds[ends[k, 0]], kinds[ends[k, 1]]] += 1
    for a in range(classes):
        for b in range(a):
            counts[a, b] += counts[b, a]
            counts[b, a] = counts[a, b]
    return counts
