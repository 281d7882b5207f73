"""The classical model: what it calls a nucleus, and that no tile border changes it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from wsi_engine.models.nuclear_mask import DEFAULT_THRESHOLD
from wsi_engine.models.seeds import domes
from wsi_engine.models.watershed import HMAXIMA_SPEC, SPEC, Watershed
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.stain import haematoxylin

PINK, DARK, GLASS = (235, 190, 215), (90, 60, 150), (243, 243, 243)
SIDE = 160
Y, X = np.mgrid[:SIDE, :SIDE] + 0.5


def disc(x, y, radius):
    return (X - x) ** 2 + (Y - y) ** 2 < radius**2


def bar(x, y, length, width, angle=0.5):
    along = (X - x) * np.cos(angle) + (Y - y) * np.sin(angle)
    across = (Y - y) * np.cos(angle) - (X - x) * np.sin(angle)
    return (np.abs(along) < length / 2) & (np.abs(across) < width / 2)


def field_with(*shapes, colour=DARK, background=PINK):
    image = np.full((SIDE, SIDE, 3), background, np.uint8)
    for shape in shapes:
        image[shape] = colour
    return image


HALF_WAY = Watershed(
    float(haematoxylin(np.array([[[PINK]], [[DARK]]], np.uint8).reshape(1, 2, 3)).mean())
)
"""Its threshold lies half way between the two colours: where a blurred border was."""


def predict(image, model=HALF_WAY):
    return model.decode(model.maps(image[None])[0])


def outlines(predictions):
    return polygons_from_rings(predictions.xy, predictions.offsets)


@pytest.fixture(scope="module")
def tissue():
    """A generated field with glands, stroma and lymphocytes, 640 x 640 px."""
    rng = np.random.default_rng(3)
    layout = lay_out_tissue((640, 640), SPEC.mpp, rng)
    return render_tissue((640, 640), scatter_nuclei(layout, rng), SPEC.mpp, rng, layout)


# Calibration


def test_calibration_finds_a_threshold_between_nuclei_and_their_surroundings():
    fields = np.stack([field_with(disc(80, 80, 40)), field_with(disc(50, 90, 30))])
    model = Watershed().calibrate(fields)
    density = Watershed().maps(fields)
    assert density.min() + 100 < model.threshold < density.max() - 100
    assert model.settings() == {"haematoxylin_threshold_od": model.threshold / 1000}


def test_calibration_is_the_same_for_the_same_fields_in_any_order(tissue):
    fields = tissue.reshape(5, 128, 640, 3)
    first = Watershed().calibrate(fields)
    assert first == Watershed().calibrate(fields.copy())
    assert first == Watershed().calibrate(fields[::-1])
    assert first.threshold != DEFAULT_THRESHOLD


def test_calibration_leaves_the_model_it_is_called_on_alone(tissue):
    model = Watershed()
    assert model.calibrate(tissue[None]) != model
    assert model == Watershed(DEFAULT_THRESHOLD)


@pytest.mark.parametrize("colour", [GLASS, PINK, DARK], ids=["glass", "stroma", "ink"])
def test_fields_of_one_colour_say_nothing_of_nuclei(colour):
    fields = np.full((2, 64, 64, 3), colour, np.uint8)
    assert Watershed().calibrate(fields) == Watershed()


# What is a nucleus


@pytest.mark.parametrize("radius", [6, 9, 14, 20])
@pytest.mark.parametrize("centre", [(80, 80), (71.3, 88.6), (90.5, 60.25)])
def test_a_disc_comes_back_in_its_place_and_size(centre, radius):
    found = predict(field_with(disc(*centre, radius)))
    (polygon,) = outlines(found)
    assert np.array(polygon.centroid.coords[0]) == pytest.approx(centre, abs=0.15)
    assert found.anchors[0] == pytest.approx(centre, abs=0.15)
    assert np.sqrt(polygon.area / np.pi) == pytest.approx(radius, abs=0.3)


@pytest.mark.parametrize(("apart", "angle"), [(17, 0.0), (18, 0.7), (19, 1.6), (22, 2.5)])
def test_touching_discs_are_two_nuclei(apart, angle):
    step = np.array([np.cos(angle), np.sin(angle)]) * apart / 2
    centres = 80 + np.array([-step, step])
    found = predict(field_with(*(disc(*centre, 10) for centre in centres)))
    places = np.array([polygon.centroid.coords[0] for polygon in outlines(found)])
    assert len(places) == 2
    order = np.argsort((places - [80, 80]) @ step)
    np.testing.assert_allclose(places[order], centres, atol=0.6)
    first, second = outlines(found)
    assert first.intersection(second).area < 0.01 * first.area


class TestSeeds:
    """The peaks of the distance to the border, or its h-maxima."""

    def test_h_maxima_tell_touching_discs_apart(self):
        model = replace(HALF_WAY, seeds="h-maxima")
        found = predict(field_with(disc(71, 80, 10), disc(89, 80, 10)), model)
        assert sorted(np.round(found.anchors[:, 0]).tolist()) == [71, 89]

    def test_h_maxima_do_not_split_a_long_nucleus_with_a_slight_waist(self):
        waist = disc(68, 80, 8) | disc(92, 80, 8) | bar(80, 80, 24, 14.8, angle=0)
        assert len(predict(field_with(waist))) > 1
        assert len(predict(field_with(waist), replace(HALF_WAY, seeds="h-maxima"))) == 1

    def test_a_dome_is_one_maximum_if_the_way_to_a_higher_one_stays_high(self):
        relief = np.zeros((9, 60), np.float32)
        relief[3:6, 5:55] = 4  # a ridge between ...
        relief[3:6, 10:15], relief[3:6, 20:25], relief[3:6, 45:50] = 4.5, 6, 6
        found = domes(relief, relief > 0, height=1)
        assert found.max() == 2
        assert found[4, 12] == 0, "a rise of 0.5 is no maximum of its own"
        assert {found[4, 22], found[4, 47]} == {1, 2}
        assert domes(relief, relief > 0, height=3)[4, 22] > 0

    def test_equal_heights_without_a_dip_between_are_one(self):
        relief = np.full((9, 12), 3.0, np.float32)
        relief[4, 3] = relief[4, 8] = 3.5
        assert domes(relief, relief > 0, height=1).max() == 1

    def test_each_has_its_spec(self):
        assert Watershed(seeds="h-maxima").spec is HMAXIMA_SPEC
        assert HMAXIMA_SPEC.receptive_radius_px > SPEC.receptive_radius_px


DROPPED = {
    "a speck": disc(40, 40, 3),
    "a fibre": bar(50, 40, 45, 3),
    "a level fibre": bar(40, 40, 30, 3, angle=0.0),
    "a blot": disc(50, 50, 24),
}


@pytest.mark.parametrize("shape", DROPPED.values(), ids=DROPPED)
def test_what_is_too_small_thin_or_large_is_dropped_and_the_nucleus_beside_it_kept(shape):
    found = predict(field_with(shape, disc(120, 120, 10)))
    assert found.anchors == pytest.approx(np.array([[120, 120]]), abs=0.15)


@pytest.mark.parametrize("colour", [PINK, GLASS, (200, 120, 180)], ids=["none", "hole", "eosin"])
def test_without_haematoxylin_there_is_no_nucleus(colour):
    assert len(predict(field_with(disc(80, 80, 10), colour=colour))) == 0


def test_a_pale_chromatin_hole_does_not_pierce_a_nucleus():
    image = field_with(disc(80, 80, 12) & ~disc(81, 79, 3))
    (polygon,) = outlines(predict(image))
    assert polygon.area == pytest.approx(np.pi * 12**2, rel=0.1)


def test_the_darker_the_nucleus_the_higher_its_score():
    image = field_with(disc(40, 80, 10))
    image[disc(120, 80, 10)] = (120, 85, 170)
    found = predict(image)
    dark, pale = found.scores[np.argsort(found.anchors[:, 0])]
    assert 1 >= dark > pale + 0.1 > 0.1


def test_there_are_no_classes_and_no_probabilities():
    found = predict(field_with(disc(80, 80, 10)))
    assert found.classes.tolist() == [-1]
    assert found.probabilities is None
    assert (found.scores.dtype, found.classes.dtype) == (np.float32, np.int16)


# Tiles


def test_a_nucleus_far_from_the_border_is_the_same_in_every_window(tissue):
    model = Watershed().calibrate(tissue[None])
    whole = model.decode(model.maps(tissue[None])[0])
    side, halo = 440, SPEC.halo_px
    compared = 0
    for x, y in [(0, 0), (67, 93), (200, 131), (199, 200)]:
        core = ModelBox(x, y, side, side).padded(-halo)
        part = model.decode(model.maps(tissue[None, y : y + side, x : x + side])[0])
        expected = rings_anchored_in(core, whole, (0, 0))
        assert rings_anchored_in(core, part, (x, y)) == expected
        compared += len(expected)
    assert compared > 200


def rings_anchored_in(core, predictions, corner):
    """Outlines and scores; what differs after the ninth decimal is the addition of the corner."""
    xy = np.round(predictions.xy + np.array(corner), 9)
    rings = np.split(xy, predictions.offsets[1:-1])
    held = core.holds(predictions.anchors + np.array(corner))
    return {
        (rings[k].tobytes(), float(predictions.scores[k])) for k in np.flatnonzero(held).tolist()
    }


def test_maps_do_not_depend_on_the_batch(tissue):
    tiles = tissue.reshape(2, 320, 2, 320, 3).swapaxes(1, 2).reshape(4, 320, 320, 3)
    together = Watershed().maps(tiles)
    for tile, alone in zip(tiles, together, strict=True):
        np.testing.assert_array_equal(Watershed().maps(tile[None])[0], alone)


def test_threads_may_share_the_model(tissue):
    model = Watershed().calibrate(tissue[None]).to(torch.device("cpu"))
    maps = model.maps(tissue[None, :256, :256])[0]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(model.decode, [maps] * 8))
    for other in found[1:]:
        np.testing.assert_array_equal(other.xy, found[0].xy)
    assert len(found[0]) > 10
