"""Predictions on annotated images: where they lie, and which threshold suits them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.models.starconvex.model import StarConvexModel
from wsi_engine.models.starconvex.spec import SPEC
from wsi_engine.training.fields import Field
from wsi_engine.training.validate import ValidationSet, calibrated, evaluate_fields, predict

RAYS = 16


class DarkDiscs(nn.Module):
    """A network that takes every dark spot for a disc of 3 µm radius.

    The darker, the likelier; what is only half as dark has a logit of -1.
    """

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        darkness = nn.functional.avg_pool2d(-pixels.mean(1, keepdim=True), 2)
        near = nn.functional.avg_pool2d(darkness, 5, stride=1, padding=2)
        distances = torch.full_like(near, 6.0).repeat(1, RAYS, 1, 1)
        return torch.cat([2.5 * near - 2.5, distances], dim=1)


MODEL = StarConvexModel(DarkDiscs(), SPEC, threshold=0.5)


def field(centres: list[tuple[float, float]], mpp: float, pale: int = 0) -> Field:
    """Black discs of 3 µm radius at (x, y) µm on white, 40 x 36 µm; some only grey."""
    height, width = round(36 / mpp), round(40 / mpp)
    rows, columns = (np.mgrid[:height, :width] + 0.5) * mpp
    labels = np.zeros((height, width), np.uint16)
    image = np.full((height, width, 3), 255, np.uint8)
    for k, (x, y) in enumerate(centres, start=1):
        disc = np.hypot(columns - x, rows - y) < 3
        labels[disc] = k
        image[disc] = 0 if k > pale else 115
    classes = np.full(len(centres) + 1, -1, np.int16)
    return Field("a", "a", image, labels, np.zeros(1, np.float32), classes, mpp)


CENTRES = [(8, 8), (30, 10), (19.5, 24.5)]


@pytest.mark.parametrize("mpp", [0.25, 0.1667, 0.31, 0.5])
def test_predictions_lie_where_the_nuclei_are(mpp: float) -> None:
    truth = field(CENTRES, mpp)
    evaluation = evaluate_fields(MODEL, [truth], [predict(MODEL, truth.image, mpp)])
    (score,) = evaluation.images
    assert score.f1 == 1
    # Centres lie on a grid of 1 µm: up to 0.7 µm off for a disc of 6 µm.
    assert score.sq > 0.8


def test_what_lies_in_the_unknown_does_not_count() -> None:
    truth = field(CENTRES, 0.25)
    prediction = predict(MODEL, truth.image, 0.25)
    truth.labels[:, 80:] = UNKNOWN
    truth.labels[truth.labels == 3] = 0
    (score,) = evaluate_fields(MODEL, [truth], [prediction]).images
    counts = score.at_iou[0]
    assert (counts.tp, counts.fn) == (1, 0)
    assert counts.fp == 1  # the half of the third that is known to be background


def test_the_threshold_is_lowered_for_pale_nuclei() -> None:
    pale = field(CENTRES, 0.25, pale=2)
    before = evaluate_fields(MODEL, [pale], [predict(MODEL, pale.image, 0.25)])
    model, figures = calibrated(MODEL, [ValidationSet("pale", (pale,))])
    assert before.images[0].f1 == 0.5
    assert figures["f1"] == figures["f1/pale"] == 1
    assert model.settings() == {"threshold": figures["threshold"]}
    assert model.threshold < MODEL.threshold


class DiscsOfTwoClasses(DarkDiscs):
    """The same; black is the first class, grey the second."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = super().forward(pixels)
        blackness = maps[:, :1] - 0.5
        return torch.cat([maps, blackness, -blackness], dim=1)


class TestClassF1:
    model = StarConvexModel(
        DiscsOfTwoClasses(), replace(SPEC, classes=("black", "grey")), threshold=0.5
    )

    def figures(self, *classes: list[int]) -> dict[str, float]:
        """Figures of a set of fields whose first nucleus is grey, the others black."""
        fields = [
            replace(field(CENTRES, 0.25, pale=1), classes=np.array([-1, *each], np.int16))
            for each in classes
        ]
        return calibrated(self.model, [ValidationSet("discs", tuple(fields))])[1]

    def test_is_the_mean_over_classes(self) -> None:
        figures = self.figures([1, 0, 0])
        assert figures["class_f1/black"] == figures["class_f1/grey"] == figures["class_f1"] == 1

    def test_a_wrong_class_counts_for_both(self) -> None:
        figures = self.figures([1, 0, 1])
        assert figures["f1"] == 1
        assert figures["class_f1/black"] == pytest.approx(2 / 3)
        assert figures["class_f1/grey"] == pytest.approx(2 / 3)

    def test_nuclei_and_fields_of_unknown_class_do_not_count(self) -> None:
        figures = self.figures([1, 0, -1], [-1, -1, -1])
        assert figures["class_f1"] == 1

    def test_a_class_that_nobody_has_is_left_out(self) -> None:
        figures = self.figures([-1, 0, 0])
        assert figures["class_f1"] == figures["class_f1/black"] == 1
        assert "class_f1/grey" not in figures

    def test_there_is_none_where_no_class_is_known(self) -> None:
        assert "class_f1" not in self.figures([-1, -1, -1])


class TestUsualThreshold:
    """What has proved good is not overruled by a handful of nuclei."""

    def chosen(self, copies: int, usual: float | None) -> float:
        part = ValidationSet("discs", (field(CENTRES, 0.5, pale=1),) * copies)
        return calibrated(MODEL, [part], usual)[0].threshold

    @pytest.mark.parametrize("copies", [1, 33])
    def test_few_nuclei_leave_it(self, copies: int) -> None:
        """However much better another threshold is on them."""
        assert self.chosen(copies, None) == pytest.approx(0.2)
        assert self.chosen(copies, 0.5) == pytest.approx(0.5)

    def test_many_overrule_it(self) -> None:
        assert self.chosen(60, 0.5) < 0.45


def test_the_margin_of_a_nucleus_that_nobody_knows_is_not_found_in_vain() -> None:
    """Only its rim reaches into what is known; it is as if it were not there."""
    truth = field(CENTRES, 0.25)
    prediction = predict(MODEL, truth.image, 0.25)
    truth.labels[truth.labels == 3] = UNKNOWN
    truth.labels[:, 82:] = np.where(truth.labels[:, 82:] == UNKNOWN, 0, truth.labels[:, 82:])
    (score,) = evaluate_fields(MODEL, [truth], [prediction]).images
    counts = score.at_iou[0]
    assert (counts.tp, counts.fp, counts.fn) == (2, 0, 0)
