"""What is no nucleus, drawn into crops: it changes what is seen, and adds no nucleus."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.support.scenes import SIDE, scene_of
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.training.config import AugmentConfig
from wsi_engine.training.negatives import KINDS, draw, draw_negatives
from wsi_engine.training.scene import Scene

# Seen through, it may darken a nucleus that is still there to see.
TRANSPARENT = ("ink", "fold")


def drawn(kind: str, seed: int, **facts: float) -> tuple[Scene, Scene]:
    """A scene before and after something was drawn into it."""
    before = scene_of(**facts)  # type: ignore[arg-type]
    after = copy.deepcopy(before)
    draw(kind, after, np.random.default_rng(seed))
    return before, after


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("facts", [{"mpp": 0.5, "finer": 2}, {"mpp": 0.25, "finer": 1}])
class TestEveryKind:
    def test_it_is_seen(self, kind: str, facts: dict[str, float]) -> None:
        changes = []
        for seed in range(4):
            before, after = drawn(kind, seed, **facts)
            assert after.image.shape == before.image.shape
            assert after.image.dtype == np.float32
            assert np.isfinite(after.image).all()
            changes.append(np.abs(after.image - before.image).max())
        assert max(changes) > 30

    def test_no_nucleus_is_added(self, kind: str, facts: dict[str, float]) -> None:
        for seed in range(4):
            before, after = drawn(kind, seed, **facts)
            kept = (after.labels == before.labels) | (after.labels == UNKNOWN)
            assert (kept | (after.labels == 0)).all()

    def test_a_nucleus_that_is_left_is_to_be_seen(self, kind: str, facts: dict[str, float]) -> None:
        for seed in range(4):
            before, after = drawn(kind, seed, **facts)
            # The middle of the nuclei: at their boundary there may be anything beside them.
            left = (after.nuclei() == 1) & (before.nuclei() == 1)
            if kind in TRANSPARENT or not left.any():
                continue
            change = np.abs(after.image - before.image)[left].mean(axis=1)
            assert np.median(change) < 25

    def test_the_same_numbers_draw_the_same(self, kind: str, facts: dict[str, float]) -> None:
        (_, one), (_, other) = drawn(kind, 3, **facts), drawn(kind, 3, **facts)
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.labels, other.labels)

    def test_a_teacher_did_not_see_it(self, kind: str, facts: dict[str, float]) -> None:
        before, after = drawn(kind, 1, **facts)
        assert after.taught is not None
        changed = np.abs(after.image - before.image).max(axis=2)[1::2, 1::2] > 60
        assert not (after.taught[changed] > 0).any()


def test_a_smear_holds_no_nucleus() -> None:
    _, after = drawn("smear", 0)
    assert not after.labels.any()


def test_what_hides_a_nucleus_takes_it_away_and_what_hides_a_part_leaves_the_rest() -> None:
    scene = scene_of()
    whole, part = np.unique(scene.inner[(scene.inner > 0) & (scene.inner != UNKNOWN)])[:2]
    fine = scene.inner == whole
    rows = np.nonzero((scene.inner == part).any(axis=1))[0]
    half = (scene.inner == part) & (np.arange(2 * SIDE)[:, None] < rows.mean())
    cover = (fine | half).reshape(SIDE, 2, SIDE, 2).any(axis=(1, 3))
    before = (scene.labels == part).sum()
    scene.hide(cover)
    assert not (scene.labels == whole).any()
    assert 0 < (scene.labels == part).sum() < before


def test_behind_what_is_transparent_a_nucleus_is_unknown() -> None:
    scene = scene_of()
    nuclei = (scene.inner > 0).copy()
    scene.hide(np.ones((SIDE, SIDE), bool), opaque=False)
    assert (scene.inner[nuclei] == UNKNOWN).all()


def test_a_share_of_the_crops_has_them() -> None:
    config = AugmentConfig(negatives=0.3)
    changed = 0
    for seed in range(60):
        scene = scene_of()
        before = scene.image.copy()
        draw_negatives(scene, np.random.default_rng(seed), config)
        changed += not np.array_equal(scene.image, before)
    assert 8 <= changed <= 30


def test_without_them_no_random_number_is_taken() -> None:
    rng = np.random.default_rng(0)
    draw_negatives(scene_of(), rng, AugmentConfig())
    assert rng.random() == np.random.default_rng(0).random()
