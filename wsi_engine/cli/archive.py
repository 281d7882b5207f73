"""The progress of many slides, live or as lines, and what became of them."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wsi_engine.archive.summary import DATABASE, TABLE
from wsi_engine.archive.tally import Tally, UnderWay
from wsi_engine.cli import console
from wsi_engine.closing import Closing
from wsi_engine.results.layout import RECORD

if TYPE_CHECKING:
    from wsi_engine.archive.events import Event
    from wsi_engine.archive.forecast import Forecast
    from wsi_engine.archive.run import ArchiveSummary

MOST_ROWS = 20
"""Slides that are named one by one; of more, only numbers are shown."""

SECONDS_BETWEEN_LINES = 10.0


class ArchiveDisplay(Closing):
    """Shows how far an archive is; a listener, and a context.

    On a terminal, a bar for all slides and a line per worker; elsewhere, a line per slide, and
    one for all now and then.
    """

    def __init__(self, shown_on: Console = console.err) -> None:
        self._console = shown_on
        self._tally = Tally()
        self._printed_at = time.monotonic()
        self._said: set[str] = set()
        self._live = (
            Live(get_renderable=self._render, console=shown_on, refresh_per_second=4)
            if shown_on.is_terminal and not shown_on.quiet
            else None
        )
        if self._live is not None:
            self._live.start()

    def __call__(self, event: Event) -> None:
        """Take in an event, and print what cannot wait."""
        self._tally(event)
        name, facts = event.slide, event.facts
        if event.event == "slide_warning":
            console.print_warning(f"{name}: {facts['text']}")
        elif event.event == "slide_note":
            # Several workers may say the same.
            if facts["text"] not in self._said:
                console.print_note(facts["text"])
            self._said.add(facts["text"])
        elif event.event == "slide_failed":
            console.print_error(f"{name}: {facts['reason']}")
        elif event.event == "worker_died":
            after = "it is tried once more" if facts["tried_again"] else "it is given up"
            console.print_warning(f"{name}: the worker process died; {after}")
        elif self._live is None:
            self._print(event)

    def close(self) -> None:
        """Leave the display as it is."""
        if self._live is not None:
            self._live.stop()

    def _print(self, event: Event) -> None:
        tally, name, facts = self._tally, event.slide, event.facts
        if event.event == "slide_done":
            ended = tally.done + tally.failed
            self._line(f"{ended}/{tally.slides} {name}: {facts['nuclei']:,} nuclei")
        elif event.event == "slide_elsewhere":
            self._line(f"{name}: is being done on {facts['owner'] or 'another machine'}")
        elif (
            event.event == "slide_progress"
            and time.monotonic() - self._printed_at > SECONDS_BETWEEN_LINES
        ):
            self._line(_numbers(tally))

    def _line(self, text: str) -> None:
        self._printed_at = time.monotonic()
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _render(self) -> Group:
        tally = self._tally
        workers = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for label, slide in sorted(tally.workers.items()):
            workers.add_row(f"[dim]{escape(label)}", *_cells(slide))
        ended = tally.done + tally.failed
        bar = ProgressBar(total=max(tally.slides, 1), completed=ended)
        return Group(Text(_numbers(tally)), workers, bar)


def print_summary(summary: ArchiveSummary) -> None:
    """Print what became of the slides; the last lines say what is not done, and why."""
    table = Table("slide", "nuclei", "seconds", box=None, padding=(0, 2, 0, 0))
    for outcome in summary.done:
        table.add_row(escape(outcome.name), f"{outcome.nuclei:,}", f"{outcome.seconds:.1f}")
    if 0 < len(summary.done) <= MOST_ROWS:
        console.out.print(table, soft_wrap=True)
    done, earlier = len(summary.done), len(summary.done) - summary.computed
    nuclei = sum(outcome.nuclei for outcome in summary.done)
    text = f"{_slides(done)}, {nuclei:,} nuclei"
    if earlier:
        text += f" ({earlier} {'was' if earlier == 1 else 'were'} done already)"
    facts = {"done": text, "table": summary.output / TABLE, "database": summary.output / DATABASE}
    console.print_facts(facts)
    for outcome in summary.damaged[:MOST_ROWS]:
        console.print_warning(
            f"{outcome.name}: {outcome.damaged} damaged region(s) could not be read and were left "
            f"out; {RECORD} lists them"
        )
    warned = sum(outcome.warnings > 0 for outcome in summary.done)
    if warned:
        console.print_warning(f"{_slides(warned)} with warnings: {RECORD} of each has them")
    if summary.claimed_by_another:
        others = len(summary.claimed_by_another)
        are = "is" if others == 1 else "are"
        console.print_warning(
            f"{_slides(others)} {are} being done elsewhere: give the same command "
            "again, or --wait, to see how they end"
        )
    if summary.failed:
        earlier = len(summary.failed) - sum(outcome.computed for outcome in summary.failed)
        skipped = f", {earlier} of them earlier: --retry-failed tries them again" if earlier else ""
        console.print_warning(
            f"{_slides(len(summary.failed))} failed{skipped}; the reasons are in "
            f"{summary.output / TABLE}"
        )


def print_forecast(forecast: Forecast) -> None:
    """Print what a run would do: the first slides one by one, then all in numbers."""
    todo, done, failed = (forecast.those(state) for state in ("to do", "done", "failed"))
    table = Table("slide", "mm²", "of tissue", "time", box=None, padding=(0, 2, 0, 0))
    for slide in todo[:MOST_ROWS]:
        areas = (_area(slide.slide_mm2), _area(slide.tissue_mm2))
        table.add_row(escape(slide.slide), *areas, _duration(slide.seconds))
    if todo:
        console.out.print(table, soft_wrap=True)
    if len(todo) > MOST_ROWS:
        console.out.print(f"and {_slides(len(todo) - MOST_ROWS)} more", highlight=False)
    most = "at most " if forecast.is_bounded else ""
    facts = {"to do": _slides(len(todo))}
    if todo:
        slide_mm2 = sum(slide.slide_mm2 or 0.0 for slide in todo)
        tissues = [slide.tissue_mm2 for slide in todo if slide.tissue_mm2 is not None]
        facts["to do"] += f", {slide_mm2:,.1f} mm², {most}{sum(tissues):,.1f} mm² of tissue"
        if len(tissues) < len(todo):
            facts["to do"] += f" without that of {_slides(len(todo) - len(tissues))}"
        facts["time"] = f"{most}{_duration(forecast.seconds)}"
        facts["estimated by"] = forecast.basis
    facts["done already"] = _slides(len(done))
    if failed:
        facts["failed earlier"] = f"{_slides(len(failed))}, left alone without --retry-failed"
    if elsewhere := forecast.those("elsewhere"):
        facts["at another run"] = _slides(len(elsewhere))
    console.print_facts(facts)
    bad = forecast.those("cannot be done")
    for slide in bad[:MOST_ROWS]:
        console.print_warning(str(slide.reason))
    if len(bad) > MOST_ROWS:
        console.print_warning(f"{_slides(len(bad) - MOST_ROWS)} more cannot be done")


def _area(mm2: float | None) -> str:
    return "?" if mm2 is None else f"{mm2:,.2f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not known"
    return "less than 1 s" if seconds < 1 else str(timedelta(seconds=round(seconds)))


def _numbers(tally: Tally) -> str:
    parts = [
        f"{tally.done} done",
        f"{tally.running} running",
        f"{tally.failed} failed",
        f"{tally.left} left",
    ]
    if tally.claimed_by_another:
        parts.append(f"{tally.claimed_by_another} elsewhere")
    if tally.tiles_per_second:
        parts.append(f"{tally.tiles_per_second:.2g} tiles/s")
    if tally.eta_s is not None:
        parts.append(f"{timedelta(seconds=round(tally.eta_s))} to go")
    return ", ".join(parts)


def _cells(slide: UnderWay | None) -> tuple[str, str]:
    if slide is None:
        return "", ""
    tiles = f" {slide.tiles}/{slide.tiles_total} tiles" if slide.tiles_total else ""
    return escape(slide.slide), f"{slide.stage}{tiles}, {slide.nuclei:,} nuclei"


def _slides(number: int) -> str:
    return f"{number:,} slide" + ("" if number == 1 else "s")
