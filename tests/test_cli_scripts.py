"""What a script gets from the command line: exit codes, silence, JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from tests.support.archives import OPTIONS, write_slide
from wsi_engine.cli import ExitCode, main
from wsi_engine.cli.app import COMMANDS
from wsi_engine.errors import EngineError
from wsi_engine.results.summary_row import COLUMNS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "slides" / "a.tif")


@pytest.fixture
def called(capsys):
    """A function that calls a command, and returns its exit code, standard output and error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call


# --- exit codes -----------------------------------------------------------------------------


def test_the_table_of_exit_codes_is_that_of_the_code():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| .+ \|$", page, re.MULTILINE)
    assert [int(code) for code in rows] == sorted(ExitCode)


def test_every_error_of_the_engine_ends_with_the_code_of_a_failure():
    def below(kind: type) -> list[type]:
        return [kind, *(one for each in kind.__subclasses__() for one in below(each))]

    assert {kind.exit_code for kind in below(EngineError)} == {ExitCode.FAILED}


def test_no_command_ends_with_a_number_of_its_own():
    sources = (ROOT / "wsi_engine" / "cli").glob("*.py")
    ends = [
        end
        for path in sources
        for end in re.findall(r"(?:Exit|_exit|exit)\((.+?)\)", path.read_text())
    ]
    assert len(ends) > 5
    assert {end.partition(".")[0] for end in ends} == {"ExitCode", "error"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["models"], ExitCode.DONE),
        (["info", "absent.svs"], ExitCode.FAILED),
        (["info"], ExitCode.WRONG_USAGE),
        (["info", "a.tif", "--nonsense"], ExitCode.WRONG_USAGE),
        (["nonsense"], ExitCode.WRONG_USAGE),
    ],
)
def test_how_commands_end(called, words, code):
    assert called(*words)[0] == code


# --- silence --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_quiet(called, command):
    _, out, _ = called(command, "--help")
    assert "--quiet" in out


def test_quiet_commands_say_nothing(called, slide: Path, tmp_path: Path):
    out = tmp_path / "out"
    (tmp_path / "broken.tif").write_text("no slide")
    assert called("run", slide, "-o", out, "--quiet", *OPTIONS) == (0, "", "")
    assert called("run", slide.parent, "-o", out, "--force", "-q", *OPTIONS) == (0, "", "")
    for words in (["regions", out / "a"], ["cohort", out], ["report", out / "a"], ["verify", out]):
        assert called(*words, "--quiet") == (0, "", "")
    assert called("--quiet", "status", out) == (0, "", "")
    assert called("status", out)[1] != "", "the next command speaks again"


def test_errors_break_the_silence(called, slide: Path, tmp_path: Path):
    code, out, err = called("run", "absent.svs", "-o", tmp_path, "--quiet")
    assert (code, out) == (1, "")
    assert err == "error: absent.svs: no such file\n"
    (slide.parent / "broken.tif").write_text("no slide")
    code, out, err = called("run", slide.parent, "-o", tmp_path / "out", "--quiet", *OPTIONS)
    assert (code, out) == (1, "")
    assert err.startswith("error: broken: broken.tif is not a slide")
    assert err.count("\n") == 1


def test_a_process_that_is_quiet_on_a_terminal_draws_no_bar(slide: Path, tmp_path: Path):
    pty = pytest.importorskip("pty")
    seen = bytearray()

    def read(file: int) -> bytes:
        data = os.read(file, 1024)
        seen.extend(data)
        return data

    options = ["-o", str(tmp_path / "out"), "--quiet", *OPTIONS]
    command = [sys.executable, "-m", "wsi_engine", "run", str(slide), *options]
    assert pty.spawn(command, read) == 0
    assert bytes(seen) == b""


def test_debug_may_stand_anywhere(slide: Path, tmp_path: Path):
    for words in (["--debug", "info", "absent.svs"], ["info", "absent.svs", "--debug"]):
        command = [sys.executable, "-m", "wsi_engine", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" in done.stderr


# --- JSON -----------------------------------------------------------------------------------


def test_run_tells_one_slide_as_json(called, slide: Path, tmp_path: Path):
    words = ["run", slide, "-o", tmp_path / "out", "--json", *OPTIONS]
    code, out, err = called(*words)
    (told,) = json.loads(out)["slides"]
    record = json.loads((tmp_path / "out" / "a" / "run.json").read_text(encoding="utf-8"))
    assert code == 0
    assert told.keys() == {*COLUMNS, "computed", "folder"}
    assert (told["slide"], told["path"], told["status"]) == ("a", str(slide), "done")
    assert told["nuclei"] == record["nuclei"]["count"] > 0
    assert (told["computed"], told["folder"]) == (True, str(tmp_path / "out" / "a"))
    assert "finding nuclei" in err
    (told,) = json.loads(called(*words)[1])["slides"]
    assert told["computed"] is False


def test_run_tells_many_slides_as_json(called, slide: Path, tmp_path: Path):
    (slide.parent / "broken.tif").write_text("no slide")
    code, out, _ = called("run", slide.parent, "-o", tmp_path / "out", "--json", *OPTIONS)
    told = {each["slide"]: each for each in json.loads(out)["slides"]}
    assert code == 1
    assert told.keys() == {"a", "broken"}
    assert (told["a"]["status"], told["broken"]["status"]) == ("done", "failed")
    assert told["a"]["path"] == str(slide)
    assert "broken.tif is not a slide" in told["broken"]["reason"]
    assert told["broken"]["error"] == "SlideError"


def test_info_as_json_is_what_it_prints(called, slide: Path):
    code, out, _ = called("info", slide, "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["file"], told["width_px"], told["height_px"]) == ("a.tif", 256, 256)
    assert told["pixel_um"] == [pytest.approx(0.25)] * 2
    assert told["levels"] == [{"index": 0, "width": 256, "height": 256, "downsample": 1.0}]
    assert told["reading"]["pixel_um"] == [pytest.approx(0.5)] * 2
    shown = called("info", slide)[1]
    assert f"{told['tissue']['area_mm2']:.3f} mm²" in shown
    assert told["reading"]["reason"].split(",")[0] in shown


def test_info_as_json_of_an_image_without_a_pixel_size(called, tmp_path: Path):
    Image.new("RGB", (64, 64), "white").save(tmp_path / "image.png")
    code, out, err = called("info", tmp_path / "image.png", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["pixel_um"] is told["tissue"] is told["stain"] is told["reading"] is None
    assert "--mpp" in told["warnings"][0]


def test_an_image_that_is_no_h_and_e_is_told_so(called, tmp_path: Path):
    image = tmp_path / "immunohistochemistry.png"
    Image.fromarray(skimage.data.immunohistochemistry()).save(image)
    said = "3.3 % of what is stained has the colour of haematoxylin or eosin"
    stain = json.loads(called("info", image, "--mpp", 0.5, "--json")[1])["stain"]
    assert stain["level"] == "bad"
    assert said in stain["sentence"]
    page = " ".join((ROOT / "docs" / "report.md").read_text(encoding="utf-8").split())
    assert stain["sentence"] in page, "the page quotes what is said"
    options = ["-o", tmp_path, "--mpp", 0.5, "--model", "watershed"]
    code, _, err = called("run", image, *options)
    assert code == 0
    assert said in next(line for line in err.splitlines() if line.startswith("warning: "))
