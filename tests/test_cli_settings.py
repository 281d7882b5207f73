"""Settings are written once: every one is an option of `run`, with its unit and its default."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.archives import write_slide
from wsi_engine.cli import main
from wsi_engine.cli.app import app
from wsi_engine.cli.settings_options import option_name, takes_settings
from wsi_engine.config import RunSettings, make_settings, setting_of
from wsi_engine.errors import SettingsError

GIVEN: dict[str, tuple[list[str], Any]] = {
    "model": (["--model", "watershed"], "watershed"),
    "weights": (["--weights", "own.safetensors"], Path("own.safetensors")),
    "ensemble": (["--ensemble", "unet,watershed"], ("unet", "watershed")),
    "mpp": (["--mpp", "0.26"], 0.26),
    "override_mpp": (["--override-mpp"], True),
    "roi": (["--roi", "drawn.geojson"], Path("drawn.geojson")),
    "roi_class": (["--roi-class", "Tumor", "--roi-class", "Stroma"], ("Tumor", "Stroma")),
    "classifier": (["--classifier", "classes.json"], Path("classes.json")),
    "regions_model": (["--regions-model", "glands.safetensors"], "glands.safetensors"),
    "regions_weights": (["--regions-weights", "own.pth"], Path("own.pth")),
    "region_smoothing": (["--region-smoothing", "4"], 4.0),
    "min_region_area": (["--min-region-area", "500"], 500.0),
    "min_region_hole": (["--min-region-hole", "0"], 0.0),
    "exclude_class": (["--exclude-class", "Necrosis"], ("Necrosis",)),
    "class_names": (["--class-names", "Dead=Necrosis"], {"Dead": "Necrosis"}),
    "class_colours": (["--class-colours", "Tumor=#c80000"], {"Tumor": (200, 0, 0)}),
    "tissue": (["--no-tissue"], False),
    "drop_red": (["--drop-red"], True),
    "tta": (["--tta", "8"], 8),
    "normalise": (["--normalise", "macenko"], "macenko"),
    "normalise_target": (["--normalise-target", "a.png"], Path("a.png")),
    "refine": (["--refine", "contour"], "contour"),
    "min_area": (["--min-area", "12.5"], 12.5),
    "max_area": (["--max-area", "150"], 150.0),
    "min_circularity": (["--min-circularity", "0.6"], 0.6),
    "min_score": (["--min-score", "0.55"], 0.55),
    "drop_border": (["--drop-border"], True),
    "cells": (["--cells", "5"], 5.0),
    "tile_size": (["--tile-size", "512"], 512),
    "simplify_um": (["--simplify-um", "0.2"], 0.2),
    "measure": (["--measure", "shape", "--measure", "rgb"], ("shape", "rgb")),
    "stains": (["--stains", "hdab"], "H-DAB"),
    "split_dab": (["--split-dab", "never"], "never"),
    "positive": (["--positive", "dab:.2,0.4,0.6"], "dab:0.2,0.4,0.6"),
    "geojson_measurements": (["--geojson-measurements", "none"], "none"),
    "split": (["--split", "1000"], 1000),
    "regions": (["--no-regions"], False),
    "report": (["--no-report"], False),
    "device": (["--device", "cuda:0,1"], "cuda:0,1"),
    "batch_size": (["--batch-size", "4"], 4),
    "compile": (["--compile", "never"], "never"),
    "workers": (["--workers", "3"], 3),
}
"""How each setting is given, and what it then is."""


def settings_of(*arguments: str) -> dict[str, Any]:
    """What a command with all settings gets."""
    command_line, got = typer.Typer(), {}

    @command_line.command()
    @takes_settings(*RunSettings.model_fields)
    def command(**settings: Any) -> None:
        got.update(settings)

    command_line([*arguments], standalone_mode=False)
    return got


def options_of(command: str) -> dict[str, str]:
    """The help of each option of a command, by its name."""
    commands: Any = typer.main.get_command(app)
    return {option.name: option.help for option in commands.commands[command].params}


@pytest.mark.parametrize("name", RunSettings.model_fields)
def test_every_setting_has_its_option(name: str):
    arguments, value = GIVEN[name]
    assert arguments[0] in (option_name(name), option_name(f"no_{name}"))
    chosen = make_settings(**settings_of(*arguments))
    assert chosen == make_settings(**{name: value})
    assert chosen != RunSettings()


def test_what_is_not_given_stays_as_the_preset_has_it(tmp_path: Path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("roi_class: [Tumor]\ntissue: false\nworkers: 3\n")
    assert set(settings_of().values()) == {None}
    assert make_settings(preset, **settings_of()) == make_settings(preset)
    chosen = make_settings(preset, **settings_of("--tissue", "--workers", "auto"))
    assert (chosen.tissue, chosen.workers, chosen.roi_class) == (True, "auto", ("Tumor",))


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("run", set(RunSettings.model_fields)),
        ("warm-up", {"model", "weights", "tile_size"}),
        (
            "measure",
            {"mpp", "tissue", "measure", "stains", "geojson_measurements", "tile_size"}
            | {"cells", "split", "workers"},
        ),
    ],
)
def test_a_command_has_the_settings_that_concern_it(command: str, names: set[str]):
    options = options_of(command)
    assert options.keys() & RunSettings.model_fields.keys() == names
    for name in names:
        setting = setting_of(RunSettings.model_fields[name])
        assert options[name].startswith(setting.help)
        assert setting.unit in options[name]


def test_the_help_tells_units_words_and_defaults():
    helps = options_of("run")
    assert re.search(r"in model pixels, or auto\. .*default: auto", helps["tile_size"])
    assert re.search(r"in µm\. .*default: 0\.08", helps["simplify_um"])
    assert re.search(r": H&E, H-DAB, estimated\. .*default: H&E", helps["stains"])
    assert re.search(r"or auto\. .*default: auto", helps["workers"])
    assert re.search(r"; can be repeated\.$", helps["roi_class"])
    assert re.search(r"default: yes", helps["tissue"])
    assert "default" not in helps["mpp"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--workers", "many"], "^--workers many: give a whole number from 1, or auto$"),
        (["--batch-size", "-1"], "^--batch-size -1: give a whole number from 1, or auto$"),
        (["--stains", "H&F"], "^stains = 'H&F': "),
        (["--measure", "shape", "--measure", "smell"], "^measure: there is no group 'smell'; "),
        (["--simplify-um", "3"], "^simplify_um = 3.0: "),
        (["--compile", "perhaps"], "^compile = 'perhaps': "),
    ],
)
def test_a_value_that_cannot_be_is_one_sentence(arguments: list[str], sentence: str):
    with pytest.raises(SettingsError, match=sentence):
        make_settings(**settings_of(*arguments))


def test_settings_on_the_command_line_are_those_of_the_run(tmp_path: Path):
    slide = write_slide(tmp_path / "slide.tif")
    names = ["model", "tissue", "simplify_um", "measure", "stains", "geojson_measurements"]
    names += ["regions", "report"]
    arguments = [word for name in names for word in GIVEN[name][0]]
    with pytest.raises(SystemExit) as end:
        main(["run", str(slide), "-o", str(tmp_path / "out"), *arguments])
    assert not end.value.code
    record = json.loads((tmp_path / "out" / "slide" / "run.json").read_text(encoding="utf-8"))
    wanted = make_settings(**{name: GIVEN[name][1] for name in names})
    assert record["settings"] == wanted.model_dump(mode="json")
