"""The classical method: colour deconvolution, threshold, seeded watershed, shape filter.

Every step but the flooding looks at a bounded neighbourhood, and every value that a threshold
meets is computed in the same way wherever the tile begins. So a nucleus comes out the same in
each tile that sees it, except inside clumps that outgrow the tile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numba
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import filters, morphology, segmentation

from wsi_engine.models.protocol import ModelSpec
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.tracing import trace_labels
from wsi_engine.slide.stain import MILLI, haematoxylin

if TYPE_CHECKING:
    import torch

SPEC = ModelSpec(
    name="watershed",
    summary="Haematoxylin threshold and seeded watershed on the distance transform",
    mpp=0.5,
    stride=1,
    receptive_radius_px=52,
    largest_object_px=56,
    classes=(),
    licence="Apache-2.0",
    embedded=True,
    max_overlap=0.1,
)

BLUR_SIGMA_PX = 1.0
BACKGROUND_RADIUS_PX = 20
BACKGROUND_CONTRAST = 1.1
"""A nucleus is darker than its surroundings within 10 µm by this factor."""
OPENING = morphology.disk(2).astype(bool)
DEEPEST_PX = 12.0
"""Distances to the border are cut off here, so that the distance of a pixel stays local."""
SEED_SIGMA_PX = 1.5
SEED_NEIGHBOURHOOD = morphology.disk(4).astype(bool)
SMALLEST_PX, LARGEST_PX = 40, 1600
LARGEST_HOLE_PX = 40
THINNEST_PX = 4.0
"""Length of the minor axis (2 µm): thinner objects are fibres, folds and edges."""

OTSU_SHARE = 0.9
"""Otsu's threshold on the slide's tissue, slightly lowered: pale nuclei are the smaller class."""
FAINTEST_TISSUE = 30
DEFAULT_THRESHOLD = 150


@dataclass(frozen=True)
class Watershed:
    """The classical nucleus model.

    Attributes
    ----------
    threshold
        Haematoxylin above which a pixel may be nucleus, in thousandths of optical density;
        set for the slide by ``calibrate``.
    """

    threshold: float = DEFAULT_THRESHOLD

    @property
    def spec(self) -> ModelSpec:
        """The facts the engine plans by."""
        return SPEC

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Set the threshold from the slide's tissue, by Otsu's method."""
        smooth = np.stack([_smooth(field) for field in haematoxylin(fields)])
        tissue = smooth[smooth > FAINTEST_TISSUE]
        if tissue.size == 0 or np.ptp(tissue) == 0:
            return self
        return replace(self, threshold=float(np.rint(OTSU_SHARE * filters.threshold_otsu(tissue))))

    def settings(self) -> dict[str, float]:
        """Return the slide's threshold in optical density."""
        return {"haematoxylin_threshold_od": self.threshold / MILLI}

    def to(self, device: torch.device) -> Self:
        """Return the model itself: it runs on the processor whatever the device."""
        del device
        return self

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Haematoxylin, int16, shape (n, height, width)."""
        return haematoxylin(batch)

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Segment the nuclei of one tile."""
        density = maps.astype(np.float32)
        smooth = _smooth(density)
        level = np.maximum(self.threshold, BACKGROUND_CONTRAST * _surroundings(maps))
        excess = smooth - level
        labels = _split(_nuclear_mask(excess > 0))
        labels, scores = _plausible(labels, smooth, self.threshold)
        xy, offsets, label_ids = trace_labels(labels, excess, 0.0)
        return Predictions(
            xy=xy,
            offsets=offsets,
            anchors=_centroids(labels, len(scores))[label_ids - 1],
            scores=scores[label_ids - 1],
            classes=np.full(len(label_ids), -1, np.int16),
        )


