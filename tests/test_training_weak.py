"""Partial masks and points become labels that say what is known."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.evaluation.metrics import matches, overlaps
from wsi_engine.training.weak import labels_from_partial, labels_from_points

MPP = 0.25
CENTRES = ((20, 20), (20, 60), (60, 24), (64, 66), (60, 44))


def field() -> tuple[np.ndarray, np.ndarray]:
    """Dark discs of 4 µm on pink, two of them touching, with some noise."""
    rows, columns = np.mgrid[:96, :96] + 0.5
    truth = np.zeros((96, 96), np.uint16)
    for k, (y, x) in enumerate(CENTRES, start=1):
        truth[np.hypot(rows - y, columns - x) < 10] = k
    image = np.where((truth > 0)[..., None], (90, 60, 140), (225, 170, 205))
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), truth


class TestPartial:
    drawn = np.where(field()[1] == 1, 1, 0).astype(np.uint16)
    labels = labels_from_partial(drawn, MPP)

    def test_drawn_nuclei_stay(self) -> None:
        assert ((self.labels == 1) == (self.drawn == 1)).all()

    def test_a_rim_is_background(self) -> None:
        assert self.labels[20, 32] == 0

    def test_all_else_is_unknown(self) -> None:
        assert self.labels[60, 60] == UNKNOWN
        rim = (self.labels == 0).sum() * MPP**2
        assert rim == pytest.approx(np.pi * (3.5**2 - 2.5**2), rel=0.1)


class TestPoints:
    image, truth = field()
    points = np.zeros_like(truth)
    for k, (y, x) in enumerate(CENTRES, start=1):
        points[y, x] = k
    labels = labels_from_points(image, points, MPP)

    def test_nuclei_are_found_around_their_points(self) -> None:
        known = np.where(self.labels == UNKNOWN, 0, self.labels)
        counts = matches(overlaps(self.truth, known), 0.6)
        assert (counts.tp, counts.fp, counts.fn) == (5, 0, 0)

    def test_numbers_are_those_of_the_points(self) -> None:
        assert [self.labels[y, x] for y, x in CENTRES] == [1, 2, 3, 4, 5]

    def test_far_from_all_points_is_background(self) -> None:
        assert self.labels[40, 4] == 0

    def test_the_same_every_time(self) -> None:
        assert (labels_from_points(self.image, self.points, MPP) == self.labels).all()


def test_no_point_is_an_error() -> None:
    image, truth = field()
    with pytest.raises(DatasetError, match="no point"):
        labels_from_points(image, np.zeros_like(truth), MPP)
