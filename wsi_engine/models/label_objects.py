"""From the label image of a tile to nuclei: which labels are plausible, and their polygons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.tracing import trace_labels

Labels = npt.NDArray[np.int32]
"""Shape (height, width), 0 for background."""


@dataclass(frozen=True, slots=True)
class ObjectLimits:
    """What an object must be to be a nucleus, in pixels of the label image.

    Attributes
    ----------
    smallest, largest
        Area.
    longest
        Longest side of the bounding box.
    thinnest
        Minor axis of the ellipse with the same second moments: thinner objects are fibres,
        folds and edges.
    """

    smallest: int
    largest: int
    longest: int
    thinnest: float


NUCLEUS = ObjectLimits(smallest=40, largest=1600, longest=56, thinnest=4.0)
"""A nucleus of 10 to 400 µm², at least 2 µm thick, at 0.5 µm/px."""


def plausible(labels: Labels, limits: ObjectLimits) -> Labels:
    """Drop what is too small, too large or too thin; number the rest from 1."""
    count = int(labels.max(initial=0))
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(labels, count)
    side = np.array(
        [max(s.stop - s.start for s in box) if box else 0 for box in boxes], dtype=np.int64
    )
    keep = (
        (area >= limits.smallest)
        & (area <= limits.largest)
        & (side <= limits.longest)
        & (_minor_axis(labels, count) >= limits.thinnest)
    )
    number = np.zeros(count + 1, np.int32)
    number[1:][keep] = np.arange(1, keep.sum() + 1)
    return number[labels]


def means(labels: Labels, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Mean of an image over each label from 1, shape (labels.max(),)."""
    count = int(labels.max(initial=0))
    if count == 0:
        return np.empty(0)
    return np.asarray(ndimage.mean(values, labels, np.arange(1, count + 1)))


def label_predictions(
    labels: Labels,
    scores: npt.NDArray[np.floating],
    field: npt.NDArray[np.float32],
    level: float,
) -> Predictions:
    """Outline labels and anchor each at its centroid, which every tile that sees it whole finds.

    Parameters
    ----------
    labels
        Numbered from 1 without a gap.
    scores
        In [0, 1], shape (labels.max(),).
    field, level
        See `wsi_engine.nuclei.tracing.trace_labels`.
    """
    xy, offsets, label_ids = trace_labels(labels, field, level)
    return Predictions(
        xy=xy,
        offsets=offsets,
        anchors=_centroids(labels, len(scores))[label_ids - 1],
        scores=scores[label_ids - 1].astype(np.float32),
        classes=np.full(len(label_ids), -1, np.int16),
    )


def _minor_axis(labels: Labels, count: int) -> npt.NDArray[np.float64]:
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


def _centroids(labels: Labels, count: int) -> npt.NDArray[np.float64]:
    """Centroid of each label as x, y in pixel corners, shape (count, 2)."""
    y, x = np.nonzero(labels)
    owner = labels[y, x]
    area = np.maximum(np.bincount(owner, minlength=count + 1)[1:], 1)
    sums = [np.bincount(owner, axis, count + 1)[1:] for axis in (x, y)]
    return np.column_stack(sums) / area[:, None] + 0.5
