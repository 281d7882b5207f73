"""How good a segmentation is: detection, segmentation, and both at once.

All measures but those of centroids are functions of the `Overlaps` of two segmentations,
which come from label images here, or from polygons (`wsi_engine.evaluation.evaluate`). Two
nuclei are matched where their IoU is above a threshold of at least 0.5, so a match is
unique and needs no assignment (Kirillov et al., "Panoptic Segmentation", CVPR 2019).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import KDTree

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.details import Details, details_of

Labels = npt.NDArray[np.integer]
Areas = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Points = npt.NDArray[np.float64]
IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
DETECTION_RADIUS_UM = 6.0


@dataclass(frozen=True)
class Overlaps:
    """The pairs of a true and a predicted nucleus that share pixels.

    Attributes
    ----------
    true, predicted
        The nuclei of each pair, as indices from 0, shape (pairs,).
    shared
        Area that they share, shape (pairs,), in pixels.
    true_areas, predicted_areas
        Area of each nucleus, shape (nuclei,), in pixels.
    foreground
        Areas of all true nuclei together, of all predicted ones, and of what both cover; ``None``
        where no nuclei of one side overlap, and sums tell.
    """

    true: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    shared: Areas
    true_areas: Areas
    predicted_areas: Areas
    foreground: tuple[float, float, float] | None = None

    @cached_property
    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each pair."""
        union = self.true_areas[self.true] + self.predicted_areas[self.predicted] - self.shared
        return np.asarray(self.shared / union, np.float64)


def present(labels: Labels) -> npt.NDArray[np.int64]:
    """Return the labels of the nuclei in an image, rising: those that `Overlaps` indexes."""
    areas = np.bincount(labels.ravel())
    areas[:1] = 0
    return np.flatnonzero(areas)


