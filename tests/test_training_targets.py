"""Targets, crops and batches: geometry that can be checked against shapes one knows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.models.label_rays import boundary_peaks
from wsi_engine.models.starconvex.targets import size_weights, star_targets
from wsi_engine.models.suppression import ray_directions
from wsi_engine.training.warp import Warp, random_warp, warp_image, warp_labels, warp_map


def disc(side: int, x: float, y: float, radius: float, label: int = 1) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] + 0.5
    return np.where(np.hypot(rows - y, columns - x) <= radius, label, 0).astype(np.uint16)


def targets_of(labels: np.ndarray, **options: float):  # type: ignore[no-untyped-def]
    """Targets on every second label pixel corner; a model pixel is two label pixels."""
    peaks = boundary_peaks(labels) / 2
    side = labels.shape[0] // 4
    return star_targets(labels, peaks, shape=(side, side), first=2, spacing=4, unit=0.5, **options)


class TestDisc:
    labels = disc(80, x=40, y=42, radius=20)
    targets = targets_of(labels)

    def test_distances_lead_to_the_circle_from_anywhere_inside(self) -> None:
        directions = ray_directions(32)
        for row, column in zip(*np.nonzero(self.targets.probability), strict=True):
            start = np.array([column, row]) * 4 + 2
            reached = start + 2 * self.targets.distances[row, column][:, None] * directions
            radius = np.hypot(*(reached - [40, 42]).T)
            # A disc of pixels is itself up to half a pixel off the circle.
            assert radius == pytest.approx(np.full(32, 20), abs=1.0)
            assert radius.mean() == pytest.approx(20, abs=0.25)

    def test_probability_is_highest_in_the_middle_and_0_outside(self) -> None:
        assert self.targets.probability[10, 9] > 0.9
        assert self.targets.probability[0, 0] == 0
        assert self.targets.probability.max() <= 1

    def test_background_is_known(self) -> None:
        assert self.targets.probability_weight.min() == 1


def test_what_lies_in_the_unknown_weighs_nothing() -> None:
    labels = disc(80, 40, 40, 20)
    labels[:, 50:] = UNKNOWN
    targets = targets_of(labels)
    assert targets.probability_weight[:, 13:].max() == 0
    right, left = targets.distances_weight[10, 9, 0], targets.distances_weight[10, 9, 16]
    assert (right, left) == (0, 1)


def test_nuclei_cut_by_the_unknown_keep_their_middle() -> None:
    """The image's border is no boundary of a nucleus."""
    labels = disc(80, 40, 40, 20)
    labels[:, 41:] = UNKNOWN
    assert targets_of(labels).probability[10, 9] > 0.8


def test_boundaries_between_touching_nuclei_weigh_what_they_are_trusted() -> None:
    labels = disc(80, 40, 40, 24)
    labels[:, 40:] *= 2
    targets = targets_of(labels, inner_boundary_weight=0.3)
    towards_the_other, towards_background = targets.distances_weight[10, 8, [0, 16]]
    assert towards_the_other == pytest.approx(0.3)
    assert towards_background == 1
    assert targets.probability_weight[10, 9] == pytest.approx(0.3)  # nearest to the other


def test_peaks_are_the_inner_radius() -> None:
    labels = disc(80, 30, 30, 12) + disc(80, 60, 60, 8, label=5)
    peaks = boundary_peaks(labels)
    assert peaks[1] == pytest.approx(12, abs=1.5)
    assert peaks[5] == pytest.approx(8, abs=1.5)
    assert peaks[[0, 2, 3, 4]].tolist() == [0, 0, 0, 0]


def straight(matrix: list[list[float]], centre: tuple[float, float]) -> Warp:
    return Warp(np.array(matrix, float), centre, np.zeros((2, 9, 9)), reach=64)


