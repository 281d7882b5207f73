"""Maps become polygons: where they lie, which stay, and what the points around agree on."""

from __future__ import annotations

import numpy as np
import pytest
from shapely import Polygon

from wsi_engine.models.starconvex.decoding import GRID_PX, decode_maps
from wsi_engine.models.starconvex.spec import LARGEST_OBJECT_PX
from wsi_engine.models.suppression import ray_directions

RAYS = 16


def maps_of(*nuclei: tuple[int, int, float, float], side: int = 32) -> np.ndarray:
    """Maps with a nucleus per (row, column, radius in px, logit), else background."""
    maps = np.full((side, side, 1 + RAYS), -8, np.float16)
    for row, column, radius, logit in nuclei:
        maps[row, column, 0] = logit
        maps[row, column, 1:] = np.log(np.expm1(radius))
    return maps


def decode(maps: np.ndarray, **options: float):  # type: ignore[no-untyped-def]
    settings = {"threshold": 0.5, "max_overlap": 0.3, "largest_px": 80.0, **options}
    return decode_maps(maps, **settings)


class TestDecoding:
    def test_a_nucleus_is_centred_on_its_grid_point(self) -> None:
        nuclei = decode(maps_of((10, 5, 6.0, 3.0)))
        assert nuclei.anchors.tolist() == [[11.0, 21.0]]  # x, y: the middle of 2 x 2 px
        assert nuclei.offsets.tolist() == [0, RAYS]
        assert nuclei.xy[0] == pytest.approx([17, 21], abs=0.02)  # ray 0 points along x
        assert nuclei.xy[RAYS // 4] == pytest.approx([11, 27], abs=0.02)  # ray R/4 points along y
        assert nuclei.scores == pytest.approx([1 / (1 + np.exp(-3))], abs=1e-3)
        assert nuclei.classes.tolist() == [-1]

    def test_only_above_the_threshold(self) -> None:
        maps = maps_of((10, 5, 6.0, 0.1), (20, 20, 6.0, -0.1))
        assert len(decode(maps)) == 1
        assert len(decode(maps, threshold=0.4)) == 2

    def test_one_nucleus_per_plateau(self) -> None:
        maps = maps_of((10, 5, 6.0, 2.0), (10, 6, 6.0, 2.0), (11, 5, 6.0, 2.0))
        assert decode(maps).anchors.tolist() == [[11.0, 21.0]]

    def test_overlapping_ones_are_suppressed(self) -> None:
        nuclei = decode(maps_of((10, 5, 6.0, 1.0), (10, 7, 6.0, 2.0)))
        assert nuclei.anchors.tolist() == [[15.0, 21.0]]

    def test_nuclei_come_in_the_order_of_their_position(self) -> None:
        nuclei = decode(maps_of((20, 5, 4.0, 3.0), (10, 20, 4.0, 1.0), (10, 5, 4.0, 2.0)))
        assert nuclei.anchors.tolist() == [[11.0, 21.0], [41.0, 21.0], [11.0, 41.0]]

    def test_no_nucleus_is_larger_than_the_model_says(self) -> None:
        nuclei = decode(maps_of((16, 16, 500.0, 3.0)))
        assert np.ptp(nuclei.xy, axis=0).max() <= LARGEST_OBJECT_PX

    def test_rings_are_valid_even_from_noise(self) -> None:
        maps = np.random.default_rng(0).normal(0, 3, (64, 64, 1 + RAYS)).astype(np.float16)
        nuclei = decode(maps)
        assert len(nuclei) > 50
        assert all(Polygon(ring).is_valid for ring in nuclei.xy.reshape(len(nuclei), RAYS, 2))

    def test_nothing_there(self) -> None:
        nuclei = decode(maps_of())
        assert (len(nuclei), nuclei.xy.shape, nuclei.offsets.tolist()) == (0, (0, 2), [0])

    def test_maps_that_are_not_finite_give_no_nuclei(self) -> None:
        maps = np.full((8, 8, 1 + RAYS), np.nan, np.float16)
        assert len(decode(maps)) == 0


def maps_of_disc(x: float, y: float, radius: float, noise: float = 0.0) -> np.ndarray:
    """What a perfect network says of one disc (px), with some noise on the distances."""
    rows, columns = np.mgrid[:32, :32] * GRID_PX + GRID_PX / 2
    offset = np.stack([columns - x, rows - y], axis=2)
    along = offset @ ray_directions(RAYS).T
    depth = radius**2 - (offset**2).sum(axis=2)
    distances = np.sqrt(np.clip(depth[..., None] + along**2, 0.01, None)) - along
    distances += np.random.default_rng(0).normal(0, noise, distances.shape)
    inside = 1 - np.sqrt((offset**2).sum(axis=2)) / radius
    logits = np.where(inside > 0, 4 * inside, -8)
    raw = np.log(np.expm1(np.clip(distances, 0.1, None)))
    return np.concatenate([logits[..., None], raw], axis=2).astype(np.float32)


class TestConsensus:
    def test_points_that_agree_change_nothing(self) -> None:
        maps = maps_of_disc(31.0, 33.0, 12.0)
        alone, together = (decode(maps, consensus=radius) for radius in (0, 2))
        # A polygon of 16 rays seen from elsewhere cuts its corners a little.
        assert together.xy == pytest.approx(alone.xy, abs=0.3)
        assert together.anchors.tolist() == alone.anchors.tolist()

    def test_errors_average_out(self) -> None:
        disc = maps_of_disc(31.0, 33.0, 12.0, noise=1.5)
        errors = []
        for radius in (0, 2):
            nuclei = decode(disc, consensus=radius)
            to_centre = np.hypot(*(nuclei.xy - [31.0, 33.0]).T)
            errors.append(np.abs(to_centre - 12).mean())
        assert errors[1] < 0.5 * errors[0]

    def test_points_of_another_nucleus_have_no_say(self) -> None:
        """Two small nuclei within reach of each other: each is outside of the other."""
        maps = maps_of((10, 5, 1.8, 3.0), (10, 7, 1.8, 2.0))
        nuclei = decode(maps)
        rings = nuclei.xy.reshape(2, RAYS, 2) - nuclei.anchors[:, None]
        assert np.hypot(*rings.T) == pytest.approx(np.full((RAYS, 2), 1.8), abs=0.02)


class TestClasses:
    def maps(self, *classes: tuple[int, int, float, list[float]]) -> np.ndarray:
        """One nucleus; logits of the object and of the classes at (row, column)."""
        maps = np.zeros((32, 32, 1 + RAYS + 3), np.float32)
        maps[..., 0] = -8
        maps[..., 1 : 1 + RAYS] = np.log(np.expm1(6.0))
        for row, column, logit, logits in classes:
            maps[row, column, 0] = logit
            maps[row, column, 1 + RAYS :] = logits
        return maps

    def test_probabilities_are_the_softmax_of_the_best_point(self) -> None:
        nuclei = decode(self.maps((10, 5, 2.0, [0.0, 2.0, 1.0])), classes=3)
        odds = np.exp([0.0, 2.0, 1.0])
        assert nuclei.probabilities is not None
        assert nuclei.probabilities == pytest.approx((odds / odds.sum())[None], abs=1e-6)
        assert nuclei.classes.tolist() == [1]
        assert nuclei.xy.shape == (RAYS, 2)

    def test_points_around_vote_by_their_object_probability(self) -> None:
        certain = [20.0, 0.0, 0.0], [0.0, 20.0, 0.0]
        maps = self.maps(
            (10, 5, 2.0, certain[0]), (10, 6, 1.0, certain[1]), (11, 5, 1.5, certain[1])
        )
        nuclei = decode(maps, classes=3)
        weights = 1 / (1 + np.exp([-2.0, -1.0, -1.5]))
        share = weights[0] / weights.sum()
        assert nuclei.probabilities is not None
        assert nuclei.probabilities == pytest.approx(np.array([[share, 1 - share, 0]]), abs=1e-6)
        assert nuclei.classes.tolist() == [1]

    def test_points_of_background_have_no_vote(self) -> None:
        maps = self.maps((10, 5, 2.0, [5.0, 0.0, 0.0]), (10, 6, -0.1, [0.0, 50.0, 0.0]))
        assert decode(maps, classes=3).classes.tolist() == [0]

    def test_ties_go_to_the_first(self) -> None:
        nuclei = decode(self.maps((10, 5, 2.0, [0.0, 0.0, 0.0])), classes=3)
        assert nuclei.classes.tolist() == [0]

    def test_large_logits_do_not_overflow(self) -> None:
        nuclei = decode(self.maps((10, 5, 2.0, [60000.0, -60000.0, 0.0])), classes=3)
        assert nuclei.probabilities is not None
        assert nuclei.probabilities.tolist() == [[1, 0, 0]]

    def test_shapes_are_those_without_classes(self) -> None:
        rng = np.random.default_rng(1)
        maps = rng.normal(0, 3, (64, 64, 1 + RAYS + 3)).astype(np.float16)
        with_classes, without = decode(maps, classes=3), decode(maps[..., : 1 + RAYS])
        assert with_classes.xy.tobytes() == without.xy.tobytes()
        assert with_classes.probabilities is not None
        assert with_classes.probabilities.sum(axis=1) == pytest.approx(np.ones(len(without)))
        assert without.probabilities is None

    def test_nothing_there(self) -> None:
        nuclei = decode(self.maps(), classes=3)
        assert nuclei.probabilities is not None
        assert (nuclei.probabilities.shape, nuclei.classes.shape) == ((0, 3), (0,))
