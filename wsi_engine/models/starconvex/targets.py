"""What the network should answer: object probability and radial distances.

Star-convex polygons after Schmidt et al., "Cell Detection with Star-convex Polygons",
MICCAI 2018. Distances are measured on labels finer than the network's grid, so that they
are accurate to a fraction of a model pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.models.label_rays import BACKGROUND_END, INNER_END, UNKNOWN_END, march
from wsi_engine.models.suppression import ray_directions
from wsi_engine.nuclei.raster import UNKNOWN

_LARGEST_SIZE_WEIGHT = 5.0


@dataclass(frozen=True, slots=True)
class StarTargets:
    """StarTargets of one crop on the network's output grid, float32 where not stated.

    Attributes
    ----------
    labels
        Label of the nucleus at each grid point, uint16, shape (h, w).
    probability
        Distance to the boundary over its maximum in the nucleus, shape (h, w).
    probability_weight
        Trust in it: 0 where unknown.
    distances
        Distances from the grid point to the boundary in model pixels, shape (h, w, rays); 0
        outside of nuclei.
    distances_weight
        Trust in each: 0 where the ray ends in the unknown.
    """

    labels: npt.NDArray[np.uint16]
    probability: npt.NDArray[np.float32]
    probability_weight: npt.NDArray[np.float32]
    distances: npt.NDArray[np.float32]
    distances_weight: npt.NDArray[np.float32]

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """Tell which grid points lie in a nucleus, (h, w): those that have distances."""
        return self.distances[..., 0] > 0


@kernel
def _fill(
    labels: npt.NDArray[np.uint16],
    first: float,
    spacing: float,
    directions: npt.NDArray[np.float64],
    peaks: npt.NDArray[np.float32],
    inner_weight: float,
    unit: float,
    prob: npt.NDArray[np.float32],
    prob_w: npt.NDArray[np.float32],
    dist: npt.NDArray[np.float32],
    dist_w: npt.NDArray[np.float32],
) -> None:
    """Fill the targets of `star_targets`: prob (rows, columns), dist (rows, columns, rays)."""
    rays = directions.shape[0]
    for i in range(prob.shape[0]):
        y = first + i * spacing
        for j in range(prob.shape[1]):
            x = first + j * spacing
            own = labels[int(y), int(x)]
            if own == UNKNOWN:
                continue
            prob_w[i, j] = 1.0
            if own == 0:
                continue
            nearest = 1e9
            nearest_end = BACKGROUND_END
            for k in range(rays):
                distance, end = march(labels, x, y, directions[k, 0], directions[k, 1])
                dist[i, j, k] = distance * unit
                dist_w[i, j, k] = (
                    1.0 if end == BACKGROUND_END else inner_weight if end == INNER_END else 0.0
                )
                # A nucleus cut off by the unknown has no boundary there.
                if end != UNKNOWN_END and distance < nearest:
                    nearest = distance
                    nearest_end = end
            peak = peaks[own]
            prob[i, j] = min(1.0, nearest * unit / peak) if peak > 0 else 1.0
            if nearest_end == INNER_END:
                prob_w[i, j] = inner_weight


def star_targets(
    labels: npt.NDArray[np.uint16],
    peaks: npt.NDArray[np.float32],
    *,
    shape: tuple[int, int],
    first: float,
    spacing: float,
    unit: float,
    rays: int = 32,
    inner_boundary_weight: float = 1.0,
    peaks_on_grid: bool = False,
) -> StarTargets:
    """Compute the targets on a regular grid over a label image.

    Parameters
    ----------
    labels
        uint16 (h, w), finer than the grid, and reaching beyond it so that nuclei at its
        border are seen whole.
    peaks
        Largest distance to the boundary in each nucleus by label, in model pixels.
    shape
        Rows and columns of the grid.
    first, spacing
        Position of the first grid point and step of the grid, in label pixels (corners).
    unit
        Model pixels per label pixel.
    inner_boundary_weight
        Trust in boundaries between touching nuclei.
    peaks_on_grid
        Whether the object probability is 1 at the best grid point of each nucleus in place
        of at its innermost place, which may lie between grid points: in a nucleus of 3 µm the
        points of a grid of 1 µm may all be nearer to the boundary than to that. Nuclei that
        reach beyond the grid keep the latter.
    """
    probability = np.zeros(shape, np.float32)
    probability_weight = np.zeros(shape, np.float32)
    distances = np.zeros((*shape, rays), np.float32)
    distances_weight = np.zeros((*shape, rays), np.float32)
    _fill(
        labels, first, spacing, ray_directions(rays), peaks, inner_boundary_weight, unit,
        probability, probability_weight, distances, distances_weight,
    )  # fmt: skip
    rows, columns = ((first + spacing * np.arange(side)).astype(np.intp) for side in shape)
    by_point = labels[np.ix_(rows, columns)]
    if peaks_on_grid:
        _raise_to_one(by_point, np.zeros(len(peaks), np.float32), probability)
    return StarTargets(by_point, probability, probability_weight, distances, distances_weight)


@kernel
def _raise_to_one(
    labels: npt.NDArray[np.uint16],
    highest: npt.NDArray[np.float32],
    probability: npt.NDArray[np.float32],
) -> None:
    """Divide the probability (h, w) in each nucleus by its highest, kept by label."""
    height, width = labels.shape
    for i in range(height):
        for j in range(width):
            own = labels[i, j]
            if probability[i, j] > 0:
                at_border = i == 0 or j == 0 or i == height - 1 or j == width - 1
                highest[own] = max(highest[own], 1 if at_border else probability[i, j])
    for i in range(height):
        for j in range(width):
            if probability[i, j] > 0:
                probability[i, j] /= highest[labels[i, j]]


def size_weights(distances: npt.NDArray[np.float32], power: float) -> npt.NDArray[np.float32]:
    """Return how much points weigh by the size of their nucleus, 1 on average.

    Parameters
    ----------
    distances
        From each point to the boundary of its nucleus, (k, rays): as areas they add up to
        the nucleus' own, wherever in it the point is.
    power
        The weight goes with the area to minus this.
    """
    area = np.square(distances).mean(axis=1)
    weights = np.maximum(area, 1) ** np.float32(-power)
    if len(weights):
        # A sliver at the border of a crop is not worth a hundred points of a nucleus.
        weights = np.minimum(weights / weights.mean(), _LARGEST_SIZE_WEIGHT)
    return np.asarray(weights, np.float32)
