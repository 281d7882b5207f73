"""The pipeline: scan order, fixed batches, bounded memory, no error and no thread left behind."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch

from wsi_engine.errors import DeviceError, TileError
from wsi_engine.schedule.clock import StageClock
from wsi_engine.schedule.inference import FittingInference
from wsi_engine.schedule.pipeline import stream
from wsi_engine.schedule.tiles import TileGrid
from wsi_engine.slide.frames import ModelBox

pytestmark = pytest.mark.timeout(60)  # a deadlock fails here, and not after a quarter of an hour

SIDE = 4
WHITE = 255
TILES = tuple(TileGrid(ModelBox(0, 0, 10 * SIDE, 3 * SIDE), SIDE, 0).tiles())
assert len(TILES) == 30


def read(tile):
    """An image that says which tile it is."""
    return np.full((SIDE, SIDE, 3), tile.index, np.uint8)


def infer(batch):
    return batch[..., 0].astype(np.int32) * 10


def decode(tile, pixels, maps):
    assert maps.shape == (SIDE, SIDE)
    assert (pixels == tile.index).all()
    return tile.index, int(maps[0, 0])


EXPECTED = [(tile, (tile.index, tile.index * 10)) for tile in TILES]


def run(tiles=TILES, read=read, infer=(infer,), decode=decode, *, batch_size=2, workers=2):
    return stream(
        tiles, read, list(infer), decode, batch_size=batch_size, workers=workers, clock=StageClock()
    )


def stage_threads():
    stages = ("read_", "infer_", "decode_")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(stages)]


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_stream():
    assert stage_threads() == []
    yield
    assert stage_threads() == []


def now_and_then_slow(function, seed):
    """Let calls overtake each other."""
    pauses = np.random.default_rng(seed).choice([0, 0, 0.001, 0.004], 1000).tolist()
    turn = itertools.count()

    def slow(*arguments):
        time.sleep(pauses[next(turn)])
        return function(*arguments)

    return slow


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_results_are_the_same_and_in_order_whatever_is_slow(workers, batch_size, devices):
    results = run(
        read=now_and_then_slow(read, 1),
        infer=[now_and_then_slow(infer, 2 + k) for k in range(devices)],
        decode=now_and_then_slow(decode, 9),
        batch_size=batch_size,
        workers=workers,
    )
    assert list(results) == EXPECTED


@pytest.mark.parametrize("batch_size", [1, 3, 8, 30, 64])
def test_the_device_always_gets_the_same_shape_of_consecutive_tiles(batch_size):
    batches = []

    def recording(batch):
        batches.append(batch[:, 0, 0, 0].tolist())
        assert batch.shape == (batch_size, SIDE, SIDE, 3)
        assert batch.dtype == np.uint8
        return infer(batch)

    assert list(run(infer=[recording], batch_size=batch_size)) == EXPECTED
    flat = list(itertools.chain.from_iterable(batches))
    padding = -len(TILES) % batch_size
    assert flat == [tile.index for tile in TILES] + padding * [WHITE]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_tiles_than_a_batch_do_not_block(count):
    assert list(run(TILES[:count], batch_size=16, workers=3)) == EXPECTED[:count]


@pytest.mark.parametrize(("batch_size", "workers", "devices"), [(1, 1, 1), (1, 4, 2), (8, 2, 1)])
def test_tiles_under_way_are_bounded_when_results_are_taken_slowly(batch_size, workers, devices):
    """One batch per device, one on its way to it, and two tiles per worker, in whole batches."""
    bound = (devices + 1) * batch_size + 2 * workers + batch_size
    started = []
    tiles = (TILES[0] for _ in range(400))

    def counting(tile):
        started.append(tile)
        return read(tile)

    most = 0
    for taken, _ in enumerate(
        run(tiles, read=counting, infer=[infer] * devices, batch_size=batch_size, workers=workers)
    ):
        if taken < 40:
            time.sleep(0.002)
        most = max(most, len(started) - taken)
    assert len(started) == 400
    assert batch_size < most <= bound


def test_tiles_are_taken_lazily():
    endless = itertools.cycle(TILES)
    results = run(endless, batch_size=4)
    assert [next(results) for _ in range(45)] == (EXPECTED * 2)[:45]
    results.close()
    assert stage_threads() == []


def test_the_first_batches_start_before_a_result_is_asked_for():
    """While an earlier run's tiles are read from disk, the device is at work."""
    started, limit = [], 3 * 2 + 2 * 2
    results = run(itertools.cycle(TILES), read=lambda tile: started.append(tile) or read(tile))
    deadline = time.monotonic() + 10
    while len(started) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(started) <= limit
    results.close()
    assert stage_threads() == []


