"""The decoders of cards: drawn maps of known nuclei, at any size of pixels and points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.foreign import ONNX_CARD
from tests.test_hovernet_decoding import disc_maps
from wsi_engine.models.foreign.card import Card
from wsi_engine.models.foreign.decoders import labels_of, links_of
from wsi_engine.models.foreign.model import ForeignModel
from wsi_engine.nuclei.raster import rasterise

SIDE = 160
DISCS = [(50.0, 60.0, 12.0), (73.0, 60.0, 12.0), (110.0, 110.0, 9.0)]
"""x, y, radius in points; the first two touch."""

RAYS = 32


def distance_to(disc: tuple[float, float, float]) -> np.ndarray:
    """How deep each point lies in a disc, in points; negative outside."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return disc[2] - np.hypot(x - disc[0], y - disc[1])


def depth() -> np.ndarray:
    return np.max([distance_to(disc) for disc in DISCS], axis=0)


def drawn_labels() -> np.ndarray:
    each = np.array([distance_to(disc) for disc in DISCS])
    return np.where(each.max(axis=0) > 0, each.argmax(axis=0) + 1, 0)


def star_maps() -> np.ndarray:
    """Object probability and distances along the rays, of the disc that a point lies in."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    maps = np.zeros((SIDE, SIDE, 1 + RAYS), np.float32)
    labels, angles = drawn_labels(), 2 * np.pi * np.arange(RAYS) / RAYS
    for number, (centre_x, centre_y, radius) in enumerate(DISCS, start=1):
        inside = labels == number
        to_x, to_y = (x - centre_x)[inside], (y - centre_y)[inside]
        along = to_x[:, None] * np.cos(angles) + to_y[:, None] * np.sin(angles)
        square = radius**2 - (to_x**2 + to_y**2)[:, None] + along**2
        maps[inside, 1:] = -along + np.sqrt(square)
        maps[inside, 0] = 1 - 0.5 * np.hypot(to_x, to_y) / radius
    return maps


def maps_for(decoder: str) -> np.ndarray:
    """What an ideal network gives for the discs."""
    inside = depth()
    nucleus = np.clip(inside + 0.5, 0, 1)
    labels = drawn_labels()
    between = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            other = np.roll(labels, step, axis)
            between |= (labels > 0) & (other > 0) & (other != labels)
    boundary = ((inside > 0) & (inside < 1.5)) | between
    maps = {
        "labels": [links_of(labels)],
        "probability": [nucleus * ~between],
        "interior-boundary": [np.where(boundary, 0, nucleus), np.where(boundary, nucleus, 0)],
        "distance": [nucleus, np.maximum(inside, 0)],
    }
    if decoder == "star-convex":
        return star_maps()
    if decoder == "hovernet":
        return disc_maps([(*disc, 1) for disc in DISCS], SIDE)[..., :3]
    return np.stack(maps[decoder], axis=-1).astype(np.float32)


def model_of(decoder: str, **changes: Any) -> ForeignModel:
    names = {
        "labels": ["labels"],
        "probability": ["nucleus"],
        "interior-boundary": ["interior", "boundary"],
        "distance": ["nucleus", "distance"],
        "star-convex": ["probability", "distances"],
        "hovernet": ["nucleus", "distances"],
    }[decoder]
    classes = ["classes"] if changes.get("classes") else []
    fields = ONNX_CARD | {"decoder": decoder, "maps": {name: {} for name in names + classes}}

    def network(pixels):
        raise AssertionError("nothing is run here")

    return ForeignModel(Card(**fields | changes), network)  # type: ignore[arg-type]


DECODERS = ["labels", "probability", "interior-boundary", "distance", "star-convex", "hovernet"]


@pytest.mark.parametrize(
    ("decoder", "mpp", "grid_px"),
    [
        (decoder, mpp, grid_px)
        for decoder in DECODERS
        for mpp in (0.5, 0.25)
        for grid_px in (1, 2)
        # The slopes of HoVer-Net are those of nuclei of 8 µm.
        if decoder != "hovernet" or mpp * grid_px == 0.25
    ],
)
def test_ideal_maps_become_the_nuclei_that_were_drawn(decoder, mpp, grid_px):
    """Also with pixels half as large: nothing is measured in pixels that is a length in life."""
    model = model_of(decoder, mpp=mpp, grid_px=grid_px, stride=8, largest_object_px=100)
    found = model.decode(maps_for(decoder))
    assert len(found) == len(DISCS)
    drawn = rasterise(found.xy / grid_px, found.offsets, (SIDE, SIDE))
    for number, disc in enumerate(DISCS, start=1):
        true = drawn_labels() == number
        best = max((true & (drawn == k)).sum() / (true | (drawn == k)).sum() for k in range(1, 4))
        assert best > 0.8, (disc, best)
    np.testing.assert_allclose(
        sorted(found.anchors[:, 0] / grid_px), sorted(x for x, _, _ in DISCS), atol=1.5
    )


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_nucleus_has_the_class_of_most_of_its_points(decoder):
    model = model_of(decoder, mpp=0.25, classes={"left": None, "right": [1, 2, 3]})
    x = np.mgrid[:SIDE, :SIDE][1]
    right = np.where(x > 62, 0.9, 0.2)[..., None]
    maps = np.concatenate([maps_for(decoder), 1 - right, right], axis=-1).astype(np.float32)
    found = model.decode(maps)
    assert len(found) == len(DISCS)
    np.testing.assert_array_equal(found.classes, (found.anchors[:, 0] > 62).astype(int))
    clear = found.anchors[:, 0] > 100
    np.testing.assert_allclose(found.probabilities[clear], [[0.1, 0.9]], atol=0.01)


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_is_larger_than_promised_is_not_reported(decoder):
    found = model_of(decoder, largest_object_px=20).decode(maps_for(decoder))
    for start, stop in zip(found.offsets[:-1], found.offsets[1:], strict=True):
        assert np.ptp(found.xy[start:stop], axis=0).max() <= 20
    assert len(found) < len(DISCS) or decoder == "star-convex"


def test_links_say_the_same_whatever_the_numbers():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (40, 50))
    others = np.array([0, 9, 7, 8])[labels]
    np.testing.assert_array_equal(links_of(labels), links_of(others))
    parts = labels_of(links_of(labels))
    assert ((parts > 0) == (labels > 0)).all()
    # A part is of one label, and neighbours of one label are of one part.
    for axis in (0, 1):
        here, there = (np.delete(parts, k, axis) for k in (-1, 0))
        one, other = (np.delete(labels, k, axis) for k in (-1, 0))
        both = (one > 0) & (other > 0)
        assert ((here == there) == (one == other))[both].all()
