"""A pixel size that is stated for several slides is for those that state none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tifffile

from tests.support.archives import SETTINGS, Heard, write_slide
from wsi_engine.archive.run import run_archive


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Two slides: one says 0.25 µm, the other nothing."""
    folder = tmp_path / "in"
    says = write_slide(folder / "says.tif")
    tifffile.imwrite(
        folder / "silent.tif",
        tifffile.imread(says),
        tile=(64, 64),
        photometric="rgb",
        metadata=None,
    )
    return folder


def sizes(output: Path) -> dict[str, tuple[float, str]]:
    """Pixel size that each slide was run at, and where it was found."""
    facts = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))["slide"]
        for path in output.glob("*/run.json")
    }
    return {name: (slide["mpp"]["x"], slide["mpp_source"]) for name, slide in facts.items()}


def test_it_fills_in_and_says_which_slide_keeps_its_own(slides: Path, tmp_path: Path):
    heard = Heard()
    run_archive([slides], tmp_path / "out", mpp=0.5, listen=heard, **SETTINGS)
    assert sizes(tmp_path / "out") == {
        "says": (0.25, "openslide.mpp-x/-y"),
        "silent": (0.5, "--mpp"),
    }
    (warning,) = heard.of("slide_warning")
    assert warning.slide == "says"
    assert "states 0.25 µm, which is used" in warning.facts["text"]
    assert "--override-mpp" in warning.facts["text"]


def test_a_second_run_finds_them_done(slides: Path, tmp_path: Path):
    run_archive([slides], tmp_path / "out", mpp=0.5, **SETTINGS)
    again = run_archive([slides], tmp_path / "out", mpp=0.5, **SETTINGS)
    assert (again.computed, len(again.done)) == (0, 2)


def test_overriding_has_a_word_of_its_own_and_is_told(slides: Path, tmp_path: Path):
    heard = Heard()
    asked = {"mpp": 0.5, "override_mpp": True, "listen": heard}
    run_archive([slides], tmp_path / "out", **asked, **SETTINGS)
    assert {size for size, _ in sizes(tmp_path / "out").values()} == {0.5}
    (warning,) = heard.of("slide_warning")
    assert warning.facts["text"] == "--mpp 0.5 replaces the file's 0.25 µm"


def test_what_is_said_of_one_slide_alone_wins(slides: Path, tmp_path: Path):
    run_archive([slides / "says.tif"], tmp_path / "named", mpp=0.5, **SETTINGS)
    assert sizes(tmp_path / "named")["says"][0] == 0.5
    manifest = slides / "study.csv"
    manifest.write_text("path,mpp\nsays.tif,0.5\nsilent.tif,\n", encoding="utf-8")
    run_archive([], tmp_path / "listed", manifest=manifest, mpp=1.0, **SETTINGS)
    assert {name: size for name, (size, _) in sizes(tmp_path / "listed").items()} == {
        "says": 0.5,
        "silent": 1.0,
    }


def test_a_folder_of_one_slide_is_a_folder(slides: Path, tmp_path: Path):
    (slides / "silent.tif").unlink()
    run_archive([slides], tmp_path / "out", mpp=0.5, **SETTINGS)
    assert sizes(tmp_path / "out")["says"][0] == 0.25
