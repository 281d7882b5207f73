"""A slide split over processes: the same bytes, whoever computes which block, whoever dies."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsi_engine
import wsi_engine.models.compiling
from tests.support.slides import overwrite_place, overwrite_tile
from wsi_engine.archive.splitting import split_options
from wsi_engine.engine.workers import blocks, computing
from wsi_engine.engine.workers import local as local_workers
from wsi_engine.engine.workers.blocks import BLOCKS_UNDER_WAY_PER_JOB, block_size
from wsi_engine.engine.workers.computing import MEGAPIXELS_PER_JOB, jobs_that_pay
from wsi_engine.engine.workers.worker import WorkerJob, arithmetic_of_worker
from wsi_engine.errors import ClusterError, DeviceError, EngineError, SettingsError, WorkerError
from wsi_engine.models.devices import arithmetic_of
from wsi_engine.models.watershed import Watershed
from wsi_engine.sample import SampleTruth

MODELS = ("watershed", "starconvex")
TILES = {"tile_size": 256, "device": "cpu", "regions": False, "report": False}
FAST = TILES | {"model": "watershed"}
FILES = ["columns.json", "nuclei.geojson.gz", "nuclei.parquet", "tissue.geojson"]

Outputs = dict[str, bytes]


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def thread() -> Iterator[Executor]:
    """A worker in this process: enough where only what is said to it counts."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def expected(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outputs]:
    """What one process writes, by model."""
    folder = tmp_path_factory.mktemp("expected")
    return {
        model: outputs(wsi_engine.run(sample.slide_path, folder / model, model=model, **TILES))
        for model in MODELS
    }


def outputs(result: wsi_engine.Result) -> Outputs:
    assert result.folder is not None
    files = {path.name: path.read_bytes() for path in result.folder.iterdir()}
    del files["run.json"]
    assert sorted(files) == FILES
    return files


def in_blocks_of(tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "block_size", lambda *_: tiles)


def at_tile(number: int, do: Callable[[], None]) -> Callable[[wsi_engine.Progress], None]:
    """Return an observer that does something once so many tiles have arrived."""
    once = iter([do])

    def observe(progress: wsi_engine.Progress) -> None:
        if progress.stage == "nuclei" and progress.tiles >= number:
            for action in once:
                action()

    return observe


def interrupt() -> None:
    raise KeyboardInterrupt


def spawned() -> list[psutil.Process]:
    """The worker processes of this one, the youngest first."""
    children = psutil.Process().children()
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return sorted(workers, key=lambda worker: -worker.create_time())


def kill_a_worker() -> None:
    """Kill a process as the system does that is out of memory."""
    spawned()[0].kill()


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("model", MODELS)
def test_two_processes_write_the_bytes_of_one(
    sample: SampleTruth,
    expected: dict[str, Outputs],
    pool: Executor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    size: int,
):
    in_blocks_of(size, monkeypatch)
    result = wsi_engine.run(
        sample.slide_path, tmp_path, model=model, **TILES, jobs=2, executor=pool
    )
    assert outputs(result) == expected[model]
    record = result.record
    tiles = [worker.tiles for worker in record.workers]
    assert sum(tiles) == record.tiles.count
    assert len(tiles) == (1 if size == 1000 else 2)
    assert all(record.stages[stage].wall_s > 0 for stage in ("read", "infer", "decode"))
    assert 0 < record.tiles.model_busy <= 1


