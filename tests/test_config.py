"""Settings: every one once, checked, and the presets are presets of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from wsi_engine.config import RunSettings, make_settings, setting_of
from wsi_engine.digests import digest
from wsi_engine.errors import SettingsError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RUN_PRESETS = ("default.yaml", "large_slides.yaml")


@pytest.mark.parametrize("name", RUN_PRESETS)
def test_a_preset_is_valid(name: str):
    assert make_settings(CONFIGS / name)


def test_the_default_preset_is_the_default():
    written = yaml.safe_load((CONFIGS / "default.yaml").read_text(encoding="utf-8"))
    assert RunSettings(**written) == RunSettings()


def test_explicit_settings_win_over_the_preset(tmp_path: Path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("tile_size: 256\nworkers: 3\n")
    settings = make_settings(preset, tile_size=512, workers=None)
    assert (settings.tile_size, settings.workers) == (512, 3)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("tile_size", 0),
        ("tile_size", 10**9),
        ("tile_size", "large"),
        ("device", "tpu"),
        ("device", "cuda:"),
        ("workers", 0),
        ("batch_size", -1),
        ("batch_size", "most"),
        ("simplify_um", -0.1),
        ("split", 0),
        ("measure", ["shape", "smell"]),
        ("measure", ["shape", "colour", "shape"]),
        ("stains", "H&F"),
        ("geojson_measurements", "some"),
    ],
)
def test_an_unusable_value_is_named(setting: str, value: object):
    with pytest.raises(SettingsError, match=setting):
        make_settings(**{setting: value})


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("tile_size", 0, "tile_size = 0: give a number from 64 or 'auto'"),
        ("tile_size", "much", "tile_size = 'much': give a whole number or 'auto'"),
        ("simplify_um", 3, "simplify_um = 3: give a number up to 2"),
        ("min_area", 0, "min_area = 0: give a number above 0"),
        ("device", "tpu", "device = 'tpu': give auto, cpu, cuda or cuda:0,1"),
        ("stains", "H&F", "stains = 'H&F': give 'H&E', 'H-DAB', 'estimated' or two vectors"),
        ("workers", "many", "workers = 'many': give a whole number or 'auto'"),
        ("tissue", "perhaps", "tissue = 'perhaps': give true or false"),
        ("roi", 3, "roi = 3: give the name of a file"),
    ],
)
def test_what_a_setting_takes_is_told(setting: str, value: object, sentence: str):
    with pytest.raises(SettingsError) as caught:
        make_settings(**{setting: value})
    assert str(caught.value) == sentence


def test_every_error_that_is_known_to_pydantic_has_a_sentence():
    """A setting that takes what no other takes needs words of its own."""
    for name in RunSettings.model_fields:
        with pytest.raises(SettingsError) as caught:
            make_settings(**{name: object()})
        assert "another value" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "tile_size: [", "\x00"])
def test_a_file_that_holds_no_settings(tmp_path: Path, text: str):
    preset = tmp_path / "preset.yaml"
    preset.write_text(text)
    with pytest.raises(SettingsError, match=r"preset\.yaml"):
        make_settings(preset)


def test_yaml_cannot_run_code(tmp_path: Path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("model: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(SettingsError, match="not YAML"):
        make_settings(preset)


@pytest.mark.parametrize("name", RunSettings.model_fields)
def test_every_setting_says_whether_it_changes_the_result(name: str):
    answer = setting_of(RunSettings.model_fields[name]).changes_result
    assert isinstance(answer, bool)
    assert (name in RunSettings().result_settings()) is answer


def test_what_does_not_change_the_result():
    """All others do: in doubt a run is refused rather than a stale result kept."""
    others = RunSettings.model_fields.keys() - RunSettings().result_settings().keys()
    how = {"regions", "report", "device", "batch_size", "compile", "workers"}
    # Whether `mpp` holds for a slide is decided before its run, which is told the outcome.
    assert others == how | {"override_mpp"}


def test_only_what_changes_the_result_is_part_of_its_settings():
    slow, fast = RunSettings(workers=1, batch_size=1), RunSettings(workers=8, device="cuda")
    assert slow.result_settings() == fast.result_settings()
    assert digest(RunSettings().result_settings()) != digest(
        RunSettings(tile_size=512).result_settings()
    )
