"""Boundary refinement: borders go to where the pixels say they are, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from skimage.segmentation import expand_labels, morphological_chan_vese, morphsnakes

from wsi_engine.models.active_contour import evolved
from wsi_engine.models.refined import Refined, refined
from wsi_engine.models.territory import grown
from wsi_engine.models.watershed import Watershed
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.predictions import Predictions

PINK, DARK = (235, 190, 215), (90, 60, 150)
KINDS = pytest.mark.parametrize("kind", ["gradient", "contour"])
SIDE = 96
SMOOTHINGS = [
    lambda u: morphsnakes.sup_inf(morphsnakes.inf_sup(u)),
    lambda u: morphsnakes.inf_sup(morphsnakes.sup_inf(u)),
]
"""As scikit-image has them."""


def tissue(*discs: tuple[float, float, float]) -> np.ndarray:
    """Dark discs (x, y, radius) on pink, their borders as soft as a lens makes them."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    depth = np.max([r - np.hypot(x - cx, y - cy) for cx, cy, r in discs], axis=0)
    share = np.clip(depth + 0.5, 0, 1)[..., None]
    return np.rint(share * DARK + (1 - share) * PINK).astype(np.uint8)


def discs(*drawn: tuple[float, float, float], points: int = 48) -> Predictions:
    """Return discs as a model draws them."""
    angle = np.arange(points) / points * 2 * np.pi
    rings = [np.column_stack([x + r * np.cos(angle), y + r * np.sin(angle)]) for x, y, r in drawn]
    return Predictions(
        xy=np.concatenate(rings),
        offsets=np.arange(len(drawn) + 1) * points,
        anchors=np.array([(x, y) for x, y, _ in drawn], float),
        scores=np.linspace(0.9, 0.5, len(drawn), dtype=np.float32),
        classes=np.full(len(drawn), -1, np.int16),
    )


class Drawing(Watershed):
    """A model that draws the same whatever it sees."""

    def __init__(self, found: Predictions) -> None:
        super().__init__()
        object.__setattr__(self, "found", found)

    def decode(self, maps: np.ndarray) -> Predictions:
        return self.found


def refine(kind: str, found: Predictions, image: np.ndarray) -> Predictions:
    model = refined(Drawing(found), kind)
    return model.decode(model.maps(image[None])[0])


def outlines(found: Predictions) -> np.ndarray:
    return polygons_from_rings(found.xy, found.offsets)


def iou(one: shapely.Geometry, other: shapely.Geometry) -> float:
    return one.intersection(other).area / one.union(other).area


@KINDS
@pytest.mark.parametrize("off", [(0, 0, -1.5), (0, 0, 1.5), (1, 0.7, 0)], ids=str)
def test_a_border_comes_nearer_to_where_haematoxylin_ends(kind: str, off: tuple) -> None:
    drawn = discs(tuple(np.add((48, 48, 12), off)))
    found = refine(kind, drawn, tissue((48, 48, 12)))
    true = outlines(discs((48, 48, 12)))[0]
    assert iou(outlines(drawn)[0], true) < 0.88
    assert iou(outlines(found)[0], true) > 0.93


@KINDS
def test_all_but_the_outline_stays(kind: str) -> None:
    drawn = discs((30, 30, 10), (66, 60, 9))
    found = refine(kind, drawn, tissue((30, 30, 11), (66, 60, 8)))
    for name in ("anchors", "scores", "classes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(drawn, name))


@KINDS
def test_no_border_moves_further_than_a_micrometre(kind: str) -> None:
    drawn = discs((48, 48, 10))
    found = refine(kind, drawn, tissue((48, 48, 13)))
    away = shapely.hausdorff_distance(outlines(found)[0], outlines(drawn)[0])
    assert 0 < away <= 2 + 0.75  # pixels of 0.5 µm, and what tracing rounds off


@KINDS
def test_where_nothing_is_seen_the_outline_stays(kind: str) -> None:
    drawn = discs((48, 48, 10))
    found = refine(kind, drawn, np.full((SIDE, SIDE, 3), PINK, np.uint8))
    assert iou(outlines(found)[0], outlines(drawn)[0]) > 0.95


@KINDS
def test_neighbours_do_not_grow_into_each_other(kind: str) -> None:
    """Two nuclei that touch are one dark spot: nothing but the other holds their border."""
    found = refine(kind, discs((38, 48, 9.9), (58, 48, 9.9)), tissue((38, 48, 12), (58, 48, 12)))
    one, other = outlines(found)
    assert min(one.area, other.area) > 320
    assert one.intersection(other).area < 0.05 * one.area


@KINDS
def test_no_nucleus_is_lost(kind: str) -> None:
    """One lies under another, and one where there is nothing."""
    drawn = discs((48, 48, 12), (50, 48, 6), (20, 20, 3))
    found = refine(kind, drawn, tissue((48, 48, 12)))
    assert len(found) == 3
    assert (shapely.area(outlines(found)) > 0.4 * shapely.area(outlines(drawn))).all()


def test_contours_are_those_of_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs goes on, with every call, with the order of smoothing where the last call left it."""
    rng = np.random.default_rng(4)
    image = rng.normal(100, 30, (40, 50)).astype(np.float32)
    image[10:30, 15:38] += 90
    inside = np.zeros(image.shape, bool)
    inside[8:26, 18:42] = True
    everywhere = np.ones_like(inside)
    for steps in (1, 2, 5):
        monkeypatch.setattr(morphsnakes, "_curvop", morphsnakes._fcycle(SMOOTHINGS))
        theirs = morphological_chan_vese(image, steps, inside, smoothing=1)
        ours, _ = evolved(inside, everywhere, everywhere, image, steps)
        np.testing.assert_array_equal(ours, theirs.astype(bool))


def test_territories_are_those_of_scikit_image_but_for_ties() -> None:
    labels = np.zeros((60, 80), np.int32)
    for k, (y, x) in enumerate(np.random.default_rng(0).integers(3, 55, (25, 2)), start=1):
        labels[y - 2 : y + 3, x - 1 : x + 2] = k
    ours, theirs = grown(labels, 2), expand_labels(labels, 2)
    np.testing.assert_array_equal(ours > 0, theirs > 0)
    assert (ours != theirs).mean() < 0.02


def test_the_facts_allow_for_the_neighbours() -> None:
    inner = Watershed().spec
    spec = refined(Watershed(), "contour").spec
    assert (spec.name, spec.mpp, spec.stride) == (inner.name, inner.mpp, inner.stride)
    assert spec.largest_object_px == inner.largest_object_px + 4
    assert spec.halo_px >= inner.halo_px + inner.largest_object_px + 4


def test_the_move_is_a_length_in_life() -> None:
    class Fine(Watershed):
        spec = replace(Watershed().spec, mpp=0.25)

    assert refined(Fine(), "gradient").reach_px == 2 * refined(Watershed(), "gradient").reach_px


def test_maps_of_numbers_that_are_none_do_not_pass_as_bytes() -> None:
    class Broken(Watershed):
        def maps(self, batch: np.ndarray) -> np.ndarray:
            return np.full(batch.shape[:3], np.nan if batch.min() == 0 else 1.0, np.float32)

    model = refined(Broken(), "gradient")
    assert isinstance(model, Refined)
    with pytest.raises(Exception, match="NaN or infinity"):
        model.maps(np.zeros((1, 64, 64, 3), np.uint8))
