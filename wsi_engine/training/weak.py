"""Labels from annotations that are less than complete: partial masks and points.

What is not known becomes ``UNKNOWN``, which the targets give no weight, so that the same
network and loss serve all kinds of annotation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2
from scipy.ndimage import binary_fill_holes, binary_opening, distance_transform_edt, label

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.images import UNKNOWN

Labels = npt.NDArray[np.uint16]

# Around a drawn nucleus, this much is taken as background.
_RIM_UM = 1.0
# No pseudo-nucleus reaches farther from its point.
_REACH_UM = 9.0


def labels_from_partial(drawn: Labels, mpp: float) -> Labels:
    """Turn masks of some nuclei into labels: what was not drawn is unknown.

    A rim of 1 µm around each drawn nucleus is background, so that its boundary can be
    learned; farther away there may be nuclei that nobody drew.

    Parameters
    ----------
    drawn
        0 where nothing was drawn, k in nucleus k.
    mpp
        Pixel size in µm.
    """
    distance = distance_transform_edt((drawn == 0) | (drawn == UNKNOWN))
    labels = drawn.copy()
    labels[(drawn == 0) & (distance * mpp > _RIM_UM)] = UNKNOWN
    return labels


def labels_from_points(
    image: npt.NDArray[np.uint8], points: Labels, mpp: float, seed: int = 0
) -> Labels:
    """Turn points into pseudo-labels: a Voronoi partition and a clustering of the pixels.

    After Qu et al., "Weakly Supervised Deep Nuclei Segmentation using Points Annotation",
    MIDL 2019, and "... using Partial Points Annotation", IEEE TMI 2020: every pixel belongs
    to the cell of its nearest point, and pixels are clustered into nucleus, background and
    undecided by colour and distance to the nearest point. A nucleus is what is clustered
    as such around its point, within its cell; the borders between cells are background;
    the undecided stays unknown.

    Parameters
    ----------
    image
        uint8 (h, w, 3).
    points
        k at the point (one pixel or a small disc) of nucleus k, else 0; ``UNKNOWN`` stays.
    mpp
        Pixel size in µm.
    seed
        Seed of the clustering.

    Raises
    ------
    DatasetError
        If there is no point.
    """
    marked = (points > 0) & (points != UNKNOWN)
    if not marked.any():
        raise DatasetError("there is no point in the annotation")
    distance, (rows, columns) = distance_transform_edt(~marked, return_indices=True)
    cells = points[rows, columns]
    nucleus, background = _cluster(image, distance * mpp, marked, seed)

    labels = np.where(background, 0, UNKNOWN).astype(np.uint16)
    borders = _borders(cells)
    labels[borders] = 0
    inside = nucleus & ~borders & (distance * mpp < _REACH_UM)
    inside = binary_opening(inside, iterations=max(1, round(0.3 / mpp))) | marked
    # Parts of different cells never touch: the borders between cells are cut out.
    parts, _ = label(inside)
    seeded = np.zeros(int(parts.max()) + 1, bool)
    seeded[parts[marked]] = True
    seeded[0] = False
    kept = binary_fill_holes(seeded[parts]) & ~borders
    labels[kept] = cells[kept]
    labels[nucleus & ~kept & ~borders] = UNKNOWN
    labels[points == UNKNOWN] = UNKNOWN
    return labels


def _borders(cells: Labels) -> npt.NDArray[np.bool_]:
    """Find the pixels that have another cell to the right, below or diagonally."""
    borders = np.zeros(cells.shape, bool)
    borders[:, :-1] |= cells[:, :-1] != cells[:, 1:]
    borders[:-1] |= cells[:-1] != cells[1:]
    borders[:-1, :-1] |= cells[:-1, :-1] != cells[1:, 1:]
    return borders


def _cluster(
    image: npt.NDArray[np.uint8],
    distance_um: npt.NDArray[np.float64],
    marked: npt.NDArray[np.bool_],
    seed: int,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Cluster pixels by colour and distance; return those of nuclei and of background."""
    density = -np.log((image.astype(np.float64) + 1) / 256)
    colour = (density - density.mean(axis=(0, 1))) / (density.std(axis=(0, 1)) + 1e-6)
    near = np.minimum(distance_um, 5.0) / 2.5
    features = np.concatenate([colour, near[..., None]], axis=2).reshape(-1, 4)
    _, cluster = kmeans2(features, 3, iter=20, minit="++", rng=np.random.default_rng(seed))
    cluster = cluster.reshape(marked.shape)
    present = np.unique(cluster)
    around = [float((distance_um[cluster == k] < 1.0).mean()) for k in present]
    away = [float(distance_um[cluster == k].mean()) for k in present]
    return cluster == present[np.argmax(around)], cluster == present[np.argmax(away)]