def test_a_run_goes_on_in_blocks_and_a_run_in_blocks_goes_on(
    sample: SampleTruth,
    expected: dict[str, Outputs],
    pool: Executor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("wsi_engine.store.tile_store.MOST_TILES_IN_PART", 3)
    in_blocks_of(2, monkeypatch)

    def run(**options: Any) -> wsi_engine.Result:
        return wsi_engine.run(sample.slide_path, tmp_path, **FAST, **options)

    with pytest.raises(KeyboardInterrupt):
        run(observe=at_tile(5, interrupt))
    with pytest.raises(KeyboardInterrupt):
        run(observe=at_tile(12, interrupt), jobs=2, executor=pool)
    result = run()
    assert result.record.tiles.resumed >= 9
    assert outputs(result) == expected["watershed"]


def test_what_workers_could_not_read_is_reported_as_by_one_process(
    sample: SampleTruth, pool: Executor, tmp_path: Path
):
    slide = tmp_path / "damaged.tif"
    shutil.copy(sample.slide_path, slide)
    x, y = (sample.field.x_min + sample.field.x_max, sample.field.y_min + sample.field.y_max)
    overwrite_place(slide, 1, int(x / 4 / 256), int(y / 4 / 256))  # the centre
    alone = wsi_engine.run(slide, tmp_path / "alone", **FAST)
    split = wsi_engine.run(slide, tmp_path / "split", **FAST, jobs=2, executor=pool)
    assert not split.is_complete
    assert split.record.unreadable == alone.record.unreadable
    assert outputs(split) == outputs(alone)


class Elsewhere(ThreadPoolExecutor):
    """A worker on a machine where something is different."""

    def __init__(self, **different: Any) -> None:
        super().__init__(1)
        self._different = different

    def submit(self, function: Any, share: Any, *arguments: Any) -> Future[Any]:  # type: ignore[override]
        if not isinstance(share, WorkerJob):
            return super().submit(function, share, *arguments)
        changed = {name: change(getattr(share, name)) for name, change in self._different.items()}
        return super().submit(function, replace(share, **changed), *arguments)


@pytest.fixture(scope="module")
def other_slide(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    slide = tmp_path_factory.mktemp("other") / "sample.tif"
    shutil.copy(sample.slide_path, slide)
    overwrite_tile(slide, 0, 0, 0)
    return slide


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        (
            "basis",
            lambda basis: basis | {"versions": {"torch": "1.0"}},
            r"versions\.torch: 1\.0 -> 2",
        ),
        ("basis", lambda basis: basis | {"weights": "abc"}, "weights: abc -> none"),
        (
            "settings",
            lambda settings: settings.model_copy(update={"tile_size": 512}),
            "tile_size: 256 -> 512",
        ),
        ("slide", lambda slide: slide.with_name("absent.tif"), r"absent\.tif: no such file"),
    ],
)
def test_a_worker_that_is_not_like_the_others_is_refused(
    sample: SampleTruth, tmp_path: Path, name: str, change: Any, sentence: str
):
    refused = pytest.raises(WorkerError, match=rf"worker on \S+: .*{sentence}")
    with Elsewhere(**{name: change}) as executor, refused:
        wsi_engine.run(sample.slide_path, tmp_path, **FAST, executor=executor)


def test_a_worker_that_has_another_slide_of_that_name_is_refused(
    sample: SampleTruth, other_slide: Path, tmp_path: Path
):
    refused = pytest.raises(WorkerError, match=r"\(slide: \w+\.\.\. -> \w+\.\.\.\)")
    with Elsewhere(slide=lambda _: other_slide) as executor, refused:
        wsi_engine.run(sample.slide_path, tmp_path, **FAST, executor=executor)


