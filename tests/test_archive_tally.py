"""How far an archive is, counted from its events, and what is shown of that."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from wsi_engine.archive import tally as module
from wsi_engine.archive.events import Event
from wsi_engine.archive.tally import Tally
from wsi_engine.cli.archive import ArchiveDisplay

PROGRESS = {"stage": "nuclei", "tiles_total": 10, "nuclei": 100}


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def started(slides=10, done=2, failed=1) -> Event:
    facts = {"slides": slides, "done": done, "failed": failed, "left": slides - done - failed}
    return Event("archive_started", facts=facts)


def progress(slide: str, worker: str, tiles: int) -> Event:
    return Event("slide_progress", slide, worker, PROGRESS | {"tiles": tiles})


def ended(event: str, slide: str, worker: str | None, was_elsewhere=False) -> Event:
    facts = {"was_elsewhere": was_elsewhere, "reason": "it broke", "nuclei": 7, "owner": "x"}
    return Event(event, slide, worker, facts)


def numbers(tally: Tally) -> tuple[int, ...]:
    return tally.done, tally.running, tally.failed, tally.claimed_by_another, tally.left


def test_slides_are_counted_through_everything_that_happens(clock):
    tally = Tally()
    steps = [
        (started(), (2, 0, 1, 0, 7)),
        (Event("worker_joined", worker="w1"), (2, 0, 1, 0, 7)),
        (Event("slide_started", "a", "w1"), (2, 1, 1, 0, 6)),
        (Event("slide_started", "b", "w2"), (2, 2, 1, 0, 5)),
        (ended("slide_done", "a", "w1"), (3, 1, 1, 0, 5)),
        (ended("slide_elsewhere", "c", "w1"), (3, 1, 1, 1, 4)),
        (Event("worker_died", "b", "w2"), (3, 0, 1, 1, 5)),
        (Event("slide_started", "b", "w1"), (3, 1, 1, 1, 4)),
        (ended("slide_failed", "b", "w1"), (3, 0, 2, 1, 4)),
        (ended("slide_done", "c", None, was_elsewhere=True), (4, 0, 2, 0, 4)),
    ]
    for event, expected in steps:
        tally(event)
        assert numbers(tally) == expected, event
    assert tally.workers == {"w1": None}


def test_speed_counts_tiles_that_were_computed_now(clock):
    tally = Tally()
    for event in (started(), Event("slide_started", "a", "w1"), progress("a", "w1", 4)):
        tally(event)
    clock[0] += 2
    tally(progress("a", "w1", 10))
    assert tally.tiles_per_second == 3
    tally(ended("slide_done", "a", "w1"))
    tally(Event("slide_started", "b", "w1"))
    tally(progress("b", "w1", 0))
    clock[0] += 2
    tally(progress("b", "w1", 2))
    assert tally.tiles_per_second == 2


def test_time_to_go_follows_from_the_slides_that_are_through(clock):
    tally = Tally()
    tally(started(slides=7, done=2, failed=1))
    assert tally.eta_s is None
    tally(Event("slide_started", "a", "w1"))
    clock[0] += 30
    tally(ended("slide_done", "a", "w1"))
    assert tally.eta_s == 90
    tally(Event("slide_started", "b", "w1"))
    tally(progress("b", "w1", 0))
    clock[0] += 15
    tally(progress("b", "w1", 5))
    assert tally.eta_s == pytest.approx(75)


def display(terminal: bool) -> tuple[ArchiveDisplay, io.StringIO]:
    text = io.StringIO()
    shown_on = Console(file=text, force_terminal=terminal, width=100)
    return ArchiveDisplay(shown_on), text


def test_a_terminal_has_a_line_for_all_and_one_per_worker(clock):
    shown, text = display(terminal=True)
    with shown:
        shown(started())
        shown(Event("worker_joined", worker="worker 2"))
        shown(Event("slide_started", "a[red]", "worker 1"))
        clock[0] += 1
        shown(progress("a[red]", "worker 1", 4))
        shown(progress("a[red]", "worker 1", 5))
    last = text.getvalue()
    assert "2 done, 1 running, 1 failed, 6 left, 1 tiles/s" in last
    assert "a[red]" in last
    assert "nuclei 5/10 tiles, 100 nuclei" in last
    assert "worker 2" in last


def test_elsewhere_there_is_a_line_per_slide(clock):
    shown, text = display(terminal=False)
    with shown:
        shown(started())
        shown(Event("slide_started", "a\nb", "worker 1"))
        shown(progress("a\nb", "worker 1", 4))
        shown(ended("slide_done", "a", "worker 1"))
        shown(ended("slide_elsewhere", "c", "worker 1"))
        clock[0] += 11
        shown(Event("slide_started", "d", "worker 1"))
        shown(progress("d", "worker 1", 4))
    assert text.getvalue().splitlines() == [
        "4/10 a: 7 nuclei",
        "c: is being done on x",
        "3 done, 1 running, 1 failed, 4 left, 1 elsewhere, 0:00:36 to go",
    ]
