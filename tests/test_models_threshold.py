"""The thresholds: what they call a nucleus, and what they cannot tell apart."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_engine.models.threshold import Threshold
from wsi_engine.nuclei.polygons import polygons_from_rings

PINK, PALE, DARK, GLASS = (235, 190, 215), (185, 150, 205), (90, 60, 150), (243, 243, 243)
SIDE = 240
Y, X = np.mgrid[:SIDE, :SIDE] + 0.5


def disc(x, y, radius):
    return (X - x) ** 2 + (Y - y) ** 2 < radius**2


def field_with(*shapes, colour=DARK, background=PINK):
    image = np.full((SIDE, SIDE, 3), background, np.uint8)
    for shape in shapes:
        image[shape] = colour
    return image


def predict(model, image):
    return model.decode(model.maps(image[None])[0])


def outlines(predictions):
    return polygons_from_rings(predictions.xy, predictions.offsets)


DISCS = [disc(60, 60, 8), disc(150, 70, 11), disc(90, 170, 14)]
KINDS = ("global", "local")
MODELS = [Threshold(kind=kind).calibrate(field_with(*DISCS)[None]) for kind in KINDS]


@pytest.mark.parametrize("model", MODELS, ids=KINDS)
class TestBoth:
    @pytest.mark.parametrize("radius", [6, 9, 14, 20])
    @pytest.mark.parametrize("centre", [(120, 120), (111.3, 128.6)])
    def test_a_disc_comes_back_in_its_place_and_size(self, model, centre, radius):
        found = predict(model, field_with(disc(*centre, radius)))
        (polygon,) = outlines(found)
        assert np.array(polygon.centroid.coords[0]) == pytest.approx(centre, abs=0.15)
        assert found.anchors[0] == pytest.approx(centre, abs=0.15)
        assert np.sqrt(polygon.area / np.pi) == pytest.approx(radius, abs=1.1)

    def test_touching_discs_are_one(self, model):
        found = predict(model, field_with(disc(111, 120, 10), disc(129, 120, 10)))
        assert len(found) == 1

    def test_a_blot_is_no_nucleus_and_neither_is_a_speck(self, model):
        found = predict(model, field_with(disc(60, 60, 30), disc(200, 60, 2), disc(170, 170, 9)))
        assert found.anchors == pytest.approx(np.array([[170, 170]]), abs=0.15)

    @pytest.mark.parametrize("colour", [PINK, GLASS])
    def test_an_even_field_has_none(self, model, colour):
        assert len(predict(model, field_with(background=colour))) == 0

    def test_the_darker_the_nucleus_the_higher_its_score(self, model):
        image = field_with(disc(60, 120, 10))
        image[disc(180, 120, 10)] = (120, 85, 170)
        found = predict(model, image)
        dark, pale = found.scores[np.argsort(found.anchors[:, 0])]
        assert 1 >= dark > pale > 0

    def test_there_are_no_classes(self, model):
        found = predict(model, field_with(*DISCS))
        assert found.classes.tolist() == [-1, -1, -1]
        assert (found.scores.dtype, found.classes.dtype) == (np.float32, np.int16)


def test_one_threshold_for_the_slide_is_found_between_nuclei_and_the_rest():
    fields = np.stack([field_with(*DISCS), field_with(disc(120, 120, 20))])
    model = Threshold().calibrate(fields)
    density = model.maps(fields)
    assert density.min() + 100 < model.threshold < density.max() - 100
    assert model.settings() == {"haematoxylin_threshold_od": model.threshold / 1000}


def test_only_the_local_threshold_finds_pale_nuclei_beside_dark_ones():
    """Pale nuclei in pale surroundings lie below a threshold that dark ones have set."""
    dark = field_with(*(disc(x, y, 9) for x in range(20, 240, 40) for y in range(20, 240, 40)))
    pale = field_with(*DISCS, colour=PALE)
    fields = np.stack([dark, dark, dark, pale])
    assert len(predict(Threshold().calibrate(fields), pale)) == 0
    assert len(predict(Threshold(kind="local").calibrate(fields), pale)) == 3
