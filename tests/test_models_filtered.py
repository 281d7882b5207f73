"""Filters: nuclei within limits stay, each judged by itself and as it is written."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wsi_engine.models.filtered import Filtered
from wsi_engine.models.watershed import Watershed
from wsi_engine.nuclei.predictions import Predictions

CIRCLE = np.arange(64) / 64 * 2 * np.pi


def ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    return np.column_stack([x + across * np.cos(CIRCLE), y + down * np.sin(CIRCLE)])


RINGS = {
    "disc of 20 µm²": ellipse(20, 20, *(2 * math.sqrt(20 / math.pi),) * 2),
    "disc of 80 µm²": ellipse(60, 20, *(2 * math.sqrt(80 / math.pi),) * 2),
    "thin, 40 µm²": ellipse(40, 60, 2 * math.sqrt(160 / math.pi), 2 * math.sqrt(10 / math.pi)),
}
"""In pixels of 0.5 µm, with scores 0.4, 0.6, 0.8."""


class Drawing(Watershed):
    """A model that draws the rings whatever it sees."""

    def decode(self, maps: np.ndarray) -> Predictions:
        return Predictions(
            xy=np.concatenate(list(RINGS.values())),
            offsets=np.arange(len(RINGS) + 1) * len(CIRCLE),
            anchors=np.array([ring.mean(axis=0) for ring in RINGS.values()]),
            scores=np.array([0.4, 0.6, 0.8], np.float32),
            classes=np.full(len(RINGS), -1, np.int16),
        )


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({}, list(RINGS)),
        ({"min_area": 25}, ["disc of 80 µm²", "thin, 40 µm²"]),
        ({"max_area": 45}, ["disc of 20 µm²", "thin, 40 µm²"]),
        ({"min_area": 25, "max_area": 45}, ["thin, 40 µm²"]),
        ({"min_circularity": 0.9}, ["disc of 20 µm²", "disc of 80 µm²"]),
        ({"min_score": 0.5}, ["disc of 80 µm²", "thin, 40 µm²"]),
        ({"min_score": 0.5, "min_circularity": 0.9}, ["disc of 80 µm²"]),
        ({"min_area": 500}, []),
        ({"min_score": 0.9, "min_area": 1}, []),
    ],
    ids=str,
)
def test_what_is_within_the_limits_stays(limits: dict, left: list[str]) -> None:
    found = Filtered(Drawing(), **limits, simplify_um=0.08).decode(np.zeros((96, 96), np.int16))
    expected = [RINGS[name].mean(axis=0) for name in left]
    np.testing.assert_allclose(found.anchors, np.reshape(expected, (-1, 2)))
    assert len(found.xy) == len(left) * len(CIRCLE)


def test_shapes_are_those_of_simplified_outlines() -> None:
    """A staircase is no less round than the line that is written in its place."""
    steps = np.repeat(np.arange(41), 2)
    stairs = np.column_stack([steps[:-1] + 0.0, steps[1:]])
    ring = np.concatenate([stairs, [[40.0, -0.5]]])

    class Stairs(Watershed):
        def decode(self, maps: np.ndarray) -> Predictions:
            return Predictions(
                xy=ring,
                offsets=np.array([0, len(ring)]),
                anchors=np.array([[30.0, 10.0]]),
                scores=np.ones(1, np.float32),
                classes=np.full(1, -1, np.int16),
            )

    def kept(simplify_um: float) -> int:
        model = Filtered(Stairs(), min_circularity=0.5, simplify_um=simplify_um)
        return len(model.decode(np.zeros((96, 96), np.int16)))

    assert (kept(0.0), kept(0.5)) == (0, 1)
