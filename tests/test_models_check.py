"""What is wrong with a model: said to its author by `check_model`, and to a user by a run."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import wsi_engine as we
from wsi_engine.models.promises import broken_by_maps, broken_by_predictions
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.sample import SampleTruth

SPEC = we.ModelSpec(
    name="sound",
    summary="Dark spots, on a grid of 2 px",
    mpp=0.5,
    stride=2,
    receptive_radius_px=6,
    largest_object_px=50,
    classes=("dark", "darker"),
)


@dataclass
class Sound:
    """A model that keeps every promise; the broken ones below differ in one thing each."""

    spec: we.ModelSpec = SPEC
    threshold: float = 128.0

    def calibrate(self, fields):
        return replace(self, threshold=float(np.percentile(fields[..., 0], 15)))

    def settings(self):
        return {"threshold": self.threshold}

    def to(self, device):
        return self

    def maps(self, batch):
        red = batch[..., 0].astype(np.float32)
        cells = red.reshape(len(red), red.shape[1] // 2, 2, red.shape[2] // 2, 2).mean(axis=(2, 4))
        return ndimage.gaussian_filter(cells, (0, 0.5, 0.5))

    def decode(self, maps):
        labels, _ = ndimage.label(maps < self.threshold)
        labels = labels.repeat(2, axis=0).repeat(2, axis=1)
        sides = [max(s.stop - s.start for s in box) for box in ndimage.find_objects(labels)]
        good = np.array([False, *(6 <= side <= 50 for side in sides)])
        kinds = np.arange(len(sides)) % 2
        return Predictions.from_labels(np.where(good[labels], labels, 0), classes=kinds)


def changed(**columns):
    """Return a ``decode`` that changes columns of what the sound model finds."""

    def decode(self, maps):
        found = Sound.decode(self, maps)
        return replace(found, **{name: change(found) for name, change in columns.items()})

    return decode


def first_point_is_nan(found):
    xy = found.xy.copy()
    xy[:1] = np.nan
    return xy


def only(count, **columns):
    """Return a ``decode`` that gives a few nuclei with columns of their own."""

    def decode(self, maps):
        rings = np.array([[0, 0], [9, 0], [0, 9]], float)
        whole = {
            "xy": np.tile(rings, (count, 1)),
            "offsets": np.arange(count + 1) * 3,
            "anchors": np.ones((count, 2)),
            "scores": np.ones(count, np.float32),
            "classes": np.zeros(count, np.int16),
        }
        return Predictions(**(whole | columns))

    return decode


def estimated_per_tile(self, batch):
    maps = Sound.maps(self, batch)
    return maps - maps.mean(axis=(1, 2), keepdims=True) + 150


def looks_far(self, batch):
    red = batch[..., 0].astype(np.float32)
    return ndimage.maximum_filter(red, (1, 61, 61))[:, ::2, ::2] * 0.5 + Sound.maps(self, batch) / 2


def pools_by_eight(self, batch):
    maps = Sound.maps(self, batch)
    coarse = maps.reshape(len(maps), maps.shape[1] // 4, 4, maps.shape[2] // 4, 4)
    return coarse.mean(axis=(2, 4)).repeat(4, axis=1).repeat(4, axis=2)


def knows_its_batch(self, batch):
    return Sound.maps(self, batch) + np.float32(len(batch)) / 64


def swaps_axes(self, maps):
    found = Sound.decode(self, maps)
    return replace(found, xy=found.xy[:, ::-1].copy(), anchors=found.anchors[:, ::-1].copy())


def forgets_its_grid(self, maps):
    found = Sound.decode(self, maps)
    return replace(found, xy=found.xy / 2, anchors=found.anchors / 2)


def of_any_size(self, maps):
    labels, _ = ndimage.label(maps < self.threshold)
    return Predictions.from_labels(labels.repeat(2, axis=0).repeat(2, axis=1))


def changes_itself(self, fields):
    self.threshold -= 1
    return replace(self)


def by_chance(self, fields):
    return replace(self, threshold=float(np.random.default_rng().integers(1 << 40)))


def writes_to_its_batch(self, batch):
    batch[..., 0] = 0
    return Sound.maps(self, batch)


def raises_on_blank(self, maps):
    if not (maps < self.threshold).any():
        raise ZeroDivisionError("no spot")
    return Sound.decode(self, maps)


BROKEN_DECODING = {
    "classes hold 2, and the model has 2 ": only(3, classes=np.full(3, 2, np.int16)),
    "classes hold -2": only(3, classes=np.full(3, -2, np.int16)),
    "classes are int64, not int16": only(3, classes=np.zeros(3, np.int64)),
    "scores have length 5 for 7 rings": only(7, scores=np.ones(5, np.float32)),
    "scores are float64, not float32": only(3, scores=np.ones(3)),
    "scores hold 1.5, which is not in": only(3, scores=np.full(3, 1.5, np.float32)),
    "scores hold nan, which is not in": only(3, scores=np.full(3, np.nan, np.float32)),
    "anchors have shape (2, 2) for 3 rings": only(3, anchors=np.ones((2, 2))),
    "anchors hold NaN or infinity": only(3, anchors=np.full((3, 2), np.inf)),
    "xy hold NaN or infinity": changed(xy=first_point_is_nan),
    "xy are a list, not a numpy array": only(1, xy=[[0, 0], [9, 0], [0, 9]]),
    "ring 1 has 2 points": only(3, offsets=np.array([0, 3, 5, 9])),
    "offsets run from 0 to 6, not from 0 to the 9 vertices": only(
        2, xy=np.ones((9, 2)), offsets=np.array([0, 3, 6])
    ),
    "offsets have shape (0,)": only(1, offsets=np.empty(0, np.int64)),
    "probabilities have shape (3, 1) for 3 rings, not (3, 2)": only(
        3, probabilities=np.ones((3, 1), np.float32)
    ),
    "decode returned a list, not Predictions": lambda self, maps: [],
}

BROKEN_MAPS = {
    "maps have shape (0, 150, 150)": lambda self, batch: Sound.maps(self, batch)[:0, :150, :150],
    "maps are a list": lambda self, batch: list(Sound.maps(self, batch)),
    "k divides the stride of 2": lambda self, batch: Sound.maps(self, batch)[:, ::2, ::2],
}


def broken(**methods: Any) -> Sound:
    spec = methods.pop("spec", SPEC)
    return type("Broken", (Sound,), methods)(spec=replace(spec, name="broken"))


@pytest.mark.parametrize("name", ["watershed", "starconvex"])
def test_the_models_of_this_package_keep_their_promises(name):
    assert we.check_model(name) == []


def test_a_sound_model_has_no_findings():
    assert we.check_model(Sound()) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"name": "two words"}, "name 'two words': give one word"),
        ({"mpp": 0.0}, "mpp 0.0: give the side of a pixel"),
        ({"stride": 0}, "stride 0: give a whole number from 1"),
        ({"stride": 2.0}, "stride: give whole numbers of pixels"),
        ({"receptive_radius_px": -1}, "receptive_radius_px -1"),
        ({"largest_object_px": 0}, "largest_object_px 0"),
        ({"reach_px": 20}, "reach_px 20 is less than half of largest_object_px"),
        ({"bytes_per_px": 0}, "bytes_per_px 0: give a whole number from 1"),
        ({"max_overlap": 1.0}, "max_overlap 1.0: give a share between 0 and 1"),
        ({"classes": ("a", "a")}, "classes 'a', 'a': give each a name of its own"),
    ],
)
def test_absurd_facts_are_told(facts, words):
    (finding,) = we.check_model(Sound(spec=replace(SPEC, **facts)))
    assert words in finding


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (broken(calibrate=lambda self, fields: None), "calibrate returned a NoneType"),
        (broken(calibrate=changes_itself), "calibrate changed the model"),
        (broken(calibrate=by_chance), "calibrate found other settings on the same fields"),
        (broken(settings=lambda self: {"a": float("nan")}), "settings hold 'a'"),
        (broken(maps=writes_to_its_batch), "maps raised ValueError: .* read-only"),
        (broken(maps=estimated_per_tile), "further than receptive_radius_px = 6"),
        (broken(maps=estimated_per_tile), "or something is estimated per tile"),
        (broken(maps=looks_far), "a pixel changes maps 3[0-9] px away"),
        (broken(maps=pools_by_eight), "maps do not move with the image by the stride of 2 px"),
        (broken(maps=knows_its_batch), "depend on what else is in its batch"),
        (broken(decode=swaps_axes), r"[1-9]\d* of \d+ nuclei are not the same in two windows"),
        (broken(decode=forgets_its_grid), "nuclei are not the same in two windows"),
        (broken(decode=of_any_size), "one huge dark object, an object is [78][0-9] px wide, .* 50"),
        (broken(decode=only(0)), "finds nothing on a tile full of nuclei"),
        (broken(decode=raises_on_blank), "decode raised ZeroDivisionError: no spot"),
        (
            broken(decode=changed(anchors=lambda found: found.anchors + 100)),
            "reaches [0-9]+ px from its anchor, more than 50",
        ),
    ],
)
def test_a_broken_promise_is_told_to_the_author(model, words):
    findings = we.check_model(model)
    assert any(re.search(words, finding) for finding in findings), findings
    assert all(finding.startswith("model 'broken': ") for finding in findings)


@pytest.mark.parametrize(
    "case", [*BROKEN_DECODING.items(), *BROKEN_MAPS.items()], ids=lambda case: case[0]
)
def test_broken_output_is_told_to_the_author(case):
    words, method = case
    model = broken(**{"maps" if words in BROKEN_MAPS else "decode": method})
    (finding, *_) = we.check_model(model)
    assert words.removeprefix("maps have shape (0, 150, 150)") in finding


def test_what_is_no_model_says_what_it_lacks():
    (finding,) = we.check_model(object())
    assert finding.startswith(
        "an object of type object is no model: it lacks a ModelSpec as spec, "
    )


def test_a_model_that_there_is_not():
    with pytest.raises(we.EngineError, match="unknown model 'watersheds': did you mean"):
        we.check_model("watersheds")


# --- at run time ------------------------------------------------------------------------------


@pytest.mark.parametrize("words", BROKEN_DECODING)
def test_a_run_names_the_model_the_promise_and_the_tile(sample: SampleTruth, words):
    model = broken(decode=BROKEN_DECODING[words])
    with pytest.raises(we.EngineError) as caught:
        we.run(sample.slide_path, model=model, tile_size=256, tissue=False, device="cpu")
    said = re.fullmatch(r"model 'broken' broke its promise at tile \d+: (.*)", str(caught.value))
    assert said
    assert said[1].startswith(words)


@pytest.mark.parametrize("words", BROKEN_MAPS)
def test_a_run_names_the_promise_that_maps_break(sample: SampleTruth, words):
    model = broken(maps=BROKEN_MAPS[words])
    with pytest.raises(we.EngineError, match="model 'broken' broke its promise: maps") as caught:
        we.run(sample.slide_path, model=model, tile_size=256, tissue=False, device="cpu")
    assert words.split(" (")[0] in str(caught.value)


def test_what_is_promised_passes():
    sound, images = Sound(), np.full((2, 64, 64, 3), 255, np.uint8)
    images[:, 20:40, 20:30] = 0
    maps = sound.maps(images)
    assert broken_by_maps(maps, images.shape, SPEC) is None
    found = sound.decode(maps[0])
    assert len(found) == 1
    assert broken_by_predictions(found, SPEC) is None
    assert broken_by_predictions(sound.decode(maps[0, :4]), SPEC) is None


# --- from labels ------------------------------------------------------------------------------


def test_predictions_from_labels_keep_values_by_label():
    labels = np.zeros((20, 30), np.uint8)
    labels[2:8, 3:9], labels[10:18, 12:28] = 4, 2
    scores, classes = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 2, 3])
    found = Predictions.from_labels(labels, scores, classes)
    assert found.anchors.tolist() == [[20.0, 14.0], [6.0, 5.0]]
    assert found.scores.tolist() == pytest.approx([0.2, 0.4])
    assert found.classes.tolist() == [1, 3]
    assert broken_by_predictions(found, replace(SPEC, classes=tuple("abcd"))) is None


def test_no_labels_are_no_predictions():
    found = Predictions.from_labels(np.zeros((5, 5), int))
    assert len(found) == 0
    assert broken_by_predictions(found, SPEC) is None
