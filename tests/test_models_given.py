"""A model as an object: what a run rests on then, and what cannot go with it."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import pytest

import wsi_engine as we
from tests.support.runs import SETTINGS, write_small_slide
from wsi_engine.models.given import model_basis
from wsi_engine.models.watershed import Watershed

WITHOUT_MODEL = {name: value for name, value in SETTINGS.items() if name != "model"} | {
    "tile_size": 384
}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_slide(tmp_path_factory.mktemp("slide") / "slide.tif")


@dataclass(frozen=True)
class Cautious(Watershed):
    """A watershed that leaves out what is doubtful."""

    lowest_score: float = 0.2

    def decode(self, maps):
        found = super().decode(maps)
        return replace(found, scores=found.scores.clip(self.lowest_score))


class Unpicklable(Cautious):
    def __reduce__(self):
        raise TypeError("it holds a lock")


def nuclei(folder: Path) -> bytes:
    return (folder / "slide" / "nuclei.geojson.gz").read_bytes()


def test_an_object_finds_what_its_name_finds(slide, tmp_path):
    we.run(slide, tmp_path / "name", model="watershed", **WITHOUT_MODEL)
    we.run(slide, tmp_path / "object", model=Watershed(), **WITHOUT_MODEL)
    assert nuclei(tmp_path / "object") == nuclei(tmp_path / "name")


def test_the_same_object_is_done_and_another_one_is_refused(slide, tmp_path):
    first = we.run(slide, tmp_path, model=Cautious(), **WITHOUT_MODEL)
    assert first.record.model.name == first.record.settings.model == "watershed"
    assert we.run(slide, tmp_path, model=Cautious(), **WITHOUT_MODEL).is_earlier
    for other in (Cautious(lowest_score=0.3), Watershed(), "watershed"):
        with pytest.raises(we.EngineError, match=r"finished result with model: object [0-9a-f]+"):
            we.run(slide, tmp_path, model=other, **WITHOUT_MODEL)


def test_worker_processes_get_the_object(slide, tmp_path):
    we.run(slide, tmp_path / "one", model=Cautious(), **WITHOUT_MODEL)
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        split = {"jobs": 2, "executor": executor}
        record = we.run(slide, tmp_path / "two", model=Cautious(), **split, **WITHOUT_MODEL).record
    assert sum(worker.tiles for worker in record.workers) == record.tiles.count
    assert nuclei(tmp_path / "one") == nuclei(tmp_path / "two")


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (object(), {}, "an object of type object is no model: it lacks a ModelSpec as spec, "),
        (Watershed, {}, "it lacks a ModelSpec as spec"),
        (Watershed(), {"weights": "w.pt"}, "weights are for models that are asked for by name"),
        (Unpicklable(), {"jobs": 2}, r"cannot be sent to other processes \(it holds a lock\)"),
    ],
)
def test_what_cannot_go_together_is_one_sentence(slide, tmp_path, model, settings, words):
    with pytest.raises(we.EngineError, match=words) as caught:
        we.run(slide, tmp_path / "out", model=model, **settings, **WITHOUT_MODEL)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


class Declares(Watershed):
    def __init__(self, weights: str) -> None:
        super().__init__()
        object.__setattr__(self, "weights", weights)

    def basis(self):
        return {"weights": self.weights}


@pytest.mark.parametrize(
    "others",
    [
        (Watershed(), Watershed(threshold=100), Cautious(), Cautious(lowest_score=0.5)),
        (Declares("a"), Declares("b")),
    ],
)
def test_models_that_differ_have_another_basis(others):
    found = [model_basis("watershed", model)["model"] for model in others]
    assert len(set(found)) == len(found)
    assert found == [model_basis("watershed", model)["model"] for model in others]
    assert all(re.fullmatch(r"object [0-9a-f]{16}", text) for text in found)


def test_a_name_of_this_package_is_enough():
    assert model_basis("watershed") == {}
