"""Several views of a tile, and several methods on it: what they agree on stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch

from tests.support.dense_maps import darkness_model
from wsi_engine.errors import ModelError
from wsi_engine.models.augmented import Turnable, augmented
from wsi_engine.models.dense import contour_aware
from wsi_engine.models.dense.model import DenseModel
from wsi_engine.models.ensemble import ensemble
from wsi_engine.models.fusion import fused
from wsi_engine.models.map_layout import layout_of
from wsi_engine.models.starconvex.model import load_starconvex
from wsi_engine.models.suppression import ray_directions
from wsi_engine.models.threshold import Threshold
from wsi_engine.models.turns import Turn, turns
from wsi_engine.models.watershed import Watershed
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.predictions import Predictions

PINK, DARK = (235, 190, 215), (90, 60, 150)
CENTRES = np.array([(60, 50), (110, 60), (70, 120), (130, 130)], float)
EVERY_TURN = pytest.mark.parametrize("turn", turns(8), ids=str)


def field(side: int = 192) -> np.ndarray:
    """Four nuclei, of which no two lie alike."""
    rows, columns = np.mgrid[:side, :side] + 0.5
    image = np.full((side, side, 3), PINK, np.uint8)
    for (x, y), stretch in zip(CENTRES, (1, 1.4, 0.7, 1.2), strict=True):
        image[np.hypot((columns - x) * stretch, rows - y) < 8] = DARK
    return image


def predict(model, image: np.ndarray) -> Predictions:
    return model.decode(model.maps(image[None])[0])


def outlines(found: Predictions) -> np.ndarray:
    return polygons_from_rings(found.xy, found.offsets)


def dense_model() -> DenseModel:
    return darkness_model(contour_aware.METHOD)


class TestTurns:
    def test_there_are_eight_and_all_differ(self) -> None:
        image = np.arange(12).reshape(1, 3, 4)
        seen = {(t.apply(image).shape, t.apply(image).tobytes()) for t in turns(8)}
        assert len(seen) == 8
        assert turns(8)[0] == turns(4)[0] == Turn(0, mirrored=False)
        assert not any(turn.mirrored for turn in turns(4))

    @EVERY_TURN
    def test_undone_they_leave_images_as_they_were(self, turn: Turn) -> None:
        image = np.random.default_rng(0).integers(0, 9, (2, 5, 7, 3))
        np.testing.assert_array_equal(turn.undo(turn.apply(image)), image)

    @EVERY_TURN
    def test_points_go_back_to_the_pixels_that_they_came_from(self, turn: Turn) -> None:
        image = np.arange(1, 36).reshape(1, 5, 7)
        turned = turn.apply(image)[0]
        y, x = np.nonzero(turned)
        back = turn.undo_points(np.column_stack([x, y]) + 0.5, 5, 7)
        column, row = (back - 0.5).round().astype(int).T
        np.testing.assert_array_equal(image[0][row, column], turned[y, x])

    @EVERY_TURN
    def test_rays_point_where_they_pointed(self, turn: Turn) -> None:
        rays = 32
        # What a network would answer that sees a shape with a nose in the turned image.
        upright = np.full(rays, 5.0)
        upright[3] = 9
        tip = np.array([50, 50]) + 9 * ray_directions(rays)[3]
        image = np.zeros((1, 100, 100))
        image[0, int(tip[1]), int(tip[0])] = 1
        row, column = np.argwhere(turn.apply(image)[0])[0]
        towards = np.array([column + 0.5, row + 0.5]) - 50
        seen = np.full(rays, 5.0)
        seen[np.argmax(ray_directions(rays) @ towards)] = 9
        np.testing.assert_array_equal(seen[turn.undo_rays(rays)], upright)


class TestAugmented:
    @pytest.mark.parametrize("model", [load_starconvex(), dense_model()], ids=["rays", "dense"])
    @EVERY_TURN
    def test_maps_of_a_turned_tile_are_turned_back(self, model, turn: Turn) -> None:
        """The upright nuclei come of the turned tile, too: as well as the network turns."""
        assert isinstance(model, Turnable)
        turned = model.maps(np.ascontiguousarray(turn.apply(field()[None])))
        found = model.decode(np.ascontiguousarray(model.upright(turned, turn)[0]))
        expected = outlines(predict(model, field()))
        assert len(found) == len(expected) == 4
        for one, other in zip(_by_place(outlines(found)), _by_place(expected), strict=True):
            assert one.intersection(other).area > 0.9 * one.union(other).area

    @pytest.mark.parametrize("count", [4, 8])
    @pytest.mark.parametrize(
        "model",
        [load_starconvex(), dense_model(), Watershed(200.0), Threshold(200.0)],
        ids=lambda model: model.spec.name,
    )
    def test_nuclei_are_where_they_are(self, model, count) -> None:
        wrapped = augmented(model, count)
        found = predict(wrapped, field())
        assert len(found) == 4
        places = np.array([polygon.centroid.coords[0] for polygon in outlines(found)])
        apart = np.hypot(*(places[:, None] - CENTRES[None]).transpose(2, 0, 1))
        assert apart.min(axis=1).max() < 1
        assert wrapped.spec is model.spec
        assert wrapped.settings() == {**model.settings(), "views": count}

    @pytest.mark.parametrize(
        "model", [dense_model(), Watershed(200.0)], ids=lambda model: model.spec.name
    )
    def test_the_answer_turns_with_the_image(self, model) -> None:
        """Eight views of a tile are those of the turned tile."""
        wrapped = augmented(model, 8)
        upright = _by_place(outlines(predict(wrapped, field())))
        for turn in turns(8):
            found = predict(wrapped, np.ascontiguousarray(turn.apply(field()[None])[0]))
            xy = turn.undo_points(found.xy, 192, 192)
            turned = _by_place(polygons_from_rings(xy, found.offsets))
            for one, other in zip(turned, upright, strict=True):
                assert one.intersection(other).area > 0.97 * one.union(other).area

    def test_averaged_maps_are_what_the_model_decodes(self) -> None:
        for model in (load_starconvex(), dense_model()):
            maps = augmented(model, 4).maps(field()[None])
            assert (maps.shape, maps.dtype) == (
                model.maps(field()[None]).shape,
                model.maps(field()[None]).dtype,
            )

    def test_the_network_within_can_be_compiled(self) -> None:
        image = field()[None]
        for model in (augmented(dense_model(), 4), augmented(load_starconvex(), 4)):
            compilation = model.compilation(1, 192)
            assert compilation is not None
            assert compilation.network is model.model.network
            again = model.with_network(compilation.network)
            np.testing.assert_array_equal(again.maps(image), model.maps(image))
        assert augmented(Watershed(), 4).compilation(1, 192) is None

    def test_it_is_calibrated_and_moved_with_its_model(self) -> None:
        wrapped = augmented(Watershed(), 4).calibrate(field()[None]).to(torch.device("cpu"))
        expected = Watershed().calibrate(field()[None]).settings()
        assert wrapped.settings() == {**expected, "views": 4}
        assert expected != Watershed().settings()


def _by_place(polygons: np.ndarray) -> list[shapely.Polygon]:
    return sorted(polygons, key=lambda polygon: polygon.centroid.x + 1000 * polygon.centroid.y)


def squares(*places: tuple[float, float, float, float]) -> Predictions:
    """Squares by left, top, side and score."""
    xy = [[(x, y), (x + side, y), (x + side, y + side), (x, y + side)] for x, y, side, _ in places]
    return Predictions(
        xy=np.array(xy, float).reshape(-1, 2),
        offsets=np.arange(len(places) + 1, dtype=np.int64) * 4,
        anchors=np.array([(x + side / 2, y + side / 2) for x, y, side, _ in places]).reshape(-1, 2),
        scores=np.array([score for *_, score in places], np.float32),
        classes=np.full(len(places), -1, np.int16),
    )


class TestFusion:
    def test_what_enough_see_stays(self) -> None:
        found = fused(
            [squares((0, 0, 10, 0.9), (50, 0, 10, 0.9)), squares((1, 0, 10, 0.6)), squares()],
            votes=2,
            max_overlap=0.1,
        )
        assert found.anchors.tolist() in ([[5.0, 5.0]], [[6.0, 5.0]])
        assert found.scores == pytest.approx([0.5])

    def test_the_shape_that_agrees_best_is_chosen(self) -> None:
        found = fused(
            [squares((0, 0, 14, 0.99)), squares((0, 0, 10, 0.5)), squares((0, 0, 11, 0.5))],
            votes=2,
            max_overlap=0.1,
        )
        assert np.ptp(found.xy[:, 0]) == 11

    def test_an_opinion_has_one_vote_for_a_nucleus(self) -> None:
        twice = squares((0, 0, 10, 0.9), (1, 1, 10, 0.8))
        assert len(fused([twice, squares()], votes=2, max_overlap=0.1)) == 0

    def test_one_that_merges_two_is_outvoted(self) -> None:
        apart = squares((0, 0, 10, 0.8), (11, 0, 10, 0.8))
        merged = replace(squares((0, 0, 21, 0.99)))
        found = fused([merged, apart, apart], votes=2, max_overlap=0.1)
        assert found.anchors.tolist() == [[5, 5], [16, 5]]

    def test_those_that_stay_do_not_lie_in_one_another(self) -> None:
        large, small = squares((0, 0, 20, 0.5)), squares((5, 5, 8, 0.9))
        found = fused([large, small, large], votes=1, max_overlap=0.1)
        assert np.ptp(found.xy[:, 0]) == 20, "two saw the large one"

    def test_the_order_of_the_opinions_does_not_matter(self) -> None:
        rng = np.random.default_rng(1)
        spots = rng.uniform(0, 300, (60, 2))
        opinions = [
            squares(*((*(spot + rng.normal(0, 1, 2)), 10, rng.uniform()) for spot in spots))
            for _ in range(3)
        ]
        first = fused(opinions, 2, 0.1)
        other = fused(opinions[::-1], 2, 0.1)
        assert len(first) > 20
        assert first.xy.tobytes() == other.xy.tobytes()

    def test_nobody_sees_anything(self) -> None:
        assert len(fused([squares(), squares()], 1, 0.1)) == 0


class TestEnsemble:
    MODELS = (load_starconvex(), dense_model(), Watershed(200.0))

    def test_it_finds_what_most_find(self) -> None:
        found = predict(ensemble(self.MODELS), field())
        assert len(found) == 4

    def test_each_model_decodes_its_own_maps(self) -> None:
        """Maps of other grids and types come out of the bytes as they went in."""
        together = ensemble(self.MODELS)
        packed = together.maps(field()[None])
        assert packed.dtype == np.uint8
        first = 0
        for model, layout in zip(together.models, together.layouts, strict=True):
            stop = first + layout.bytes * (2 // layout.step) ** 2
            maps = layout.unpack(packed[0, ..., first:stop], 2)
            np.testing.assert_array_equal(maps, model.maps(field()[None])[0])
            assert maps.dtype == layout.dtype
            first = stop
        assert first == packed.shape[-1]

    def test_layouts_are_what_the_models_return(self) -> None:
        steps = [layout_of(model).step for model in self.MODELS]
        assert steps == [2, 1, 1]

    def test_its_facts_suit_the_most_demanding(self) -> None:
        spec = ensemble(self.MODELS).spec
        for model in self.MODELS:
            assert spec.stride % model.spec.stride == 0
            assert spec.halo_px >= model.spec.halo_px
            assert spec.max_overlap >= model.spec.max_overlap

    def test_votes(self) -> None:
        empty = Watershed(1e6)
        assert len(predict(ensemble([Watershed(200.0), empty]), field())) == 0
        assert len(predict(ensemble([Watershed(200.0), empty], votes=1), field())) == 4
        assert ensemble(self.MODELS).settings()["votes"] == 2

    def test_it_is_calibrated_model_by_model(self) -> None:
        calibrated = ensemble([Watershed(), Threshold()]).calibrate(field()[None])
        expected = Watershed().calibrate(field()[None]).settings()["haematoxylin_threshold_od"]
        assert calibrated.settings()["watershed.haematoxylin_threshold_od"] == expected
        assert calibrated.settings()["threshold.haematoxylin_threshold_od"] == expected

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"mpp": 0.25}, "pixels differ: contour-aware 0.5 µm, contour-aware 0.25 µm"),
            ({"classes": ("Tumor",)}, "cannot vote on classes"),
        ],
    )
    def test_models_that_do_not_go_together(self, change, message) -> None:
        model = dense_model()
        other = replace(model, spec=replace(model.spec, **change))
        with pytest.raises(ModelError, match=message):
            ensemble([model, other])

    def test_one_model_is_no_ensemble(self) -> None:
        with pytest.raises(ModelError, match="two or more"):
            ensemble([Watershed()])
        with pytest.raises(ModelError, match="from 1 to 2"):
            ensemble([Watershed(), Threshold()], votes=3)
