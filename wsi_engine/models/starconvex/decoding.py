"""From the maps of a star-convex network to polygons.

Three steps, each linear in the number of nuclei: local maxima of the object probability,
the consensus of the grid points around each on its shape and class, and suppression.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.models.suppression import ray_directions, star_polygons, suppress
from wsi_engine.nuclei.predictions import Predictions

GRID_PX = 2
"""Model pixels per point of the output grid, where a network does not state its own."""

CONSENSUS_POINTS = 2
"""How far away, in grid points, a point may be to have a say in a polygon."""

_SHORTEST_PX = 0.25


@kernel
def _local_maxima(logits: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.int64]:
    """Return row and column of the 3 x 3 maxima above a threshold; ties go to the first.

    The logits have shape (h, w), the maxima (n, 2).
    """
    height, width = logits.shape
    found = np.empty((height * width, 2), np.int64)
    count = 0
    for i in range(height):
        for j in range(width):
            value = logits[i, j]
            if not value >= threshold:
                continue
            highest = True
            for a in range(max(0, i - 1), min(height, i + 2)):
                for b in range(max(0, j - 1), min(width, j + 2)):
                    other = logits[a, b]
                    before = a < i or (a == i and b < j)
                    if other > value or (before and other == value):
                        highest = False
            if highest:
                found[count, 0], found[count, 1] = i, j
                count += 1
    return found[:count]


@kernel
def _seen_from(
    x: float,
    y: float,
    polygon: npt.NDArray[np.float64],
    directions: npt.NDArray[np.float64],
    seen: npt.NDArray[np.float64],
) -> bool:
    """Write how far a polygon's boundary is along each ray from a point within it.

    Both go round in the same sense, so the edges are walked once. Returns whether every ray
    met the boundary, which it does not where the point is outside. Polygon and directions have
    shape (rays, 2), the distances (rays,).
    """
    rays = directions.shape[0]
    edge = 0
    for k in range(rays):
        dx, dy = directions[k, 0], directions[k, 1]
        met = False
        for _ in range(rays):
            x0, y0 = polygon[edge, 0] - x, polygon[edge, 1] - y
            after = edge + 1 if edge + 1 < rays else 0
            x1, y1 = polygon[after, 0] - x, polygon[after, 1] - y
            # The ray leaves between the edge's ends, and not at the opposite side.
            if dx * y0 - dy * x0 <= 0 and dx * y1 - dy * x1 > 0:
                distance = (x0 * y1 - y0 * x1) / (dx * (y1 - y0) - dy * (x1 - x0))
                if distance > 0:
                    seen[k] = distance
                    met = True
                    break
            edge = after
        if not met:
            return False
    return True


@kernel
def _add_softmax(
    logits: npt.NDArray[np.float32], weight: float, total: npt.NDArray[np.float64]
) -> None:
    """Add the weighted class probabilities of one grid point to a total; both (classes,)."""
    highest = logits[0]
    for c in range(1, len(logits)):
        highest = max(highest, logits[c])
    whole = 0.0
    for c in range(len(logits)):
        whole += math.exp(logits[c] - highest)
    for c in range(len(logits)):
        total[c] += weight * math.exp(logits[c] - highest) / whole


@kernel
def _consensus(
    maps: npt.NDArray[np.float32],
    points: npt.NDArray[np.int64],
    threshold: float,
    grid_px: int,
    radius: int,
    directions: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
    votes: npt.NDArray[np.float32],
) -> None:
    """Average around each point what the grid points near it see.

    Parameters
    ----------
    maps
        Those of `decode_maps`, shape (h, w, 1 + rays + classes).
    points
        Row and column of the best grid points, shape (n, 2).
    threshold
        Lowest logit of a grid point that counts.
    grid_px
        Model pixels per grid point.
    radius
        How far from the best one they may be, in grid points.
    directions
        Unit vectors (x, y), shape (rays, 2).
    out, votes
        Filled with distances, shape (n, rays), and class probabilities, shape (n, classes).
    """
    height, width = maps.shape[:2]
    rays = directions.shape[0]
    classes = votes.shape[1]
    polygon = np.empty((rays, 2))
    seen = np.empty(rays)
    total = np.empty(rays)
    total_votes = np.empty(classes)
    for n in range(len(points)):
        row, column = points[n, 0], points[n, 1]
        total[:] = 0.0
        total_votes[:] = 0.0
        weights = 0.0
        for a in range(max(0, row - radius), min(height, row + radius + 1)):
            for b in range(max(0, column - radius), min(width, column + radius + 1)):
                near = (a - row) ** 2 + (b - column) ** 2 <= radius * radius
                if not (near and maps[a, b, 0] >= threshold):
                    continue
                for k in range(rays):
                    raw = maps[a, b, 1 + k]
                    distance = max(raw, 0.0) + math.log1p(math.exp(-abs(raw)))
                    distance = max(distance, _SHORTEST_PX)
                    polygon[k, 0] = grid_px * (b - column) + distance * directions[k, 0]
                    polygon[k, 1] = grid_px * (a - row) + distance * directions[k, 1]
                if _seen_from(0.0, 0.0, polygon, directions, seen):
                    weight = 1.0 / (1.0 + math.exp(-maps[a, b, 0]))
                    weights += weight
                    for k in range(rays):
                        total[k] += weight * seen[k]
                    if classes:
                        _add_softmax(maps[a, b, 1 + rays :], weight, total_votes)
        for k in range(rays):
            out[n, k] = total[k] / weights if weights > 0 else _SHORTEST_PX
        for c in range(classes):
            votes[n, c] = total_votes[c] / weights if weights > 0 else 0.0


def decode_maps(
    maps: npt.NDArray[np.generic],
    *,
    threshold: float,
    max_overlap: float,
    largest_px: float,
    classes: int = 0,
    consensus: int = CONSENSUS_POINTS,
    grid_px: int = GRID_PX,
) -> Predictions:
    """Turn the maps of one tile into polygons.

    The polygon of a nucleus is not that of its best grid point alone: the polygons of all
    points around it that see an object are carried over to its centre, and averaged with
    the object probability as weight. The same points, with the same weights, vote on its
    class: a class is a property of the nucleus, and one point at its centre sees it no better
    than its neighbours do.

    Parameters
    ----------
    maps
        Logit of the object probability, distances in pixels before the softplus, and logits
        of the classes, shape (h, w, 1 + rays + classes).
    threshold
        Lowest object probability.
    max_overlap
        See `wsi_engine.models.suppression.suppress`.
    largest_px
        Distances are cut so that no polygon's bounding box has a longer side.
    classes
        Number of classes.
    consensus
        Radius in grid points around the best one.
    grid_px
        Model pixels per grid point.

    Returns
    -------
    Predictions
        Nuclei in model pixels (corners); the anchor of a nucleus is its best grid point.
    """
    logit = math.log(threshold / (1 - threshold))
    points = _local_maxima(np.ascontiguousarray(maps[..., 0], np.float32), logit).copy()
    rays = maps.shape[2] - 1 - classes
    distances = np.empty((len(points), rays), np.float32)
    votes = np.empty((len(points), classes), np.float32)
    single = np.ascontiguousarray(maps, np.float32)
    directions = ray_directions(rays)
    _consensus(single, points, logit, grid_px, consensus, directions, distances, votes)
    np.clip(distances, _SHORTEST_PX, largest_px / 2, out=distances)

    rows, columns = points.T
    centres = np.stack([columns, rows], axis=1) * float(grid_px) + grid_px / 2
    scores = (1 / (1 + np.exp(-single[rows, columns, 0]))).astype(np.float32)
    keep = suppress(centres, distances, scores, max_overlap)
    keep = keep[np.lexsort((centres[keep, 0], centres[keep, 1]))]
    return Predictions(
        xy=star_polygons(centres[keep], distances[keep]).reshape(-1, 2),
        offsets=np.arange(len(keep) + 1, dtype=np.int64) * rays,
        anchors=centres[keep],
        scores=scores[keep],
        classes=_likeliest(votes[keep]),
        probabilities=votes[keep] if classes else None,
    )


def _likeliest(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return the class of each nucleus; ties go to the first, -1 where nothing voted."""
    if probabilities.shape[1] == 0:
        return np.full(len(probabilities), -1, np.int16)
    voted = probabilities.any(axis=1)
    return np.where(voted, probabilities.argmax(axis=1), -1).astype(np.int16)