class TestWarp:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)

    def test_identity_cuts_out_pixels(self) -> None:
        crop = warp_image(self.image, straight([[1, 0], [0, 1]], (32, 24)), 16)
        assert crop == pytest.approx(self.image[24:40, 16:32].astype(np.float32), abs=1e-3)

    def test_shrinking_by_two_averages_areas(self) -> None:
        crop = warp_image(self.image, straight([[2, 0], [0, 2]], (32, 32)), 16)
        blocks = self.image[16:48, 16:48].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
        assert crop == pytest.approx(blocks, abs=1e-3)

    def test_labels_lie_where_the_image_lies(self) -> None:
        labels = disc(64, x=40, y=28, radius=6)
        image = np.repeat((labels * 255).astype(np.uint8)[..., None], 3, axis=2)
        rng = np.random.default_rng(3)
        for _ in range(20):
            warp = random_warp(
                rng, (64, 64), px_per_model_px=1.0, scale=(0.6, 1.5), elastic_px=1.5, crop_px=32
            )
            from_image = warp_image(image, warp, 32)[..., 0] > 127
            fine = warp_labels(labels, warp, 32, margin_px=0, finer=1)
            known = fine != UNKNOWN
            assert ((fine == 1) != from_image)[known].mean() < 0.03

    def test_outside_of_the_image_is_unknown(self) -> None:
        labels = np.zeros((64, 64), np.uint16)
        fine = warp_labels(labels, straight([[1, 0], [0, 1]], (0, 32)), 16, margin_px=4, finer=2)
        assert (fine[:24] == UNKNOWN).all()
        assert (fine[24:] == 0).all()

    @pytest.mark.parametrize("scale", [0.5, 2.0])
    def test_scale_magnifies(self, scale: float) -> None:
        warp = random_warp(
            np.random.default_rng(0), (64, 64),
            px_per_model_px=3.0, scale=(scale, scale), elastic_px=0, crop_px=16,
        )  # fmt: skip
        assert warp.step == pytest.approx(3 / scale)
        assert math.hypot(*warp.matrix[0]) == pytest.approx(3 / scale)


class TestSmallNuclei:
    """A nucleus of 3 µm, between the points of a grid of 1 µm (a label pixel is 0.25 µm here)."""

    labels = disc(80, x=40, y=40, radius=6)

    def test_no_point_is_in_the_middle_of_it(self) -> None:
        assert targets_of(self.labels).probability.max() < 0.7

    def test_the_best_point_has_the_peak(self) -> None:
        plain = targets_of(self.labels).probability
        raised = targets_of(self.labels, peaks_on_grid=True).probability
        assert raised.max() == 1
        np.testing.assert_allclose(raised, plain / plain.max(), rtol=1e-6)

    def test_one_that_reaches_beyond_the_grid_keeps_its_own(self) -> None:
        """Its best point may be out there."""
        labels = disc(80, x=40, y=2, radius=6)
        plain, raised = targets_of(labels), targets_of(labels, peaks_on_grid=True)
        assert plain.probability.any()
        np.testing.assert_array_equal(raised.probability, plain.probability)


class TestSizeWeights:
    distances = np.repeat(np.array([[2.0], [8.0]], np.float32), 32, axis=1)

    @pytest.mark.parametrize(("power", "ratio"), [(0, 1), (0.5, 4), (1, 16)])
    def test_they_go_with_the_area(self, power: float, ratio: float) -> None:
        small, large = size_weights(self.distances, power)
        assert small / large == pytest.approx(ratio, rel=1e-5)
        assert (small + large) / 2 == pytest.approx(1, rel=1e-5)

    def test_where_in_the_nucleus_a_point_is_makes_no_difference(self) -> None:
        targets = targets_of(disc(80, x=40, y=42, radius=20))
        inside = targets.distances[targets.probability > 0.1]
        weights = size_weights(inside, 0.5)
        assert weights.max() / weights.min() < 1.1

    def test_no_nucleus_no_weight(self) -> None:
        assert size_weights(np.zeros((0, 32), np.float32), 0.5).shape == (0,)


class TestWarpedMap:
    @pytest.mark.parametrize("grid_px", [1, 2, 4])
    def test_it_lies_where_the_pixels_lie(self, grid_px: int) -> None:
        """A map of half the image's size that holds its own x; a crop that is the image turned."""
        values = np.tile((np.arange(64) * 2 + 1).astype(np.uint8), (64, 1))
        turned = Warp(np.array([[0.0, 1.0], [-1.0, 0.0]]), (64, 64), np.zeros((2, 9, 9)), 80)
        got = warp_map(values, turned, 64, grid_px=grid_px, shape=(128, 128))
        assert got.shape == (64 // grid_px,) * 2
        y = (np.arange(64 // grid_px) + 0.5) * grid_px - 32
        np.testing.assert_allclose(got, np.tile(64 - y[:, None], (1, 64 // grid_px)), atol=1e-3)

    def test_outside_of_the_image_nothing_is_known(self) -> None:
        warp = Warp(np.eye(2), (0, 16), np.zeros((2, 9, 9)), 40)
        got = warp_map(np.full((32, 32), 7, np.uint8), warp, 16, grid_px=2, shape=(32, 32))
        assert np.isnan(got[:4]).all()
        assert (got[4:] == 7).all()
