"""Star-convex maps of a turned tile are turned back, ray by ray."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wsi_engine.models.augmented import augmented
from wsi_engine.models.starconvex.model import StarConvexModel, load_starconvex
from wsi_engine.models.suppression import ray_directions
from wsi_engine.models.turns import Turn, turns

RAYS = 16


def ellipse_maps(side: int = 24) -> np.ndarray:
    """Distances from each grid point inside an oblique ellipse off the middle to its boundary."""
    y, x = (np.mgrid[:side, :side] + 0.5) * 2
    directions = ray_directions(RAYS)
    cosine, sine = np.cos(0.4), np.sin(0.4)
    turn = np.array([[cosine / 12, sine / 12], [-sine / 7, cosine / 7]])
    points = np.stack([x - 21, y - 27], axis=-1) @ turn.T
    steps = directions @ turn.T
    a = (steps**2).sum(-1)
    b = points @ steps.T
    c = (points**2).sum(-1, keepdims=True) - 1
    inside = c[..., 0] < 0
    distances = np.where(inside[..., None], (-b + np.sqrt(np.maximum(b * b - a * c, 0))) / a, 0.0)
    return np.concatenate([inside[..., None] * 1.0, distances], axis=-1).astype(np.float32)[None]


def lay(maps: np.ndarray, turn: Turn) -> np.ndarray:
    """Draw the same ellipse on a tile that is flipped, then turned: by geometry, ray by ray."""
    side = maps.shape[1]
    directions = ray_directions(RAYS)
    angle = -turn.quarters * np.pi / 2
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    laid = np.zeros_like(maps)
    for i in range(side):
        for j in range(side):
            place = np.array([j + 0.5 - side / 2, i + 0.5 - side / 2])
            if turn.mirrored:
                place[0] *= -1
            x, y = rotation @ place + side / 2 - 0.5
            laid[0, round(y), round(x), 0] = maps[0, i, j, 0]
            for k, direction in enumerate(directions):
                seen = direction * ((-1, 1) if turn.mirrored else (1, 1))
                ray = int(np.argmax(directions @ (rotation @ seen)))
                laid[0, round(y), round(x), 1 + ray] = maps[0, i, j, 1 + k]
    return laid


@pytest.fixture(scope="module")
def model() -> StarConvexModel:
    return load_starconvex()


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:64, :64]
    image = np.full((64, 64, 3), 225, np.float32)
    for cy, cx, r in ((20, 22, 8), (44, 40, 10), (18, 50, 6)):
        image[np.hypot(y - cy, (x - cx) * 1.3) < r] = (90, 60, 140)
    return np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8)[None]


@pytest.mark.parametrize("turn", turns(8))
def test_what_was_laid_down_otherwise_is_put_back(model: StarConvexModel, turn: Turn) -> None:
    maps = ellipse_maps()
    np.testing.assert_array_equal(model.upright(lay(maps, turn), turn), maps)


def test_classes_stay_where_they_are(model: StarConvexModel) -> None:
    classified = replace(model, spec=replace(model.spec, classes=("Tumor", "Stroma")))
    maps = np.random.default_rng(0).random((1, 4, 4, 1 + 8 + 2), np.float32)
    upright = classified.upright(maps, Turn(1, mirrored=True))
    np.testing.assert_array_equal(upright[..., 9:], Turn(1, mirrored=True).undo(maps)[..., 9:])


def test_rays_that_cannot_be_turned(model: StarConvexModel) -> None:
    with pytest.raises(ValueError, match="10 rays cannot be turned"):
        model.upright(np.zeros((1, 4, 4, 11), np.float32), Turn(1, mirrored=False))


def test_how_the_tile_lies_makes_no_difference(model: StarConvexModel, batch: np.ndarray) -> None:
    averaged, turn = augmented(model, 8), Turn(3, mirrored=True)
    straight = averaged.maps(batch).astype(np.float32)
    laid = averaged.maps(np.ascontiguousarray(turn.apply(batch))).astype(np.float32)
    back = model.upright(laid, turn)
    inside = straight[..., 0] > 0
    assert inside.sum() > 30
    np.testing.assert_allclose(back[inside], straight[inside], atol=0.02)


def test_it_finds_the_same_nuclei(model: StarConvexModel, batch: np.ndarray) -> None:
    once = model.decode(model.maps(batch)[0])
    often = model.decode(augmented(model, 8).maps(batch)[0])
    assert len(once) == len(often) == 3
    np.testing.assert_allclose(often.anchors, once.anchors, atol=4)
