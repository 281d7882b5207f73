"""The clock: exclusive time by stage, waiting in an iterator, the union over model stages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from wsi_engine.schedule import clock as clock_module
from wsi_engine.schedule.clock import StageClock


class FakeTime:
    """Seconds that pass only when a test says so; the processor works half of them."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.now / 2

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch):
    fake = FakeTime()
    monkeypatch.setattr(clock_module, "time", fake)
    return fake


@pytest.fixture
def clock(time):
    return StageClock()


def wall(clock):
    return {stage: seconds["wall_s"] for stage, seconds in clock.report().items()}


def test_time_between_stages_counts_for_none(clock, time):
    with clock.measure("read"):
        time.passes(1)
    time.passes(10)
    with clock.measure("read"):
        time.passes(2)
    assert wall(clock) == {"read": 3}
    assert clock.wall("read") == 3


def test_an_inner_stage_is_not_counted_for_the_outer(clock, time):
    with clock.measure("store"):
        time.passes(1)
        with clock.measure("wait"):
            time.passes(2)
            with clock.measure("infer"):
                time.passes(4)
            time.passes(8)
        time.passes(16)
    assert wall(clock) == {"store": 17, "wait": 10, "infer": 4}


def test_a_stage_within_itself_is_counted_once(clock, time):
    with clock.measure("seams"):
        time.passes(1)
        with clock.measure("seams"):
            time.passes(1)
    assert wall(clock) == {"seams": 2}


def test_an_error_ends_the_stage(clock, time):
    def broken():
        with clock.measure("read"):
            time.passes(1)
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    time.passes(5)
    assert wall(clock) == {"read": 1}


def test_processor_seconds_are_kept_beside_wall_seconds(clock, time):
    with clock.measure("decode"):
        time.passes(3)
    assert clock.report() == {"decode": {"wall_s": 3, "cpu_s": 1.5}}


def test_a_timed_iterator_counts_the_wait_for_items_and_not_their_use(clock, time):
    def slow():
        for item in "abc":
            time.passes(2)
            yield item
        time.passes(1)  # the end takes time, too

    taken = []
    for item in clock.timed("wait", slow()):
        time.passes(100)
        taken.append(item)
    assert taken == ["a", "b", "c"]
    assert wall(clock) == {"wait": 7}


def test_timed_iterators_nest_exclusively(clock, time):
    def inner():
        time.passes(2)
        yield 1

    def outer(items):
        for item in items:
            time.passes(3)
            yield item

    assert list(clock.timed("seams", outer(clock.timed("wait", inner())))) == [1]
    assert wall(clock) == {"seams": 3, "wait": 2}


def test_an_error_of_the_iterator_passes_through(clock):
    def broken():
        yield 1
        raise OSError("disk")

    items = clock.timed("read", broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk"):
        next(items)


@pytest.fixture
def stage(clock):
    """Enter a stage on a thread of its own, and leave it there."""
    with ExitStack() as stack:

        class OnThread:
            def __init__(self, name):
                self._thread = stack.enter_context(ThreadPoolExecutor(1))
                self._context = clock.measure(name)

            def enter(self):
                self._thread.submit(self._context.__enter__).result()
                return self

            def leave(self):
                self._thread.submit(self._context.__exit__, None, None, None).result()

        yield OnThread


def test_threads_add_up_but_the_model_is_occupied_only_once_at_a_time(clock, time, stage):
    infer = stage("infer").enter()
    time.passes(1)
    decode = stage("decode").enter()
    time.passes(2)
    infer.leave()
    time.passes(4)
    decode.leave()
    time.passes(100)
    with clock.measure("decode"):
        time.passes(8)
    assert wall(clock) == {"infer": 3, "decode": 14}
    assert clock.model_occupied == 1 + 2 + 4 + 8


def test_other_stages_do_not_occupy_the_model(clock, time, stage):
    read = stage("read").enter()
    time.passes(5)
    infer = stage("infer").enter()
    time.passes(1)
    infer.leave()
    time.passes(5)
    read.leave()
    assert clock.model_occupied == 1
    assert clock.wall("read") == 11


def test_model_occupied_can_be_read_while_the_model_runs(clock, time):
    with clock.measure("infer"):
        time.passes(3)
        assert clock.model_occupied == 3
        time.passes(1)
    time.passes(9)
    assert clock.model_occupied == 4


def test_times_of_another_clock_are_added_and_its_model_for_a_share(clock, time):
    other = StageClock()
    with clock.measure("read"):
        time.passes(1)
    with other.measure("read"):
        time.passes(2)
    with other.measure("infer"):
        time.passes(4)
    clock.add(other.times(), model_share=0.5)
    assert wall(clock) == {"read": 3, "infer": 4}
    assert clock.report()["infer"]["cpu_s"] == 2
    assert clock.model_occupied == 2
