"""Kill -9, at any moment: what was done is kept, and the result is what it would have been."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import wsi_engine
from tests.support.runs import (
    SETTINGS,
    TILES,
    TILES_IN_PART,
    in_a_process,
    outputs,
    start,
    write_small_slide,
)
from wsi_engine.errors import BusyError
from wsi_engine.results.status import status_of
from wsi_engine.results.verify import problems_of
from wsi_engine.store import tile_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")

TIMES, TILE_COUNTS, OPERATIONS = 7, 6, 7
"""How often of each kind; 20 in all."""

DURABLE = ((os, "fsync"), (os, "replace"), (os, "unlink"), (os, "rename"))
"""What decides on what is left after a crash."""


def kill_now() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_and_die(slide: Path, out: Path, way: str, when: float) -> None:
    """Run, and be killed after some seconds, tiles, or in front of an operation on the disk."""
    small_parts()
    done = [0]
    if way == "seconds":
        timer = threading.Timer(when, kill_now)
        timer.daemon = True
        timer.start()
    if way == "operations":
        for module, name in DURABLE:
            count_calls(module, name, done, int(when))

    def observe(progress: wsi_engine.Progress) -> None:
        done[0] += way == "tiles" and progress.stage == "nuclei"
        if way == "tiles" and done[0] > when:
            kill_now()

    wsi_engine.run(slide, out, **SETTINGS, observe=observe)


def small_parts() -> None:
    """Make every part hold so many tiles, however slow the machine is."""
    tile_store.MOST_TILES_IN_PART = TILES_IN_PART
    tile_store.LONGEST_UNSAVED_S = 1e9


def count_calls(module, name: str, done: list[int], most: int) -> None:
    function = getattr(module, name)

    def counted(*arguments, **options):
        done[0] += 1
        if done[0] > most:
            kill_now()
        return function(*arguments, **options)

    setattr(module, name, counted)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_slide(tmp_path_factory.mktemp("slides") / "small.tif")


@pytest.fixture(scope="module")
def expected(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("expected")
    assert in_a_process(run_and_die, slide, folder, "never", 0) == 0
    return outputs(folder / "small")


def moments(seed: int, seconds: float) -> list[tuple[str, float]]:
    """When to kill, seeded: early and late in the run, and between any two steps of saving."""
    rng = np.random.default_rng(seed)
    chosen = [("seconds", when) for when in rng.uniform(0, seconds, TIMES)]
    chosen += [("tiles", float(when)) for when in rng.integers(0, 12, TILE_COUNTS)]
    chosen += [("operations", float(when)) for when in rng.integers(0, 18, OPERATIONS)]
    rng.shuffle(chosen)
    return [(way, float(when)) for way, when in chosen]


def test_killed_twenty_times_and_resumed_the_bytes_are_the_same(slide, expected, tmp_path):
    begun = time.monotonic()
    assert in_a_process(run_and_die, slide, tmp_path / "timed", "never", 0) == 0
    seconds = time.monotonic() - begun
    out, kept, killed = tmp_path / "out", [0], 0
    for way, when in moments(seed=1, seconds=seconds / 2):
        code = in_a_process(run_and_die, slide, out, way, when)
        if code == 0:
            # It was through before its moment came: once more from the start.
            assert outputs(out / "small") == expected
            out, kept = tmp_path / f"out{killed}", [0]
            code = in_a_process(run_and_die, slide, out, "tiles", 3)
        assert code == -signal.SIGKILL
        killed += 1
        (status,) = status_of(out) or [None]
        kept.append(status.tiles or 0 if status is not None else 0)
        assert kept[-1] >= kept[-2]  # nothing that was on disk is lost
        assert problems_of(out / "small") == []
    assert killed == TIMES + TILE_COUNTS + OPERATIONS
    assert in_a_process(run_and_die, slide, out, "never", 0) == 0
    assert outputs(out / "small") == expected
    assert problems_of(out / "small") == []


@pytest.mark.parametrize("back", [0, 10, 24, 27, 31, 34])
def test_killed_while_the_result_is_published(slide, expected, tmp_path, back, request):
    """From the end: tiles are removed, the record is written, files get their names."""
    counting = request.getfixturevalue("operations_in_all")
    assert in_a_process(run_and_die, slide, tmp_path, "operations", counting - 1 - back) < 0
    assert problems_of(tmp_path / "small") == []
    assert in_a_process(run_and_die, slide, tmp_path, "never", 0) == 0
    assert outputs(tmp_path / "small") == expected
    assert problems_of(tmp_path / "small") == []


@pytest.fixture(scope="module")
def operations_in_all(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    folder = tmp_path_factory.mktemp("counted")
    assert in_a_process(run_and_count, slide, folder) == 0
    return int((folder / "count").read_text())


def run_and_count(slide: Path, out: Path) -> None:
    small_parts()
    done = [0]
    for module, name in DURABLE:
        count_calls(module, name, done, 10**9)
    wsi_engine.run(slide, out, **SETTINGS)
    (out / "count").write_text(str(done[0]))


def test_a_slide_that_another_process_is_at_is_left_to_it(slide, expected, tmp_path):
    """The other is stopped in mid-slide, and goes on later as if nothing had been."""
    other = start(run_and_stop, slide, tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "stopped").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(wsi_engine.EngineError, match=rf"process {other.pid} on .*let it finish"):
        wsi_engine.run(slide, tmp_path, **SETTINGS)
    (status,) = status_of(tmp_path)
    assert status.state == "unfinished"
    assert status.running.endswith(f":{other.pid}")
    assert 0 < status.tiles < status.tiles_total == TILES
    (tmp_path / "go on").touch()
    other.join()
    assert other.exitcode == 0
    assert outputs(tmp_path / "small") == expected


def run_and_stop(slide: Path, out: Path) -> None:
    small_parts()

    def observe(progress: wsi_engine.Progress) -> None:
        if progress.tiles == 10:
            (out / "stopped").touch()
            while not (out / "go on").exists():
                time.sleep(0.02)

    wsi_engine.run(slide, out, **SETTINGS, observe=observe)


def test_two_that_start_at_once_make_one_result(slide, expected, tmp_path):
    both = [start(run_or_leave, slide, tmp_path) for _ in range(2)]
    codes = []
    for process in both:
        process.join()
        codes.append(process.exitcode)
    assert sorted(codes) == [0, 7]
    assert outputs(tmp_path / "small") == expected


def run_or_leave(slide: Path, out: Path) -> None:
    try:
        left = wsi_engine.run(slide, out, **SETTINGS).is_earlier
    except BusyError:
        left = True
    sys.exit(7 if left else 0)
