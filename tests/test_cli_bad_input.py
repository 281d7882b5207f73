"""A folder for a file, a file that is not there, a name of another kind: one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.archives import write_slide
from wsi_engine.cli import ExitCode, main

NAMES = ("f.geojson", "f.tif", "f.json", "f.yaml", "f.csv", "f.parquet", "f.db")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Path:
    """A place with a slide, a result, good GeoJSON, and folders with the names of files."""
    folder: Path = tmp_path_factory.mktemp("place")
    write_slide(folder / "slide.tif")
    (folder / "result").symlink_to(finished_run)
    (folder / "nuclei.geojson.gz").symlink_to(finished_run / "nuclei.geojson.gz")
    for name in NAMES:
        (folder / name).mkdir()
    return folder


def said_by(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """Give a command, and return its one error."""
    with pytest.raises(SystemExit) as end:
        main(line.split())
    err = capsys.readouterr().err
    errors = [text for text in err.splitlines() if text.startswith("error: ")]
    assert end.value.code == ExitCode.FAILED
    assert len(errors) == 1
    assert "Errno" not in err
    assert "Traceback" not in err
    return errors[0].removeprefix("error: ")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("sample f.tif", "cannot write to f.tif: a folder is in the way"),
        (
            "convert nuclei.geojson.gz f.geojson",
            "f.geojson: a folder is in the way",
        ),
        (
            "convert nuclei.geojson.gz f.parquet",
            "f.parquet: a folder is in the way",
        ),
        ("convert nuclei.geojson.gz f.db", "f.db: a folder is in the way"),
        ("convert f.geojson out.geojson", "f.geojson cannot be read: it is a folder"),
        ("convert f.parquet out.geojson", "f.parquet cannot be read: it is a folder"),
        ("convert f.db out.geojson", "f.db cannot be read: it is a folder"),
        ("validate f.geojson", "f.geojson cannot be read: it is a folder"),
        ("validate nuclei.geojson.gz --fix f.geojson", "a folder is in the way"),
        ("regions result --annotations f.geojson", "f.geojson cannot be read: it is a folder"),
        ("measure slide.tif f.geojson -o out", "f.geojson cannot be read: it is a folder"),
        ("run slide.tif -o out --roi f.geojson", "f.geojson cannot be read: it is a folder"),
        ("run slide.tif -o out --log f.json", "cannot write to f.json: it is a folder"),
        ("run slide.tif -o out --weights f.json", "f.json: no such file, which should hold"),
    ],
)
def test_a_folder_for_a_file(capsys, monkeypatch, place, line, sentence):
    monkeypatch.chdir(place)
    assert sentence in said_by(capsys, line)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("sample a.xyz", "a.xyz: name the sample .tif, which it is"),
        (
            "run slide.tif -o new --weights absent.st",
            "absent.st: no such file, which should hold the weights of starconvex",
        ),
        (
            "run slide.tif -o new --ensemble unet=absent.st,starconvex",
            "absent.st: no such file, which should hold the weights of unet",
        ),
        ("train list.yaml", "list.yaml must hold settings as `name: value` lines"),
    ],
)
def test_what_is_of_another_kind_or_absent(capsys, monkeypatch, place, line, sentence):
    monkeypatch.chdir(place)
    Path("list.yaml").write_text("- a\n")
    assert said_by(capsys, line) == sentence
    assert not Path("new").exists()
