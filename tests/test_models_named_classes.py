"""Classes by QuPath's names and in chosen colours: settings of a run, for any model."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import wsi_engine as we
from tests.support.runs import write_small_slide
from wsi_engine.cli import main
from wsi_engine.models.named_classes import with_class_names
from wsi_engine.models.watershed import Watershed

RUN = {"tile_size": 384, "tissue": False, "measure": (), "regions": False, "report": False}
PURPLE, RED = (160, 90, 160), (200, 0, 0)


@dataclass(frozen=True)
class Classifying(Watershed):
    """A watershed that tells small, middling and large nuclei apart; of some it knows nothing."""

    @property
    def spec(self):
        classes = ("Inflammatory", "Neoplastic", "Dead")
        return replace(super().spec, classes=classes, colours=((1, 2, 3), None, None))

    def decode(self, maps):
        found = super().decode(maps)
        kinds = (np.arange(len(found)) % 4 - 1).astype(np.int16)
        shares = np.tile(np.array([0.5, 0.3, 0.2], np.float32), (len(found), 1))
        return replace(found, classes=kinds, probabilities=shares)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_slide(tmp_path_factory.mktemp("slide") / "slide.tif")


def written_classes(path: Path) -> dict[str, tuple[int, ...]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        features = json.load(stream)["features"]
    named = [f["properties"].get("classification") for f in features]
    return {each["name"]: tuple(each["color"]) for each in named if each is not None}


def test_classes_go_to_qupath_by_the_names_and_colours_of_the_table(slide, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(
        "class_names: {Inflammatory: Immune cells, Neoplastic: Tumor, Dead: Tumor}\n"
        "class_colours: {Tumor: '#0a0b0c'}\n"
    )
    result = we.run(slide, tmp_path, model=Classifying(), config=config, **RUN)
    assert result.record.model.classes == ("Immune cells", "Tumor")
    shown = {"Immune cells": (1, 2, 3), "Tumor": (10, 11, 12)}
    assert written_classes(result.folder / "nuclei.geojson.gz") == shown
    table = result.nuclei.arrow
    assert set(table["class"].to_pylist()) == {"Immune cells", "Tumor", None}
    assert table["probability: Tumor"][0].as_py() == pytest.approx(0.5)
    we.export_result(result.folder, "geojson", tmp_path / "again.geojson.gz")
    assert written_classes(tmp_path / "again.geojson.gz") == shown


def test_the_table_is_part_of_the_basis(slide, tmp_path):
    we.run(slide, tmp_path, model=Classifying(), **RUN)
    assert we.run(slide, tmp_path, model=Classifying(), class_names={}, **RUN).is_earlier
    for table in ({"class_names": {"Dead": "Necrosis"}}, {"class_colours": {"Dead": RED}}):
        with pytest.raises(we.EngineError, match=next(iter(table))):
            we.run(slide, tmp_path, model=Classifying(), **table, **RUN)


def test_probabilities_of_classes_that_become_one_add_up():
    names = {"Neoplastic": "Tumor", "Dead": "Tumor"}
    model = with_class_names(Classifying(), names, {"Tumor": RED})
    assert model.spec.classes == ("Inflammatory", "Tumor")
    assert model.spec.colours == ((1, 2, 3), RED)
    assert with_class_names(Classifying(), {}, {}) == Classifying()
    assert we.check_model(model) == []


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"class_names": {"Odd": "Tumor"}}, "class_names: watershed has no class 'Odd'"),
        ({"class_colours": {"Odd": RED}}, "it has Inflammatory, Neoplastic, Dead"),
        ({"class_colours": {"Dead": "red"}}, "give a colour as #c80000"),
        ({"class_colours": {"Dead": [1, 2, 300]}}, "class_colours"),
    ],
)
def test_a_class_or_colour_that_is_none_is_told(slide, tmp_path, table, words):
    with pytest.raises(we.EngineError, match=words):
        we.run(slide, tmp_path, model=Classifying(), **table, **RUN)


def test_the_command_takes_pairs(slide, tmp_path, capsys):
    def told(*options: str) -> str:
        with pytest.raises(SystemExit):
            main(["run", str(slide), "-o", str(tmp_path), "--model", "watershed", *options])
        return " ".join(capsys.readouterr().err.split())

    assert "--class-names Dead: give NAME=VALUE" in told("--class-names", "Dead")
    missing = told("--class-names", "Dead=Necrosis", "--class-colours", "Necrosis=#323232")
    assert "class_names: watershed has no class 'Dead': it has none" in missing
