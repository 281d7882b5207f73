"""Nuclei put beside nuclei: nobody's nucleus is cut, and each has the stain of its place."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.scenes import SIDE, scene_of
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.training.config import AugmentConfig
from wsi_engine.training.crowding import crowd
from wsi_engine.training.scene import Scene

ALWAYS = AugmentConfig(crowded=1.0)


@pytest.fixture(params=[{"mpp": 0.5, "finer": 2}, {"mpp": 0.25, "finer": 1}])
def scene(request: pytest.FixtureRequest) -> Scene:
    return scene_of(**request.param)


def test_there_are_more_and_none_is_cut(scene: Scene) -> None:
    before, count = scene.labels.copy(), len(scene.peaks)
    crowd(scene, np.random.default_rng(1), ALWAYS)
    assert len(scene.peaks) == len(scene.classes) > count
    assert np.array_equal(scene.labels[before > 0], before[before > 0])
    added = np.unique(scene.labels[before == 0])
    assert set(added[added >= count]) == set(range(count, len(scene.peaks)))


def test_each_looks_like_a_nucleus_and_has_its_peak(scene: Scene) -> None:
    count = len(scene.peaks)
    crowd(scene, np.random.default_rng(2), ALWAYS)
    for label in range(count, len(scene.peaks)):
        mask = scene.inner == label
        share = mask.reshape(SIDE, scene.finer, SIDE, scene.finer).mean(axis=(1, 3))
        assert 0 < scene.peaks[label] < np.sqrt(share.sum() / np.pi) + 1
        if (share == 1).any():
            # Violet, and not the pink of the ground (R 225, G 170, B 205).
            assert scene.image[share == 1].mean(axis=0)[0] < 190


def test_it_takes_the_stain_of_its_place(scene: Scene) -> None:
    """On ground that is darker by two fifths a copy is so, too, wherever it comes from."""
    scene.image[:, SIDE // 2 :] *= 0.6
    count = len(scene.peaks)
    green: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(4):
        crowd(scene, np.random.default_rng(seed), ALWAYS)
    for label in range(count, len(scene.peaks)):
        mask = scene.inner == label
        share = mask.reshape(SIDE, scene.finer, SIDE, scene.finer).mean(axis=(1, 3))
        if (share == 1).sum() >= 4:
            right = bool(np.nonzero(share)[1].mean() > SIDE / 2)
            green[right].append(float(np.median(scene.image[share == 1][:, 1])))
    # Violet has a green of 60; small copies are a little paler, as if seen through a lens.
    assert np.median(green[False]) == pytest.approx(60, abs=8)
    assert np.median(green[True]) == pytest.approx(36, abs=8)


def test_nothing_is_put_where_nothing_is_known(scene: Scene) -> None:
    unknown = scene.labels == UNKNOWN
    image, hidden = scene.image.copy(), scene.unknown() == 1
    crowd(scene, np.random.default_rng(3), ALWAYS)
    assert (scene.labels[unknown] == UNKNOWN).all()
    np.testing.assert_allclose(scene.image[hidden], image[hidden], atol=0.1)


def test_a_teacher_did_not_see_them(scene: Scene) -> None:
    before = scene.image.copy()
    crowd(scene, np.random.default_rng(1), ALWAYS)
    assert scene.taught is not None
    changed = np.abs(scene.image - before).max(axis=2)[1::2, 1::2] > 5
    assert changed.any()
    assert np.isnan(scene.taught[changed]).all()


def test_without_crowds_no_random_number_is_taken() -> None:
    rng = np.random.default_rng(0)
    crowd(scene_of(), rng, AugmentConfig())
    assert rng.random() == np.random.default_rng(0).random()
