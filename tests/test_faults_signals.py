"""SIGTERM: a command ends within seconds, says one sentence, and goes on later."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wsi_engine
from tests.support.runs import OPTIONS, SETTINGS, outputs, write_small_slide
from wsi_engine.cli import main
from wsi_engine.cli.app import after_interruption
from wsi_engine.results.verify import problems_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")

TERMINATED = 143

RUN = """
import sys, time
from pathlib import Path
from wsi_engine.cli import main
from wsi_engine.models.watershed import Watershed
from wsi_engine.store import tile_store

slide, out, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
tile_store.MOST_TILES_IN_PART = 3
decode, done = Watershed.decode, []

def slow(self, maps):
    done.append(1)
    if len(done) == 20:
        Path(out, "twenty").touch()
        time.sleep(seconds)
    return decode(self, maps)

Watershed.decode = slow
main(["run", slide, "-o", out, *sys.argv[4:]])
"""


@pytest.mark.parametrize("seconds", [0.5, 60], ids=["a batch that ends", "a batch that hangs"])
def test_sigterm(tmp_path: Path, seconds: float):
    slide = write_small_slide(tmp_path / "small.tif")
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", RUN, slide, out, str(seconds), *OPTIONS]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "twenty").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begun <= 5
    assert process.returncode == TERMINATED
    assert "Traceback" not in err
    (error,) = re.findall(r"^error: (.*)$", err, re.MULTILINE)
    assert error == "interrupted: finished tiles are kept, and the same command goes on from there"
    assert problems_of(out / "small") == []

    result = wsi_engine.run(slide, out, **SETTINGS)
    assert 0 < result.record.tiles.resumed < 64
    expected = wsi_engine.run(slide, tmp_path / "whole", **SETTINGS).folder
    assert outputs(out / "small") == outputs(expected)


def test_who_says_force_is_told_to_leave_it_out_next_time(capsys, monkeypatch):
    def interrupted(*_: object) -> None:
        raise SystemExit(TERMINATED)

    monkeypatch.setattr("wsi_engine.cli.app.app", lambda *_, **__: interrupted())
    with pytest.raises(SystemExit):
        main(["run", "x.tif", "-o", "out", "--force"])
    assert "the same command without --force goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "goes_on"),
    [
        (["run", "x.tif"], True),
        (["--debug", "run", "x.tif"], True),
        (["measure", "x.tif", "x.geojson"], False),
        (["apply", "run"], False),
        (["train", "run.yaml"], False),
        ([], False),
    ],
)
def test_only_who_runs_is_told_that_tiles_are_kept(arguments, goes_on):
    said = after_interruption(arguments)
    assert said.startswith("interrupted")
    assert ("finished tiles are kept" in said) == goes_on