def failing(function, at, error):
    calls = itertools.count()

    def sometimes(*arguments):
        if next(calls) == at:
            raise error
        return function(*arguments)

    return sometimes


class BrokenTileError(Exception):
    pass


STAGES = {"read": read, "infer": infer, "decode": decode}


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("at", [0, 5])
@pytest.mark.parametrize("stage", STAGES)
def test_an_error_in_a_stage_is_raised_at_the_caller_and_the_threads_end(stage, at, batch_size):
    broken = failing(STAGES[stage], at, BrokenTileError(f"{stage} {at}"))
    arguments = {stage: [broken] if stage == "infer" else broken}
    taken = []
    with pytest.raises(TileError, match=rf" at tiles? \d.*BrokenTileError: {stage} {at}"):
        taken.extend(run(batch_size=batch_size, **arguments))
    assert stage_threads() == []
    assert taken == EXPECTED[: len(taken)]


def test_results_before_the_broken_tile_still_come():
    def broken_at_seven(tile, pixels, maps):
        if tile.index == 7:
            raise BrokenTileError
        return decode(tile, pixels, maps)

    results = run(decode=broken_at_seven, batch_size=4, workers=4)
    assert [next(results) for _ in range(7)] == EXPECTED[:7]
    with pytest.raises(TileError, match="decoding failed at tile 7 "):
        next(results)


def test_an_error_that_explains_itself_is_passed_on_as_it_is():
    def out_of_memory(batch):
        raise DeviceError("too small")

    with pytest.raises(DeviceError, match="too small"):
        list(run(infer=[out_of_memory]))


def test_an_error_of_the_tile_supply_is_raised_and_the_threads_end():
    def supply():
        yield from TILES[:20]
        raise BrokenTileError

    with pytest.raises(BrokenTileError):
        list(run(supply()))
    assert stage_threads() == []


def test_a_model_that_loses_a_tile_is_an_error_and_not_a_gap():
    with pytest.raises(ValueError, match="shorter"):
        list(run(infer=[lambda batch: infer(batch)[:-1]], batch_size=3))


@pytest.mark.parametrize("way", ["close", "forget", "raise"])
def test_abandoning_the_results_ends_the_threads(way):
    started = []

    def slow(tile):
        started.append(tile)
        time.sleep(0.003)
        return read(tile)

    results = run(itertools.cycle(TILES), read=slow, batch_size=4)
    next(results)
    assert stage_threads()
    if way == "close":
        results.close()
    elif way == "forget":
        del results
        gc.collect()
    else:
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt())
    assert stage_threads() == []
    so_far = len(started)
    time.sleep(0.02)
    assert len(started) == so_far


def test_devices_work_at_the_same_time_each_on_one_batch_at_a_time():
    meeting = threading.Barrier(2)
    busy = [threading.Lock(), threading.Lock()]
    calls = Counter()

    def device(number):
        def run_batch(batch):
            assert busy[number].acquire(blocking=False), "two batches on one device"
            try:
                calls[number] += 1
                meeting.wait(timeout=10)  # breaks unless both devices are in here
                return infer(batch)
            finally:
                busy[number].release()

        return run_batch

    assert list(run(infer=[device(0), device(1)], batch_size=3)) == EXPECTED
    assert calls == {0: 5, 1: 5}


