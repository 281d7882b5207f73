"""The measures, against cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.metrics import (
    Counts,
    Evaluation,
    aggregated_jaccard,
    centroids,
    detections,
    dice,
    matches,
    overlaps,
    panoptic_quality,
    score_image,
    splits_and_merges,
)


def drawing(*rows: str) -> np.ndarray:
    """Labels drawn with characters: a dot is background."""
    return np.array([[0 if c == "." else int(c) for c in row] for row in rows])


def found_in(truth: np.ndarray, prediction: np.ndarray, mpp: float) -> Counts:
    return detections(centroids(truth), centroids(prediction), mpp)


# Two nuclei of 4 pixels. The prediction has 3 of the first and 1 more (IoU 3/5), misses the
# second, and invents one of 2 pixels.
TRUTH = drawing(
    "11....",
    "11..22",
    "....22",
)
PREDICTION = drawing(
    "55....",
    "5.....",
    "5.77..",
)


class TestHandComputed:
    pairs = overlaps(TRUTH, PREDICTION)

    def test_iou_is_intersection_over_union(self) -> None:
        assert self.pairs.iou.tolist() == [3 / 5]

    def test_counts(self) -> None:
        assert matches(self.pairs) == Counts(tp=1, fp=1, fn=1)

    def test_counts_at_a_stricter_iou(self) -> None:
        assert matches(self.pairs, 0.6) == Counts(tp=0, fp=2, fn=2)

    def test_pq_is_dq_times_sq(self) -> None:
        assert panoptic_quality(self.pairs) == pytest.approx((0.5 * 0.6, 0.5, 0.6))

    def test_aji_adds_the_missed_and_the_invented_to_the_union(self) -> None:
        assert aggregated_jaccard(self.pairs) == pytest.approx(3 / (5 + 4 + 2))

    def test_dice_of_the_foreground(self) -> None:
        assert dice(self.pairs) == pytest.approx(2 * 3 / (8 + 6))

    def test_centroids_are_pixel_corners(self) -> None:
        assert centroids(TRUTH).tolist() == [[1.0, 1.0], [5.0, 2.0]]


@pytest.mark.parametrize(
    ("mpp", "found"),
    [
        (1.0, 2),  # the second pair is 2 px apart, the first not at all
        (2.9, 2),
        (3.1, 1),
    ],
)
def test_detection_counts_centroids_within_6_um(mpp: float, found: int) -> None:
    prediction = drawing("77....", "7788..", "..88..")
    assert found_in(TRUTH, prediction, mpp) == Counts(found, 2 - found, 2 - found)


def test_two_predictions_share_no_true_centroid() -> None:
    truth = drawing("111111")
    prediction = drawing("112233")
    assert found_in(truth, prediction, 1.0) == Counts(tp=1, fp=2, fn=0)


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        ("1111", "1122", (1, 0)),
        ("1122", "1111", (0, 1)),
        ("1122", "1122", (0, 0)),
        ("11..", "1222", (0, 0)),  # only a third of the second lies in the nucleus
    ],
)
def test_splits_and_merges(truth: str, prediction: str, expected: tuple[int, int]) -> None:
    assert splits_and_merges(overlaps(drawing(truth), drawing(prediction))) == expected


def test_aji_takes_a_prediction_as_often_as_it_is_the_best() -> None:
    # Kumar's definition: both nuclei take the one prediction; unions 4 + 4.
    pairs = overlaps(drawing("1122"), drawing("1111"))
    assert aggregated_jaccard(pairs) == pytest.approx((2 + 2) / (4 + 4))


def test_perfect_prediction() -> None:
    score = score_image("a", TRUTH, TRUTH * 3, 0.5)
    assert (score.f1, score.pq, score.aji, score.dice, score.detection.f1) == (1, 1, 1, 1, 1)


def test_nothing_there_and_nothing_predicted_is_perfect() -> None:
    empty = np.zeros((4, 4), int)
    score = score_image("empty", empty, empty, 0.5)
    assert (score.f1, score.pq, score.aji, score.dice) == (1, 1, 1, 1)


@pytest.mark.parametrize("missing", ["truth", "prediction"])
def test_one_side_empty_scores_zero(missing: str) -> None:
    empty = np.zeros_like(TRUTH)
    truth, prediction = (empty, TRUTH) if missing == "truth" else (TRUTH, empty)
    score = score_image("a", truth, prediction, 0.5)
    assert (score.f1, score.pq, score.aji, score.dice) == (0, 0, 0, 0)


def test_measures_do_not_depend_on_the_numbering() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 9, (2, 40, 40))
    shuffled = np.concatenate([[0], 100 + rng.permutation(8)])[prediction]
    first, second = (score_image("a", truth, p, 0.5) for p in (prediction, shuffled))
    assert first == second


def test_pooled_counts_weigh_nuclei_and_intervals_hold_the_value() -> None:
    good = score_image("good", TRUTH, TRUTH, 0.5)
    bad = score_image("bad", TRUTH, PREDICTION, 0.5)
    evaluation = Evaluation((good, bad, bad))
    pooled = evaluation.pooled()
    assert pooled["f1"] == pytest.approx(Counts(4, 2, 2).f1)
    assert pooled["pq"] == pytest.approx((1 + 0.3 + 0.3) / 3)
    interval = evaluation.intervals(draws=200)["f1"]
    assert interval.low <= interval.value <= interval.high
    assert evaluation.intervals(draws=200) == evaluation.intervals(draws=200)


def test_images_of_different_size_are_an_error() -> None:
    with pytest.raises(DatasetError, match="do not belong together"):
        overlaps(np.zeros((3, 4), int), np.zeros((4, 4), int))
