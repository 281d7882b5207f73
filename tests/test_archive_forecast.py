"""What `run --dry-run` says, and that it writes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.archives import OPTIONS, SETTINGS, Heard, write_slide, write_slides
from wsi_engine import run_archive
from wsi_engine.archive import forecast as forecasts
from wsi_engine.archive.forecast import CPU_S_PER_MPX, S_PER_SLIDE, forecast_archive
from wsi_engine.cli import main
from wsi_engine.models.registry import available_models
from wsi_engine.results.record import read_run_record
from wsi_engine.store.claim import Claim

ROOT = Path(__file__).parents[1]


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A folder of three slides of 64 µm, and a file that is none."""
    folder = tmp_path / "slides"
    write_slides(folder, 3)
    (folder / "broken.tif").write_text("no slide")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def everything_in(folder: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))
    }


def states(forecast: forecasts.Forecast) -> dict[str, str]:
    return {slide.slide: slide.state for slide in forecast.slides}


def test_nothing_is_written(tmp_path: Path, slides: Path, output: Path):
    before = everything_in(tmp_path)
    forecast_archive([slides], output, **SETTINGS)
    assert everything_in(tmp_path) == before
    run_archive([slides], output, **SETTINGS)
    before = everything_in(tmp_path)
    forecast_archive([slides], output, force=True, **SETTINGS)
    assert everything_in(tmp_path) == before


def test_it_says_what_a_run_then_does(slides: Path, output: Path):
    forecast = forecast_archive([slides], output, **SETTINGS)
    names = [f"slide_{k:03d}" for k in range(3)]
    assert states(forecast) == dict.fromkeys(names, "to do") | {"broken": "cannot be done"}
    (broken,) = forecast.those("cannot be done")
    assert "broken.tif is not a slide" in (broken.reason or "")
    run_archive([slides / "slide_000.tif", slides / "broken.tif"], output, **SETTINGS)
    forecast = forecast_archive([slides], output, **SETTINGS)
    assert states(forecast) == {
        "broken": "failed",
        "slide_000": "done",
        "slide_001": "to do",
        "slide_002": "to do",
    }
    heard = Heard()
    run_archive([slides], output, listen=heard, **SETTINGS)
    assert sorted(heard.computed()) == [slide.slide for slide in forecast.those("to do")]


def test_what_is_to_be_done_again_is_to_do(slides: Path, output: Path):
    run_archive([slides], output, **SETTINGS)
    retried = states(forecast_archive([slides], output, retry_failed=True, **SETTINGS))
    assert retried["broken"] == "cannot be done", "it is no slide now, either"
    assert retried["slide_000"] == "done"
    forced = states(forecast_archive([slides], output, force=True, **SETTINGS))
    assert forced["slide_000"] == "to do"


def test_a_result_of_other_settings_would_be_refused(slides: Path, output: Path):
    run_archive([slides], output, **SETTINGS)
    forecast = forecast_archive([slides], output, **(SETTINGS | {"stains": "H-DAB"}))
    refused = {slide.slide: slide for slide in forecast.those("cannot be done")}
    assert "stains: H&E -> H-DAB" in (refused["slide_000"].reason or "")


def test_a_slide_that_another_run_has_is_elsewhere(slides: Path, output: Path):
    with Claim.take(output / "slide_001" / ".work"):
        assert states(forecast_archive([slides], output, **SETTINGS))["slide_001"] == "elsewhere"


def test_area_and_tissue_are_those_of_a_run(tmp_path: Path, output: Path):
    slide = write_slide(tmp_path / "a.tif", side=1024, nuclei=40)
    settings = SETTINGS | {"tissue": True}
    (told,) = forecast_archive([slide], output, **settings).slides
    run_archive([slide], output, **settings)
    found = read_run_record(output / "a").nuclei
    assert told.slide_mm2 == pytest.approx(0.256**2)
    assert told.tissue_mm2 == pytest.approx(found.area_mm2, rel=1e-3)
    assert told.megapixels == pytest.approx(told.tissue_mm2 / 0.5**2)


def test_tissue_is_not_looked_for_where_that_takes_long(tmp_path, output, monkeypatch):
    slide = write_slide(tmp_path / "a.tif")
    monkeypatch.setattr(forecasts, "LARGEST_READ_PX", 256 * 256 - 1)
    (told,) = forecast_archive([slide], output, **(SETTINGS | {"tissue": True})).slides
    assert told.tissue_mm2 is None
    assert told.megapixels == pytest.approx(0.064**2 / 0.5**2)


def test_time_is_that_of_the_benchmark_until_there_are_runs(slides, output, monkeypatch):
    monkeypatch.setattr(forecasts, "processor_threads", lambda: 4)
    forecast = forecast_archive([slides], output, **SETTINGS)
    wanted = 3 * (S_PER_SLIDE + CPU_S_PER_MPX["watershed"] * (0.064**2 / 0.5**2) / 4)
    assert forecast.seconds == pytest.approx(wanted)
    assert "0.33 s per Mpx of watershed on one core (benchmarks/methods.md)" in forecast.basis


def test_time_is_that_of_the_runs_that_there_are(tmp_path, slides, output):
    run_archive([slides / "slide_00[01].tif"], output, **SETTINGS)
    # Two runs that overlap: 30 s in all.
    for name, start, end in (("slide_000", "00:00", "00:20"), ("slide_001", "00:10", "00:30")):
        path = output / name / "run.json"
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts |= {
            "started": f"2026-01-01T00:{start}+00:00",
            "finished": f"2026-01-01T00:{end}+00:00",
        }
        path.write_text(json.dumps(facts), encoding="utf-8")
    forecast = forecast_archive([slides], output, **SETTINGS)
    (todo,) = forecast.those("to do")
    assert todo.seconds == pytest.approx(15, rel=0.01)
    assert "the 2 runs in out, 0.01 mm² in all" in forecast.basis


@pytest.mark.parametrize("sign", ["GPU", "weights"])
def test_no_figure_is_lent_to_what_it_was_not_measured_on(slides, output, monkeypatch, sign):
    settings = dict(SETTINGS)
    if sign == "GPU":
        monkeypatch.setattr(forecasts, "resolve_devices", lambda device: ["cuda:0"])
    else:
        settings["weights"] = slides / "slide_000.tif"
    forecast = forecast_archive([slides], output, **settings)
    assert forecast.seconds is None
    assert "it comes when one slide is done" in forecast.basis


def test_the_figures_are_those_of_the_benchmark():
    text = (ROOT / "benchmarks" / "methods.md").read_text(encoding="utf-8")
    speed = text[text.index("## Speed") :]
    rows = re.findall(r"^\| ([\w-]+) \| [\d.]* ?\| ([\d.]+) \|", speed, re.MULTILINE)
    assert {name: float(seconds) for name, seconds in rows} == CPU_S_PER_MPX
    assert CPU_S_PER_MPX.keys() <= available_models().keys()


def test_the_command_prints_it_and_ends_well(capsys, slides: Path, output: Path):
    arguments = ["run", str(slides), "-o", str(output), "--dry-run", "--jobs", "2", *OPTIONS]
    main_ends(arguments)
    said = capsys.readouterr()
    assert re.search(r"to do +3 slides, 0\.0 mm²", said.out)
    assert "estimated by" in said.out
    assert "warning: broken.tif is not a slide" in said.err
    assert not output.exists()
    main_ends([*arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [slide["state"] for slide in told["slides"]] == ["cannot be done"] + 3 * ["to do"]


def main_ends(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code
