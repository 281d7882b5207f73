"""Who does the slides: how many workers there are, and what a pool makes of their ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.archives import SETTINGS, Heard, write_slide, write_slides
from wsi_engine import run_archive
from wsi_engine.archive import driver
from wsi_engine.archive.cache import CacheSettings
from wsi_engine.archive.dask_workers import DaskPool
from wsi_engine.archive.inputs import SlideJob
from wsi_engine.archive.outcome import Outcome, result_of
from wsi_engine.archive.task import SlideTask, claimed_by_another, died, do_slide
from wsi_engine.archive.workers import Completion, InProcessPool, WorkerPool
from wsi_engine.config import make_settings
from wsi_engine.engine.progress import Progress
from wsi_engine.engine.run import run as run_alone

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("done_before", "workers"), [(0, 3), (2, 1)])
def test_there_are_no_more_workers_than_slides(tmp_path, monkeypatch, done_before, workers):
    slides, asked = write_slides(tmp_path / "slides", 3), []

    def pool(number: int, listen) -> InProcessPool:
        asked.append(number)
        return InProcessPool(listen)

    monkeypatch.setattr("wsi_engine.archive.run.LocalPool", pool)
    if done_before:
        run_archive(slides[:done_before], tmp_path / "out", **SETTINGS)
    run_archive(slides, tmp_path / "out", jobs=4, **SETTINGS)
    assert asked == [workers]


@pytest.fixture
def redo(tmp_path: Path) -> SlideTask:
    """A task that shall replace a finished result."""
    slide = write_slide(tmp_path / "a.tif")
    settings = SETTINGS | {"tile_size": 64}
    run_alone(slide, tmp_path / "out", **settings)
    record = result_of(tmp_path / "out" / "a")
    return SlideTask(
        SlideJob(str(slide), "a"),
        tmp_path / "out",
        make_settings(None, **settings),
        CacheSettings(tmp_path / "cache"),
        redo_of=record.finished,
    )


@pytest.mark.parametrize(
    ("tiles_left", "deaths", "goes_on"), [(2, 1, True), (2, 0, False), (0, 1, False)]
)
def test_a_redo_goes_on_with_what_a_dead_worker_of_it_left(redo, tiles_left, deaths, goes_on):
    def interrupt(progress: Progress) -> None:
        if progress.tiles >= tiles_left:
            raise KeyboardInterrupt

    options = redo.settings.model_dump()
    with pytest.raises(KeyboardInterrupt):
        run_alone(redo.job.path, redo.output, force=True, observe=interrupt, **options)
    outcome = do_slide(replace(redo, deaths=deaths), Heard())
    assert (outcome.status, outcome.computed) == ("done", True)
    assert (result_of(redo.folder).tiles.resumed > 0) is goes_on


class SlowToTell:
    """A future that has ended, and whose outcome comes at the second time that it is asked for."""

    def __init__(self) -> None:
        self._asked = 0

    def done(self) -> bool:
        return True

    def add_done_callback(self, call) -> None:
        call(self)

    def result(self, timeout: float) -> Outcome:
        self._asked += 1
        if self._asked == 1:
            raise TimeoutError
        return Outcome("a", "done")


class Client:
    """As much of Dask's client as a pool needs, with one worker; it cannot be closed."""

    def subscribe_topic(self, topic, call) -> None:
        pass

    def nthreads(self) -> dict[str, int]:
        return {"tcp://host:1": 1}

    def submit(self, *arguments, **options) -> SlowToTell:
        return SlowToTell()

    def close(self, timeout: float) -> None:
        raise TimeoutError


def test_an_outcome_that_could_not_be_fetched_is_fetched_again(redo: SlideTask):
    pool = DaskPool(Client(), Heard())
    (worker,) = pool.free_workers()
    pool.submit(redo, worker)
    assert pool.completed(0.01) == []
    assert pool.free_workers() == []
    assert [report.outcome.name for report in pool.completed(0.01)] == ["a"]
    assert pool.free_workers() == [worker]


def test_a_cluster_ends_even_if_its_client_does_not():
    closed = []
    cluster = SimpleNamespace(close=lambda timeout: closed.append(timeout))
    DaskPool(Client(), Heard(), cluster).close()
    assert len(closed) == 1


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("ids", "shares"),
    [
        ((1, 2, 3), ("1/3", "2/3", "3/3")),
        ((0, 1), ("1/2", "2/2")),
        ((0, 2, 4, 6), ("1/4", "3/4", "1/4", "3/4")),
        ((3, 7), ("1/2", "1/2")),
    ],
)
def test_every_task_of_a_slurm_array_has_a_share_and_a_log(tmp_path, ids, shares):
    engine = tmp_path / "bin" / "wsi-engine"
    engine.parent.mkdir()
    engine.write_text('#!/bin/sh\necho "$@"\n')
    engine.chmod(0o755)
    logs = set()
    for number, share in zip(ids, shares, strict=True):
        array = {
            "PATH": f"{engine.parent}{os.pathsep}{os.environ['PATH']}",
            "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_ARRAY_TASK_COUNT": str(len(ids)),
            "SLURM_ARRAY_TASK_ID": str(number),
            "SLURM_ARRAY_TASK_MIN": str(min(ids)),
        }
        words = subprocess.run(
            ["bash", ROOT / "configs" / "slurm_array.sh", "slides", tmp_path / "out"],
            env=os.environ | array,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert words[words.index("--share") + 1] == share
        logs.add(words[words.index("--log") + 1])
    assert len(logs) == len(ids)


def test_a_slide_is_given_up_when_the_dead_have_let_go_of_it(monkeypatch, tmp_path):
    """A process that was killed can hold its claim for a moment."""
    (tmp_path / "out").mkdir()
    job, cache = SlideJob(str(write_slide(tmp_path / "a.tif")), "a"), CacheSettings(tmp_path / "c")
    task = SlideTask(job, tmp_path / "out", make_settings(None, **SETTINGS), cache)
    held = [claimed_by_another(task), claimed_by_another(task)]
    monkeypatch.setattr(driver, "died", lambda task: held.pop() if held else died(task))
    begun = []

    class Deadly(WorkerPool):
        def free_workers(self):
            return ["worker 1"]

        def submit(self, task, worker):
            begun.append(task)

        def completed(self, timeout_s):
            return [Completion(begun[-1], "worker 1", None)]

        def close(self):
            pass

    archive = driver.Driver(tmp_path / "out", [task], False, Heard())
    archive.work(Deadly())
    assert len(begun) == driver.MOST_DEATHS
    assert archive.outcomes["a"].failure.error == "WorkerDied"