def _smooth(density: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    smooth = ndimage.gaussian_filter(density.astype(np.float32), BLUR_SIGMA_PX, truncate=4.0)
    return np.asarray(smooth, np.float32)


def _nuclear_mask(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    mask = ndimage.binary_opening(mask, OPENING)
    background, count = ndimage.label(~mask)
    hole = np.bincount(background.ravel(), minlength=count + 1) <= LARGEST_HOLE_PX
    hole[0] = False
    return np.asarray(mask | hole[background])


def _split(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Cut clumps where they are narrow: flood the distance transform from its peaks."""
    depth = np.minimum(ndimage.distance_transform_edt(mask), DEEPEST_PX).astype(np.float32)
    relief = ndimage.gaussian_filter(depth, SEED_SIGMA_PX, truncate=4.0)
    peak = relief == ndimage.maximum_filter(relief, footprint=SEED_NEIGHBOURHOOD)
    seeds, _ = ndimage.label(peak & mask & (relief > 1), np.ones((3, 3)))
    return np.asarray(segmentation.watershed(-relief, seeds, mask=mask), np.int32)


def _plausible(
    labels: npt.NDArray[np.int32], smooth: npt.NDArray[np.float32], threshold: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Drop what is too small, too large or too thin; number the rest from 1."""
    count = int(labels.max(initial=0))
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(labels, count)
    side = np.array(
        [max(s.stop - s.start for s in box) if box else 0 for box in boxes], dtype=np.int64
    )
    keep = (
        (area >= SMALLEST_PX)
        & (area <= LARGEST_PX)
        & (side <= SPEC.largest_object_px)
        & (_minor_axis(labels, count) >= THINNEST_PX)
    )
    number = np.zeros(count + 1, np.int32)
    number[1:][keep] = np.arange(1, keep.sum() + 1)
    kept = number[labels]
    mean = ndimage.mean(smooth, kept, np.arange(1, keep.sum() + 1)) if keep.any() else np.empty(0)
    return kept, np.clip(1 - threshold / np.maximum(mean, 1), 0, 1).astype(np.float32)


def _minor_axis(labels: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.float64]:
    """Minor axis of the ellipse with the same second moments, in pixels."""
    y, x = np.nonzero(labels)
    owner = labels[y, x]
    area = np.maximum(np.bincount(owner, minlength=count + 1)[1:], 1)

    def mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(owner, values, count + 1)[1:] / area

    mean_x, mean_y = mean(x.astype(np.float64)), mean(y.astype(np.float64))
    dx, dy = x - np.append(0, mean_x)[owner], y - np.append(0, mean_y)[owner]
    # 1/12 is the second moment of a pixel itself.
    xx, yy, xy = mean(dx * dx) + 1 / 12, mean(dy * dy) + 1 / 12, mean(dx * dy)
    smaller = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return np.asarray(4 * np.sqrt(np.maximum(smaller, 0)))


def _centroids(labels: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.float64]:
    """Centroid of each label as x, y in pixel corners, shape (count, 2)."""
    y, x = np.nonzero(labels)
    owner = labels[y, x]
    area = np.maximum(np.bincount(owner, minlength=count + 1)[1:], 1)
    sums = [np.bincount(owner, axis, count + 1)[1:] for axis in (x, y)]
    return np.column_stack(sums) / area[:, None] + 0.5


def _surroundings(density: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Mean over a square of 41 pixels around each pixel."""
    radius = BACKGROUND_RADIUS_PX
    padded = np.pad(density.astype(np.int32), radius, mode="edge")
    side = 2 * radius + 1
    return (_box_sums(padded, side) / np.float32(side * side)).astype(np.float32)


@numba.njit(nogil=True, cache=True)
def _box_sums(padded: npt.NDArray[np.int32], side: int) -> npt.NDArray[np.int32]:
    """Sum boxes of (height + side - 1, width + side - 1); shape (height, width)."""
    # Running sums of integers: exact, so they do not depend on where the image starts.
    height, width = padded.shape[0] - side + 1, padded.shape[1] - side + 1
    columns = np.zeros(padded.shape[1], np.int32)
    out = np.empty((height, width), np.int32)
    for y in range(side - 1):
        columns += padded[y]
    for y in range(height):
        columns += padded[y + side - 1]
        total = np.int32(0)
        for x in range(side - 1):
            total += columns[x]
        for x in range(width):
            total += columns[x + side - 1]
            out[y, x] = total
            total -= columns[x]
        columns -= padded[y]
    return out