@pytest.mark.parametrize("stage", ["read", "decode"])
def test_workers_read_and_decode_at_the_same_time(stage):
    meeting = threading.Barrier(3)

    def together(*arguments):
        meeting.wait(timeout=10)
        return STAGES[stage](*arguments)

    assert list(run(batch_size=3, workers=3, **{stage: together})) == EXPECTED


def test_decoding_hides_behind_the_device():
    """The next batch is on the device while the last one is decoded."""
    next_batch_started = threading.Event()

    def device(batch):
        if batch[0, 0, 0, 0] >= 2:
            next_batch_started.set()
        return infer(batch)

    def patient(tile, pixels, maps):
        assert next_batch_started.wait(timeout=10)
        return decode(tile, pixels, maps)

    assert list(run(infer=[device], decode=patient, workers=1)) == EXPECTED


def test_the_clock_sees_every_stage():
    clock = StageClock()
    slow = {
        name: lambda *a, f=function: (time.sleep(0.001), f(*a))[1]
        for name, function in STAGES.items()
    }
    list(
        stream(
            TILES,
            slow["read"],
            [slow["infer"]],
            slow["decode"],
            batch_size=3,
            workers=2,
            clock=clock,
        )
    )
    assert clock.wall("read") >= 0.030
    assert clock.wall("infer") >= 0.010
    assert clock.wall("decode") >= 0.030
    assert 0.010 <= clock.model_occupied <= clock.wall("infer") + clock.wall("decode")


# What fits the device


class SmallDevice:
    """A device that holds ``room`` tiles, and says so in the way of ``error``."""

    def __init__(self, room, error):
        self.room, self.error, self.sizes = room, error, []

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise self.error
        return infer(batch)


def batch_of(count):
    return np.stack([read(tile) for tile in TILES[:count]])


OUT_OF_MEMORY = {
    "cuda": torch.cuda.OutOfMemoryError("no room"),
    "host": MemoryError(),
    "message": RuntimeError("CUDA error: out of memory"),
    "torch on the host": RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 8 GB"),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
@pytest.mark.parametrize(
    ("size", "room", "first", "second"),
    [
        (8, 8, [8], [8]),
        (8, 5, [8, 4, 4], [4, 4]),
        (8, 1, [8, 4, 2] + 8 * [1], 8 * [1]),
        (7, 3, [7, 3, 3, 1], [3, 3, 1]),
        (1, 1, [1], [1]),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_the_size_remembered(
    size, room, first, second, error
):
    device = SmallDevice(room, error)
    fitting = FittingInference(device)
    for sizes in (first, second):
        device.sizes = []
        np.testing.assert_array_equal(fitting(batch_of(size)), infer(batch_of(size)))
        assert device.sizes == sizes


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_a_single_tile_that_does_not_fit_is_an_error_that_says_what_to_do(error):
    device = SmallDevice(0, error)
    with pytest.raises(DeviceError, match=r"one tile of 4 x 4 px .* smaller --tile-size") as caught:
        FittingInference(device)(batch_of(4))
    assert device.sizes == [4, 2, 1]
    assert caught.value.__context__ is None  # it keeps no tensor of the failed call alive


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("odd")])
def test_other_errors_pass_at_once(error):
    device = SmallDevice(0, error)
    with pytest.raises(type(error), match=str(error)):
        FittingInference(device)(batch_of(4))
    assert device.sizes == [4]


def test_a_small_device_changes_nothing_but_the_batches():
    device = SmallDevice(2, MemoryError())
    assert list(run(infer=[FittingInference(device)], batch_size=8)) == EXPECTED
    assert device.sizes[:2] == [8, 4]
    assert set(device.sizes[2:]) == {2}
