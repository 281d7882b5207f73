"""Where crops are drawn: by the weights of the sets, and as often for rare classes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_engine.errors import DatasetError
from wsi_engine.training.batches import make_batch
from wsi_engine.training.config import DataConfig, TrainConfig
from wsi_engine.training.datasets import DataSet
from wsi_engine.training.fields import Field, make_field
from wsi_engine.training.sampling import Sampler, Source, Spot
from wsi_engine.training.warp import random_warp, warp_labels

SIDE = 200


def field(name: str, classes: list[int]) -> Field:
    """A field with one nucleus of 9 px side for each class, in a row from the left."""
    labels = np.zeros((SIDE, SIDE), np.uint16)
    for k, _ in enumerate(classes, start=1):
        labels[100:109, 10 * k : 10 * k + 9] = k
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    by_label = np.array([-1, *classes], np.int16)
    return make_field(name, name, image, labels, by_label, mpp=0.5)


def source(*fields: Field, weight: float = 1.0) -> Source:
    config = DataConfig(name="s", images=Path(), labels=Path(), mpp=0.5, weight=weight)
    return Source(DataSet(config, fields, np.full(3, 240.0)), fields)


COMMON, RARE = field("common", [0] * 15), field("rare", [0] * 8 + [1])


def kind_of(spot: Spot) -> int | None:
    """Class of the nucleus that a crop is drawn around."""
    if spot.around is None:
        return None
    y, x = (int(side) for side in spot.around)
    return int(spot.field.classes[spot.field.labels[y, x]])


def drawn(sampler: Sampler, count: int = 4000) -> list[Spot]:
    return [sampler.draw(np.random.default_rng([1, k])) for k in range(count)]


class TestBalance:
    def test_each_class_is_drawn_as_often_and_the_rest_anywhere(self) -> None:
        spots = drawn(Sampler([source(COMMON, RARE)], class_balance=0.5))
        counts = Counter(kind_of(spot) for spot in spots)
        assert counts[None] / 4000 == pytest.approx(0.5, abs=0.03)
        assert counts[0] / 4000 == pytest.approx(0.25, abs=0.03)
        assert counts[1] / 4000 == pytest.approx(0.25, abs=0.03)

    def test_sets_that_have_a_class_share_it_by_weight(self) -> None:
        heavy, light = field("heavy", [0]), field("light", [0])
        sampler = Sampler([source(heavy, weight=3), source(light), source(RARE, weight=0)], 1.0)
        names = Counter(spot.field.name for spot in drawn(sampler))
        assert names["heavy"] / 4000 == pytest.approx(0.75, abs=0.03)
        assert set(names) == {"heavy", "light"}

    @pytest.mark.parametrize("balance", [0.0, 0.7])
    def test_without_classes_nothing_changes(self, balance: float) -> None:
        """Crops are those of a generator from which balance took nothing."""
        unknown = source(field("a", [-1, -1]), field("b", [-1]))
        for k, spot in enumerate(drawn(Sampler([unknown], balance), 50)):
            rng = np.random.default_rng([1, k])
            rng.choice(1, p=[1.0])
            assert spot == Spot(unknown, unknown.fields[rng.integers(2)])

    def test_nothing_to_draw_from(self) -> None:
        with pytest.raises(DatasetError, match="no image is left to train on"):
            Sampler([source(), source(COMMON, weight=0)], 0.5)


def config_of(**changes: object) -> TrainConfig:
    document = {
        "output": "x", "data": [{"name": "s", "images": "a", "labels": "a", "mpp": 0.5}],
        "classes": ["A", "B"], "class_balance": 0.5, "batch": 3, "crop_px": 32,
        "network": {"rays": 8},
    }  # fmt: skip
    return TrainConfig.model_validate({**document, **changes})


class TestBatches:
    def test_are_a_function_of_seed_and_step(self) -> None:
        config, sampler = config_of(), Sampler([source(COMMON, RARE)], 0.5)
        first, again = make_batch(sampler, config, 7), make_batch(sampler, config, 7)
        other = make_batch(sampler, config, 8)
        assert first.images.equal(again.images)
        assert first.targets.keys() == again.targets.keys()
        assert all(first.targets[name].equal(again.targets[name]) for name in first.targets)
        assert not first.images.equal(other.images)

    def test_points_have_the_class_of_their_nucleus(self) -> None:
        sampler = Sampler([source(field("a", [-1, 1]))], 1.0)
        batch = make_batch(sampler, config_of(augment={"scale": (1, 1), "elastic_um": 0}), 1)
        assert len(batch.targets["classes"]) == len(batch.targets["points"])
        assert set(batch.targets["classes"].tolist()) == {-1, 1}


@given(
    seed=st.integers(0, 2**32 - 1),
    y=st.floats(40, SIDE - 40),
    x=st.floats(40, SIDE - 40),
    scale=st.floats(0.6, 1.5),
)
def test_a_crop_around_a_place_shows_it(seed: int, y: float, x: float, scale: float) -> None:
    labels = np.zeros((SIDE, SIDE), np.uint16)
    labels[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] = 1
    warp = random_warp(
        np.random.default_rng(seed), labels.shape, px_per_model_px=1.0, scale=(scale, scale),
        elastic_px=1.0, crop_px=48, around=(y, x),
    )  # fmt: skip
    assert (warp_labels(labels, warp, 48, margin_px=0, finer=1) == 1).any()
