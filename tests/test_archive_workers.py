"""Slides on worker processes, and workers that die."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.archives import (
    OPTIONS,
    SETTINGS,
    Heard,
    logged,
    results,
    write_slide,
    write_slides,
)
from wsi_engine import run_archive
from wsi_engine.archive.events import Event
from wsi_engine.errors import OutputError
from wsi_engine.results.failure import read_failure

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")

ROOT = Path(__file__).parents[1]


class Killer(Heard):
    """A listener that kills the worker of some slides, in the midst of them.

    Parameters
    ----------
    chosen
        Which of all the slides that begin, counted from 0, and after how many seconds.
    """

    def __init__(self, chosen: dict[int, float]) -> None:
        super().__init__()
        self._chosen = chosen
        self._begun = 0

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if event.event != "slide_started":
            return
        if self._begun in self._chosen:
            threading.Timer(self._chosen[self._begun], kill, (event.facts["pid"],)).start()
        self._begun += 1


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_200_slides_on_2_workers_of_which_5_are_killed(tmp_path: Path):
    write_slides(tmp_path / "slides", 200)
    dice = random.Random(7)
    # Not among the last: what a kill cost is done at the end, and a second time it would fail.
    chosen = {number: dice.uniform(0, 0.05) for number in dice.sample(range(5, 180), 5)}
    killer = Killer(chosen)
    out = tmp_path / "out"
    summary = run_archive([tmp_path / "slides"], out, jobs=2, listen=killer, **SETTINGS)
    assert (len(summary.done), len(summary.failed), len(summary.claimed_by_another)) == (200, 0, 0)
    assert 1 <= len(killer.of("worker_died")) <= 5
    assert len(killer.of("worker_joined")) >= 2 + 5 - 1
    computed = killer.computed()
    assert len(computed) == len(set(computed))
    # One whose worker died between the result and the news of it was computed, too.
    assert len(killer.of("slide_done")) == 200
    assert len(computed) >= 195
    serial = run_archive([tmp_path / "slides"], tmp_path / "serial", **SETTINGS)
    assert [(one.name, one.nuclei) for one in summary.done] == [
        (one.name, one.nuclei) for one in serial.done
    ]
    assert results(out) == results(tmp_path / "serial")


def test_a_slide_goes_on_with_the_tiles_that_a_killed_worker_left(tmp_path: Path):
    # Slow enough for the news of its tiles, which comes twice a second.
    settings = SETTINGS | {"tile_size": 64, "measure": ("shape", "colour", "texture", "ring")}
    slide = write_slide(tmp_path / "slides" / "a.tif", 3, side=2048, nuclei=600)
    write_slide(tmp_path / "slides" / "b.tif", 4)
    killed: list[int] = []
    pids: dict[str, int] = {}

    def listen(event: Event) -> None:
        if event.event == "slide_started":
            pids[event.slide] = event.facts["pid"]
        tiles = event.facts.get("tiles", 0) if event.event == "slide_progress" else 0
        if event.slide == "a" and tiles > 130 and not killed:
            killed.append(pids["a"])
            kill(pids["a"])

    out = tmp_path / "out"
    summary = run_archive([tmp_path / "slides"], out, jobs=2, listen=listen, **settings)
    assert killed
    assert len(summary.done) == 2
    record = json.loads((out / "a" / "run.json").read_text(encoding="utf-8"))
    assert record["tiles"]["resumed"] >= 64
    run_archive([slide], tmp_path / "serial", **settings)
    assert results(out)["a"] == results(tmp_path / "serial")["a"]


def test_a_slide_that_kills_every_worker_is_given_up_and_the_others_are_done(tmp_path: Path):
    write_slides(tmp_path / "slides", 6)

    class Deadly(Heard):
        def __call__(self, event: Event) -> None:
            super().__call__(event)
            if event.event == "slide_started" and event.slide == "slide_002":
                kill(event.facts["pid"])

    deadly, out = Deadly(), tmp_path / "out"
    big = write_slide(tmp_path / "slides" / "slide_002.tif", 2, side=640, nuclei=100)
    settings = SETTINGS | {"tile_size": 64}
    summary = run_archive([tmp_path / "slides"], out, jobs=2, listen=deadly, **settings)
    assert len(summary.done) == 5
    failure = read_failure(out / "slide_002")
    assert failure is not None
    assert (failure.error, failure.attempts) == ("WorkerDied", 2)
    assert "slide_002.tif: the worker process died" in failure.reason
    again = [event.facts["tried_again"] for event in deadly.of("worker_died")]
    assert again == [True, False]
    summary = run_archive([big], out, retry_failed=True, **settings)
    assert len(summary.done) == 1


def command(slides: Path, output: Path, log: Path, *more: str) -> list[str]:
    python = [sys.executable, "-m", "wsi_engine"]
    return [*python, "run", str(slides), "-o", str(output), "--log", str(log), *more, *OPTIONS]


def test_of_two_runs_side_by_side_one_is_killed_and_nothing_is_dropped(tmp_path: Path):
    slides, out = tmp_path / "slides", tmp_path / "out"
    write_slides(slides, 20)
    for k in range(20, 24):
        write_slide(slides / f"slide_{k:03d}.tif", k, side=512, nuclei=50)
    logs = [tmp_path / f"{name}.jsonl" for name in "ab"]
    more = ["--wait", "--tile-size", "64"]
    runs = [subprocess.Popen(command(slides, out, log, *more)) for log in logs]
    while not (logs[0].exists() and logs[0].read_text().count("slide_started") >= 3):
        assert runs[0].poll() is None
        time.sleep(0.01)
    kill(runs[0].pid)
    assert runs[0].wait() == -signal.SIGKILL
    assert runs[1].wait() == 0
    computed = [line["slide"] for line in logged(logs) if line.get("computed") is True]
    assert len(computed) == len(set(computed))
    # The killed run may have finished one without a word.
    assert len(computed) >= 23
    assert len(results(out)) == 24


def test_three_tasks_of_a_slurm_array(tmp_path: Path):
    slides, out = tmp_path / "it's slides", tmp_path / "out"
    write_slides(slides, 12)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    engine = bin_folder / "wsi-engine"
    engine.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wsi_engine "$@"\n')
    engine.chmod(0o755)
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_CPUS_PER_TASK": "1"}
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    tasks = [
        subprocess.Popen(
            ["bash", ROOT / "configs" / "slurm_array.sh", slides, out, "--wait", *OPTIONS],
            env=os.environ | array | {"SLURM_ARRAY_TASK_ID": str(k), "PATH": path},
            cwd=ROOT,
        )
        for k in (1, 2, 3)
    ]
    assert [task.wait() for task in tasks] == [0, 0, 0]
    lines = logged((out / ".archive").glob("7_*.jsonl"))
    computed = [line["slide"] for line in lines if line.get("computed") is True]
    assert len(computed) == len(set(computed)) == 12
    assert len(results(out)) == 12


def test_a_scheduler_that_runs_already(tmp_path: Path):
    distributed = pytest.importorskip("distributed")
    write_slides(tmp_path / "slides", 4)
    heard, out = Heard(), tmp_path / "out"
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1"
    ) as cluster:
        address = cluster.scheduler_address
        for slides in ("slides/slide_00[01].tif", "slides"):
            pattern = str(tmp_path / slides)
            summary = run_archive([pattern], out, scheduler=address, listen=heard, **SETTINGS)
        assert cluster.scheduler_info["workers"]
    assert (len(summary.done), summary.computed) == (4, 2)
    assert sorted(heard.computed()) == [f"slide_{k:03d}" for k in range(4)]


def test_a_worker_of_a_scheduler_that_is_killed_costs_no_slide(tmp_path: Path):
    distributed = pytest.importorskip("distributed")
    write_slides(tmp_path / "slides", 6)
    killer, out = Killer({1: 0.0}), tmp_path / "out"
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1"
    ) as cluster:
        address = cluster.scheduler_address
        options = {"scheduler": address, "listen": killer, **SETTINGS}
        summary = run_archive([tmp_path / "slides"], out, **options)
    assert len(killer.of("worker_died")) == 1
    assert len(summary.done) == 6


def test_jobs_need_no_dask(tmp_path: Path, monkeypatch):
    for module in ("dask", "distributed"):
        monkeypatch.setitem(sys.modules, module, None)
    slides, heard = write_slides(tmp_path / "slides", 3), Heard()
    summary = run_archive(slides, tmp_path / "out", jobs=2, listen=heard, **SETTINGS)
    assert len(summary.done) == 3
    pids = {event.facts["pid"] for event in heard.of("slide_started")}
    assert pids
    assert os.getpid() not in pids


def test_workers_end_when_the_command_is_killed(tmp_path: Path):
    slides, log = tmp_path / "slides", tmp_path / "log.jsonl"
    for k in range(2):
        write_slide(slides / f"slide_{k}.tif", k, side=1280, nuclei=200)
    more = ("--jobs", "2", "--tile-size", "64")
    process = subprocess.Popen(command(slides, tmp_path / "out", log, *more))
    while not (log.exists() and log.read_text().count("slide_started") == 2):
        assert process.poll() is None
        time.sleep(0.05)
    pids = {line["pid"] for line in logged([log]) if line["event"] == "slide_started"}
    kill(process.pid)
    process.wait()
    patience = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < patience
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2:3]


def test_a_script_without_its_guard_is_told_so(tmp_path: Path):
    write_slides(tmp_path / "slides", 2)
    script = tmp_path / "script.py"
    script.write_text("import wsi_engine\nwsi_engine.run_archive(['slides'], 'out', jobs=2)\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "WorkerError: worker processes end before they are ready" in done.stderr
    assert 'if __name__ == "__main__"' in done.stderr.splitlines()[-1]


def test_what_is_no_fault_of_a_slide_ends_the_run_in_a_sentence(tmp_path: Path):
    slides, out = write_slides(tmp_path / "slides", 2), tmp_path / "out"

    def listen(event: Event) -> None:
        if event.event == "archive_started":
            (out / ".archive" / "claims").write_text("in the way")

    with pytest.raises(OutputError, match="claims"):
        run_archive(slides, out, jobs=2, listen=listen, **SETTINGS)


def test_ctrl_c_ends_workers_at_once_and_the_next_run_goes_on(tmp_path: Path):
    slides, out, log = tmp_path / "slides", tmp_path / "out", tmp_path / "log.jsonl"
    for k in range(2):
        write_slide(slides / f"slide_{k}.tif", k, side=1280, nuclei=200)
    process = subprocess.Popen(
        command(slides, out, log, "--jobs", "2", "--tile-size", "64"),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        process_group=0,
    )
    while not (log.exists() and '"nuclei", "tiles": ' in log.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    pids = {line["pid"] for line in logged([log]) if line["event"] == "slide_started"}
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it, too
    _, errors = process.communicate()
    assert time.monotonic() - asked < 10
    assert process.returncode == 130
    assert "error: interrupted" in errors
    assert "Traceback" not in errors
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    summary = run_archive([slides], out, **(SETTINGS | {"tile_size": 64}))
    assert len(summary.done) == 2
