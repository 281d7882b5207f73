"""Models by name: what there is, and what a wrong name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_engine.config import RunSettings
from wsi_engine.errors import ModelError
from wsi_engine.models.registry import available_models, find_model


def test_the_default_needs_nothing_and_comes_first():
    default = RunSettings().model
    assert next(iter(available_models())) == default
    entry = find_model(default)
    assert entry.spec.embedded
    assert entry.load(None).spec.name == default


def test_every_model_is_found_by_its_own_name():
    assert len(available_models()) > 1
    for name in available_models():
        assert find_model(name).spec.name == name


@pytest.mark.parametrize("entry", available_models().values(), ids=available_models())
def test_the_facts_of_a_model_suit_the_tiling(entry):
    spec = entry.spec
    assert spec.halo_px % spec.stride == 0
    assert spec.halo_px >= spec.receptive_radius_px + spec.largest_object_px
    assert 0 < spec.max_overlap < 1
    assert len(set(spec.classes)) == len(spec.classes)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("stardist", "starconvex"),
        ("watershd", "watershed"),
        ("Watershed", "watershed"),
        ("hovernet_fast-panuke", "hovernet_fast-pannuke"),
        ("hovernet_original-kumar2", "hovernet_original-kumar"),
        ("HOVERNET_FAST-MONUSAC", "hovernet_fast-monusac"),
    ],
)
def test_a_misspelt_name_suggests_the_nearest(name, suggestion):
    with pytest.raises(ModelError, match=f"unknown model '{name}': did you mean '{suggestion}'"):
        find_model(name)


@pytest.mark.parametrize("name", ["", "zzz"])
def test_a_name_like_no_other_lists_all(name):
    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert all(known in str(caught.value) for known in available_models())


def test_weights_for_a_model_that_has_none_are_refused():
    with pytest.raises(ModelError, match="no weights: leave --weights out"):
        find_model("watershed").load(Path("weights.pth"))