def _consecutive(labels: Labels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return labels as 0 (background), 1, 2, ... and the areas of 1, 2, ..."""
    areas = np.bincount(labels.ravel())
    nuclei = present(labels)
    consecutive = np.zeros(max(1, len(areas)), np.int64)
    consecutive[nuclei] = np.arange(1, len(nuclei) + 1)
    return consecutive[labels], areas[nuclei]


def overlaps(truth: Labels, prediction: Labels) -> Overlaps:
    """Find the pairs of nuclei that share pixels, in one pass over the images.

    Raises
    ------
    DatasetError
        If the images differ in size.
    """
    if truth.shape != prediction.shape:
        raise DatasetError(
            f"the prediction has {prediction.shape[1]} x {prediction.shape[0]} pixels, the truth "
            f"{truth.shape[1]} x {truth.shape[0]}: they do not belong together"
        )
    true, true_areas = _consecutive(truth)
    predicted, predicted_areas = _consecutive(prediction)
    both = (true > 0) & (predicted > 0)
    width = len(predicted_areas) + 1
    pair, shared = np.unique(true[both] * width + predicted[both], return_counts=True)
    return Overlaps(pair // width - 1, pair % width - 1, shared, true_areas, predicted_areas)


@dataclass(frozen=True, slots=True)
class Counts:
    """Nuclei found, invented and missed; they add up over images."""

    tp: int
    fp: int
    fn: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Share of predictions that are true, tp / (tp + fp); 1 where nothing was predicted."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 1.0

    @property
    def recall(self) -> float:
        """Share of nuclei that were found, tp / (tp + fn); 1 where there is nothing to find."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn)."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 1.0


def matches(pairs: Overlaps, threshold: float = 0.5) -> Counts:
    """Count matches at an IoU above a threshold of at least 0.5."""
    tp = int((pairs.iou > threshold).sum())
    return Counts(tp, len(pairs.predicted_areas) - tp, len(pairs.true_areas) - tp)


def panoptic_quality(pairs: Overlaps) -> tuple[float, float, float]:
    """Return PQ, DQ and SQ (Kirillov et al., CVPR 2019).

    DQ = tp / (tp + fp / 2 + fn / 2), SQ = mean IoU of the matches, PQ = DQ · SQ, with
    matches at IoU > 0.5. Without any nucleus in either image all three are 1.
    """
    matched = pairs.iou[pairs.iou > 0.5]
    counts = matches(pairs)
    if counts.tp + counts.fp + counts.fn == 0:
        return 1.0, 1.0, 1.0
    dq = counts.f1
    sq = float(matched.mean()) if len(matched) else 0.0
    return dq * sq, dq, sq


def aggregated_jaccard(pairs: Overlaps) -> float:
    """Return the aggregated Jaccard index, AJI (Kumar et al., IEEE TMI 2017).

    Each true nucleus takes the predicted one with the highest IoU. AJI is the sum of the
    intersections over the sum of the unions, to which the areas of true nuclei without
    overlap and of predicted ones that no true nucleus took are added.
    """
    order = np.lexsort((pairs.predicted, -pairs.iou, pairs.true))
    best = order[np.unique(pairs.true[order], return_index=True)[1]]
    missed = np.ones(len(pairs.true_areas), bool)
    missed[pairs.true[best]] = False
    left = np.ones(len(pairs.predicted_areas), bool)
    left[pairs.predicted[best]] = False
    intersection = float(pairs.shared[best].sum())
    areas = pairs.true_areas[pairs.true[best]] + pairs.predicted_areas[pairs.predicted[best]]
    union = float(areas.sum()) - intersection
    union += float(pairs.true_areas[missed].sum() + pairs.predicted_areas[left].sum())
    return intersection / union if union else 1.0


def dice(pairs: Overlaps) -> float:
    """Return 2 |A ∩ B| / (|A| + |B|) of the two foregrounds (Dice, Ecology 1945)."""
    true, predicted, shared = pairs.foreground or (
        float(pairs.true_areas.sum()),
        float(pairs.predicted_areas.sum()),
        float(pairs.shared.sum()),
    )
    return 2 * shared / (true + predicted) if true + predicted else 1.0


def splits_and_merges(pairs: Overlaps) -> tuple[int, int]:
    """Count true nuclei that were split, and predicted ones that merge several.

    A nucleus is split where two or more predictions lie in it, each with more than half of
    its own area; a prediction is a merge where two or more true nuclei lie in it likewise
    (over- and under-segmentation after Hoover et al., IEEE TPAMI 1996).
    """
    predicted_inside = pairs.shared > 0.5 * pairs.predicted_areas[pairs.predicted]
    true_inside = pairs.shared > 0.5 * pairs.true_areas[pairs.true]
    splits = np.bincount(pairs.true[predicted_inside], minlength=1)
    merges = np.bincount(pairs.predicted[true_inside], minlength=1)
    return int((splits >= 2).sum()), int((merges >= 2).sum())


def centroids(labels: Labels) -> npt.NDArray[np.float64]:
    """Return the centroid (x, y) of each nucleus in pixels (corners), shape (n, 2)."""
    consecutive, areas = _consecutive(labels)
    rows, columns = np.nonzero(consecutive)
    index = consecutive[rows, columns] - 1
    x = np.bincount(index, columns + 0.5, minlength=len(areas))
    y = np.bincount(index, rows + 0.5, minlength=len(areas))
    return np.stack([x, y], axis=1) / np.maximum(areas, 1)[:, None]


def detections(true: Points, predicted: Points, mpp: float) -> Counts:
    """Count nuclei whose centroids lie within 6 µm of each other, one to one.

    As many as possible are paired (a maximum matching), which does not depend on any order.
    The radius is that of Sirinukunwattana et al., IEEE TMI 2016 (12 px at 20x, 0.5 µm/px).

    Parameters
    ----------
    true, predicted
        Centroids (x, y) in pixels, shape (n, 2).
    mpp
        Pixel size in µm.
    """
    tp = 0
    if len(true) and len(predicted):
        near = KDTree(true).sparse_distance_matrix(
            KDTree(predicted), DETECTION_RADIUS_UM / mpp, output_type="coo_matrix"
        )
        graph = csr_array((np.ones(near.nnz), (near.row, near.col)), shape=near.shape)
        tp = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return Counts(tp, len(predicted) - tp, len(true) - tp)


@dataclass(frozen=True, slots=True)
class ImageScore:
    """All measures of one image.

    Attributes
    ----------
    at_iou
        Counts at each of `IOU_THRESHOLDS`.
    detection
        Counts of centroids within 6 µm.
    left_out
        Number of predictions that were not judged, as they lie where truth is not known.
    details
        The nuclei by size, score and colour; found is what has an IoU above a half.
    """

    name: str
    at_iou: tuple[Counts, ...]
    detection: Counts
    pq: float
    dq: float
    sq: float
    aji: float
    dice: float
    splits: int
    merges: int
    details: Details = field(repr=False, compare=False)
    left_out: int = 0

    @property
    def f1(self) -> float:
        """F1 at IoU 0.5."""
        return self.at_iou[0].f1


def score(
    name: str,
    pairs: Overlaps,
    detection: Counts,
    mpp: float,
    *,
    scores: npt.NDArray[np.float64] | None = None,
    red: npt.NDArray[np.bool_] | None = None,
    left_out: int = 0,
) -> ImageScore:
    """Compute all measures of one image.

    Parameters
    ----------
    mpp
        Pixel size in µm.
    scores
        Scores of the predicted nuclei, where they have any.
    red
        Which of the predicted nuclei are red, where it is known.
    left_out
        Number of predictions that are not judged.
    """
    matched = pairs.iou > 0.5
    is_found = np.isin(np.arange(len(pairs.true_areas)), pairs.true[matched])
    is_true = np.isin(np.arange(len(pairs.predicted_areas)), pairs.predicted[matched])
    pq, dq, sq = panoptic_quality(pairs)
    splits, merges = splits_and_merges(pairs)
    return ImageScore(
        name=name,
        at_iou=tuple(matches(pairs, threshold) for threshold in IOU_THRESHOLDS),
        detection=detection,
        pq=pq,
        dq=dq,
        sq=sq,
        aji=aggregated_jaccard(pairs),
        dice=dice(pairs),
        splits=splits,
        merges=merges,
        left_out=left_out,
        details=details_of(pairs.true_areas, is_found, is_true, mpp, scores, red),
    )


def score_image(name: str, truth: Labels, prediction: Labels, mpp: float) -> ImageScore:
    """Measure one prediction.

    Parameters
    ----------
    truth, prediction
        Label images of the same size, 0 for background.
    mpp
        Their pixel size in µm.
    """
    found = detections(centroids(truth), centroids(prediction), mpp)
    return score(name, overlaps(truth, prediction), found, mpp)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Evaluation:
    """The measures of a set of images, each image a unit of the bootstrap."""

    images: tuple[ImageScore, ...]

    def pooled(self, images: Sequence[ImageScore] | None = None) -> dict[str, float]:
        """Return counts pooled over images, and means over images of PQ, SQ, AJI and Dice."""
        chosen = self.images if images is None else images
        at_iou = [
            sum((image.at_iou[k] for image in chosen), Counts(0, 0, 0))
            for k in range(len(IOU_THRESHOLDS))
        ]
        detection = sum((image.detection for image in chosen), Counts(0, 0, 0))
        return {
            "precision": at_iou[0].precision,
            "recall": at_iou[0].recall,
            "f1": at_iou[0].f1,
            "f1_50_90": float(np.mean([counts.f1 for counts in at_iou])),
            "detection_f1": detection.f1,
            "pq": float(np.mean([image.pq for image in chosen])),
            "dq": float(np.mean([image.dq for image in chosen])),
            "sq": float(np.mean([image.sq for image in chosen])),
            "aji": float(np.mean([image.aji for image in chosen])),
            "dice": float(np.mean([image.dice for image in chosen])),
            "splits": float(sum(image.splits for image in chosen)),
            "merges": float(sum(image.merges for image in chosen)),
        }

    def details(self) -> Details:
        """Return the nuclei of all images by size, score and colour."""
        return functools.reduce(operator.add, (image.details for image in self.images))

    def intervals(self, draws: int = 1000, seed: int = 0) -> dict[str, Interval]:
        """Return the pooled measures with percentile bootstrap intervals over images.

        Images are drawn with replacement (Efron & Tibshirani, "An Introduction to the
        Bootstrap", 1993); nuclei of one image depend on each other and are not.
        """
        rng = np.random.default_rng(seed)
        count = len(self.images)
        drawn = [
            self.pooled([self.images[i] for i in rng.integers(count, size=count)])
            for _ in range(draws)
        ]
        result = {}
        for name, value in self.pooled().items():
            low, high = np.percentile([sample[name] for sample in drawn], [2.5, 97.5])
            result[name] = Interval(value, float(low), float(high))
        return result