def test_workers_on_unlike_devices_are_refused(
    sample: SampleTruth, thread: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    in_blocks_of(4, monkeypatch)
    names = itertools.chain([["cpu bfloat16"]], itertools.repeat(["cpu float32"]))
    monkeypatch.setattr("wsi_engine.engine.workers.worker.arithmetic_of", lambda _: next(names))
    with pytest.raises(WorkerError, match=r"worker on \S+: .*cpu bfloat16 -> cpu float32"):
        wsi_engine.run(sample.slide_path, tmp_path, **FAST, executor=thread)


def test_tiles_rest_on_the_machines_that_compute_them(
    sample: SampleTruth, thread: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The process that writes may have no GPU, where its workers have some."""
    monkeypatch.setattr("wsi_engine.engine.workers.worker.arithmetic_of", lambda _: ["H200"])
    result = wsi_engine.run(sample.slide_path, tmp_path / "away", **FAST, executor=thread)
    assert result.record.basis["arithmetic"] == ["H200"]
    result = wsi_engine.run(sample.slide_path, tmp_path / "here", **FAST)
    assert result.record.basis["arithmetic"] == arithmetic_of(["cpu"])


def test_a_run_that_workers_of_another_kind_began_is_refused(
    sample: SampleTruth, thread: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(KeyboardInterrupt):
        wsi_engine.run(sample.slide_path, tmp_path, **FAST, observe=at_tile(5, interrupt))
    monkeypatch.setattr("wsi_engine.engine.workers.worker.arithmetic_of", lambda _: ["H200"])
    with pytest.raises(SettingsError, match=r"unfinished run with arithmetic: cpu .* -> H200: "):
        wsi_engine.run(sample.slide_path, tmp_path, **FAST, executor=thread)


def test_an_error_of_a_worker_arrives_as_itself(
    sample: SampleTruth, thread: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def too_small(*_: Any) -> None:
        raise DeviceError("one tile does not fit the device")

    monkeypatch.setattr(Watershed, "maps", too_small)
    with pytest.raises(DeviceError, match=r"^one tile does not fit the device$"):
        wsi_engine.run(sample.slide_path, tmp_path, **FAST, executor=thread)


def test_what_nobody_foresaw_in_a_worker_becomes_a_sentence(
    sample: SampleTruth, thread: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("what a library says\nand its second line")

    monkeypatch.setattr("wsi_engine.engine.workers.worker.pack_tiles", fails)
    with pytest.raises(WorkerError, match="ZeroDivisionError: what a library says") as caught:
        wsi_engine.run(sample.slide_path, tmp_path, **FAST, executor=thread)
    assert "\n" not in str(caught.value)


def all_errors(base: type[EngineError] = EngineError) -> list[type[EngineError]]:
    return [base, *(error for sub in base.__subclasses__() for error in all_errors(sub))]


@pytest.mark.parametrize("error", all_errors())
def test_every_error_can_travel(error: type[EngineError]):
    arrived = pickle.loads(pickle.dumps(error("what is wrong, and where")))
    assert (type(arrived), str(arrived)) == (error, "what is wrong, and where")


def test_a_worker_that_is_killed_ends_the_run_and_loses_nothing(
    sample: SampleTruth,
    expected: dict[str, Outputs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(computing, "MEGAPIXELS_PER_JOB", 0.1)
    monkeypatch.setattr("wsi_engine.store.tile_store.MOST_TILES_IN_PART", 1)
    in_blocks_of(1, monkeypatch)
    with pytest.raises(WorkerError, match="a worker process died"):
        wsi_engine.run(
            sample.slide_path, tmp_path, **FAST, jobs=2, observe=at_tile(4, kill_a_worker)
        )
    result = wsi_engine.run(sample.slide_path, tmp_path, **FAST)
    assert result.record.tiles.resumed >= 4
    assert outputs(result) == expected["watershed"]


def test_processes_of_this_machine_end_at_once_when_the_run_is_interrupted(
    sample: SampleTruth,
    expected: dict[str, Outputs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(computing, "MEGAPIXELS_PER_JOB", 0.1)
    in_blocks_of(6, monkeypatch)
    before = spawned()
    with pytest.raises(KeyboardInterrupt):
        wsi_engine.run(sample.slide_path, tmp_path, **FAST, jobs=2, observe=at_tile(1, interrupt))
    assert spawned() == before
    result = wsi_engine.run(sample.slide_path, tmp_path, **FAST)
    assert outputs(result) == expected["watershed"]


ORPHAN = """
import os, time
from wsi_engine.engine.workers.local import local_workers

if __name__ == "__main__":
    with local_workers(1) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN, encoding="utf-8")
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    worker.wait(timeout=10)


def test_a_dask_worker_that_is_killed_in_mid_slide_costs_nothing_but_time(
    sample: SampleTruth,
    expected: dict[str, Outputs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    import dask
    from distributed import Client, LocalCluster

    in_blocks_of(1, monkeypatch)
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        pids = list(client.run(os.getpid).values())

        def kill() -> None:
            os.kill(pids[0], signal.SIGKILL)

        with split_options(1, cluster.scheduler_address) as split:
            assert split["jobs"] == 2
            result = wsi_engine.run(
                sample.slide_path, tmp_path, **FAST, observe=at_tile(4, kill), **split
            )
    assert outputs(result) == expected["watershed"]
    assert sum(worker.tiles for worker in result.record.workers) == 12


class Counting(ThreadPoolExecutor):
    """Keeps every future that it gave."""

    def __init__(self) -> None:
        super().__init__(1)
        self.futures: list[Future[Any]] = []

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:  # type: ignore[override]
        future = super().submit(function, *arguments)
        if function is not arithmetic_of_worker:
            self.futures.append(future)
        return future


def test_only_some_blocks_are_under_way_and_none_is_left_behind(
    sample: SampleTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    in_blocks_of(1, monkeypatch)
    jobs = 3
    most = 0

    def observe(progress: wsi_engine.Progress) -> None:
        nonlocal most
        if progress.stage == "nuclei":
            most = max(most, len(executor.futures) - progress.tiles)
            if progress.tiles == 4:
                raise KeyboardInterrupt

    with Counting() as executor:
        with pytest.raises(KeyboardInterrupt):
            wsi_engine.run(
                sample.slide_path, tmp_path, **FAST, observe=observe, jobs=jobs, executor=executor
            )
        assert most == BLOCKS_UNDER_WAY_PER_JOB * jobs
        time.sleep(0.1)
        assert sum(future.cancelled() for future in executor.futures) >= most - 3


@given(tiles=st.integers(0, 100_000), batch_size=st.integers(1, 64), jobs=st.integers(1, 200))
def test_blocks_are_whole_batches_and_enough_for_all(tiles: int, batch_size: int, jobs: int):
    size = block_size(tiles, batch_size, jobs)
    assert size > 0
    assert size % batch_size == 0
    assert size <= blocks.MOST_BATCHES_IN_BLOCK * batch_size
    if size > batch_size:
        assert (size - batch_size) * blocks.FEWEST_BLOCKS_PER_JOB * jobs < tiles


def test_small_slides_are_not_split_unasked(sample: SampleTruth, tmp_path: Path):
    result = wsi_engine.run(sample.slide_path, tmp_path, **FAST, jobs=2)
    assert result.record.workers == ()
    assert jobs_that_pay(1, 1000) == 0
    assert jobs_that_pay(3 * MEGAPIXELS_PER_JOB, 1000) == 3


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wsi_engine.engine.workers.dask.PATIENCE_S", 1)
    for address in ("tcp://127.0.0.1:1", "nonsense://"):
        with (
            pytest.raises(ClusterError, match=f"^no Dask scheduler answers at {address}"),
            split_options(2, address),
        ):
            pass


def test_no_jobs_are_refused(sample: SampleTruth, tmp_path: Path):
    with pytest.raises(SettingsError, match="jobs = 0"):
        wsi_engine.run(sample.slide_path, tmp_path, jobs=0)


@pytest.mark.parametrize(
    ("devices", "workers", "shares"),
    [
        (1, 1, [[0]]),
        (1, 3, [[0], [0], [0]]),
        (2, 1, [[0, 1]]),
        (2, 2, [[0], [1]]),
        (2, 3, [[0], [1], [0]]),
        (4, 2, [[0, 2], [1, 3]]),
    ],
)
def test_how_workers_share_gpus(
    monkeypatch: pytest.MonkeyPatch, devices: int, workers: int, shares: list[list[int]]
):
    monkeypatch.setattr(local_workers, "_count", workers)
    all_devices = [f"cuda:{k}" for k in range(devices)]
    for number, share in enumerate(shares):
        monkeypatch.setattr(local_workers, "_number", number)
        mine = local_workers.devices_of_worker(all_devices)
        assert [int(device.removeprefix("cuda:")) for device in mine] == share
