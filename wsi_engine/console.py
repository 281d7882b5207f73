"""What a person at a terminal sees: progress, tables, one-sentence errors."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from wsi_engine.closing import Closing
from wsi_engine.corrections.diff import Diff
from wsi_engine.engine.applying import Applied
from wsi_engine.engine.progress import Progress
from wsi_engine.engine.run import Result
from wsi_engine.learn.metrics import Evaluation
from wsi_engine.qupath.repair import Repair
from wsi_engine.qupath.rules.rule import NEWEST, Severity, spelled
from wsi_engine.qupath.validation import Report
from wsi_engine.regions.measure import RegionReport

out = Console()
err = Console(stderr=True)

STAGES = {
    "tissue": "looking for tissue",
    "calibration": "calibrating",
    "compiling": "compiling the network, once for this machine (a minute or so)",
    "nuclei": "finding nuclei",
    "measuring": "measuring",
    "writing": "writing",
}


VERDICTS = {
    Severity.FINE: ("imports all of it as it is", "green"),
    Severity.ADVICE: ("imports all of it as it is", "green"),
    Severity.CHANGED: ("silently changes some of it", "yellow"),
    Severity.LOST: ("silently loses some of it", "yellow"),
    Severity.ABORTS: ("aborts the import", "bold red"),
}

MEASURES = {
    "precision": "precision at IoU 0.5",
    "recall": "recall at IoU 0.5",
    "f1": "F1 at IoU 0.5",
    "f1_50_90": "F1, mean of IoU 0.5 to 0.9",
    "pq": "PQ = DQ x SQ",
    "dq": "DQ",
    "sq": "SQ",
    "aji": "AJI",
    "dice": "Dice",
    "detection_f1": "detection F1 within 6 µm",
}


class TerminalProgress(Closing):
    """Shows a bar per slide; an observer of runs, and a context."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("[bold]{task.description}"),
            TextColumn("{task.fields[stage]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        """Redraw the bar of a slide."""
        if progress.slide not in self._tasks:
            self._tasks[progress.slide] = self._bars.add_task(
                progress.slide, total=None, stage="", rates=""
            )
        self._bars.update(
            self._tasks[progress.slide],
            completed=progress.tiles,
            total=progress.tiles_total or None,
            stage=STAGES[progress.stage],
            rates=_rates(progress),
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def close(self) -> None:
        """Leave the bars as they stand."""
        self._bars.stop()


class LineProgress(Closing):
    """Prints a line now and then, for logs; an observer of runs, and a context."""

    SECONDS_BETWEEN_LINES = 10.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ("", "")
        self._printed_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Print when the stage changes, and every ten seconds."""
        key = (progress.slide, progress.stage)
        if key == self._last and time.monotonic() - self._printed_at < self.SECONDS_BETWEEN_LINES:
            return
        self._last, self._printed_at = key, time.monotonic()
        tiles = f" {progress.tiles}/{progress.tiles_total} tiles" if progress.tiles_total else ""
        line = f"{progress.slide}: {STAGES[progress.stage]}{tiles} {_rates(progress)}".rstrip()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leave nothing behind."""


def progress_display() -> TerminalProgress | LineProgress:
    """Return bars on a terminal, plain lines elsewhere."""
    return TerminalProgress(err) if err.is_terminal else LineProgress(err)


def print_result(result: Result) -> None:
    """Summarise one slide."""
    record = result.record
    nuclei, tiles = record["nuclei"], record["tiles"]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("slide", escape(record["slide"]["name"]))
    table.add_row("nuclei", f"{nuclei['count']:,}")
    table.add_row(
        "density", f"{nuclei['density_per_mm2']:,.0f} per mm² on {nuclei['area_mm2']:.3f} mm²"
    )
    rate = tiles["megapixels"] / tiles["seconds"] if tiles["seconds"] else 0.0
    table.add_row(
        "speed",
        f"{tiles['seconds']:.1f} s for {tiles['count']} tiles, {rate:.2f} Mpx/s at "
        f"{record['model']['mpp']} µm, model busy {tiles['model_busy']:.0%}",
    )
    if record["peak_rss_mb"] is not None:
        table.add_row("memory", f"{record['peak_rss_mb']:,.0f} MB at the peak")
    if result.folder is not None:
        for path in sorted(result.folder.iterdir()):
            table.add_row("file", escape(str(path)))
    out.print(table, soft_wrap=True)
    for warning in record["warnings"]:
        print_warning(f"{record['slide']['name']}: {warning}")
    if not result.is_complete:
        lost = len(record["unreadable"])
        print_warning(
            f"{record['slide']['name']}: {lost} damaged region(s) could not be read and were "
            "left out; run.json lists them"
        )


def print_measured(result: Result) -> None:
    """Summarise nuclei that were measured, without being searched for."""
    name = result.record["slide"]["name"]
    assert result.folder is not None
    print_facts({"slide": name, "nuclei": f"{result.count:,}", "folder": result.folder})
    for warning in result.record["warnings"]:
        print_warning(f"{name}: {warning}")
    if not result.is_complete:
        print_warning(f"{name}: damaged regions could not be read; run.json lists them")


def print_facts(facts: dict[str, Any], title: str | None = None) -> None:
    """Print names and values below each other."""
    if title is not None:
        out.print(title, style="bold", highlight=False)
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(f"[dim]{name}", escape(str(value)))
    out.print(table, soft_wrap=True)


def print_evaluation(name: str, evaluation: Evaluation) -> None:
    """Print the measures of a segmentation; with intervals where there are several images."""
    counts = [image.at_iou[0] for image in evaluation.images]
    pooled = evaluation.pooled()
    figures: dict[str, object] = dict(pooled)
    if len(counts) > 1:
        figures |= evaluation.intervals()
    shown: dict[str, Any] = {
        "images": len(counts),
        "nuclei": f"{sum(c.tp + c.fn for c in counts):,} true, "
        f"{sum(c.tp + c.fp for c in counts):,} found",
    }
    for key, label in MEASURES.items():
        value = figures[key]
        shown[label] = f"{value:.3f}" if isinstance(value, float) else str(value)
    for key in ("splits", "merges"):
        shown[key] = f"{pooled[key]:.0f}"
    print_facts(shown, title=name)


def print_diff(difference: Diff) -> None:
    """Print how many objects were changed in which way, and which classes became which."""
    shown: dict[str, Any] = {kind: f"{count:,}" for kind, count in difference.counts.items()}
    if difference.counts["reshaped"]:
        shown["reshaped"] += f", IoU {difference.mean_iou:.3f} on average"
    print_facts(shown | {"unchanged": f"{difference.unchanged:,}"})
    if difference.reclassified:
        table = Table("class before", "class now", "objects")
        for (old, new), count in difference.reclassified.most_common():
            table.add_row(escape(old or "none"), escape(new or "none"), f"{count:,}")
        out.print(table)
    for kind, count in difference.not_compared.items():
        print_warning(f"one of the versions has no {kind}s: {count:,} were not compared")
    _warn_of_duplicates(difference.duplicates)


def print_applied(applied: Applied) -> None:
    """Print what a corrected file changed, and what of it was left out."""
    print_facts(
        {
            "deleted": f"{applied.deleted:,}",
            "edited": f"{applied.edited:,}",
            "added": f"{applied.added:,}",
            "corrections": ", ".join(f"{n:,} {k}" for k, n in applied.corrections.counts.items()),
            "nuclei": f"{applied.nuclei:,}",
        }
    )
    for kind, count in applied.left_out.items():
        print_warning(f"{count:,} objects are no nuclei and were left out: {kind}")
    if applied.left_out["annotation"]:
        print_warning("annotations of nuclei drawn by hand come in with --drawn-class CLASS")
    _warn_of_duplicates(applied.duplicates)


def _warn_of_duplicates(count: int) -> None:
    if count:
        print_warning(f"{count:,} objects were passed over: earlier ones have the same id")


def print_validation(report: Report) -> None:
    """Print what QuPath would do with a file, the worst first."""
    verdict, style = VERDICTS[report.severity()]
    line = f"{report.path}: {_objects(report.objects)}; QuPath {NEWEST} {verdict}"
    out.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    if not report.tallies:
        return
    table = Table(box=SIMPLE_HEAD)
    table.add_column("rule", no_wrap=True)
    table.add_column("in QuPath")
    table.add_column("what happens, what to do, where")
    for tally in report.tallies:
        rule, first = tally.rule, tally.examples[0]
        times = f"{tally.count:,} times, first in " if tally.count > 1 else ""
        table.add_row(
            rule.id,
            spelled(rule.severities),
            escape(f"{rule.effect} {rule.advice}\n{times}{first.place}: {first.detail}"),
        )
    out.print(table, highlight=False)


def print_repair(repair: Repair, target: Path) -> None:
    """Print what was changed on the way to a file that QuPath takes."""
    line = f"{target}: {_objects(repair.written)} written"
    out.print(line, markup=False, highlight=False, soft_wrap=True)
    for change in repair.changes:
        times = "in" if change.count == 1 else f"{change.count:,} times, first in"
        line = f"  {change.what} ({times} {change.first})"
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _objects(count: int) -> str:
    return f"{count:,} object" if count == 1 else f"{count:,} objects"


def print_regions(report: RegionReport) -> None:
    """Print the first numbers of some regions, and where all of them are."""
    names = ("slide", "region", "kind")
    numbers = {"Searched area mm^2": ",.3f", "Nuclei": ",.0f", "Nuclei per mm^2": ",.0f"}
    table = Table(*names, "mm²", "nuclei", "per mm²")
    for row in report.table.select([*names, *numbers]).to_pylist():
        values = [(row[name], form) for name, form in numbers.items()]
        cells = ["-" if value is None else format(value, form) for value, form in values]
        table.add_row(*[escape(row[name]) for name in names], *cells)
    out.print(table)
    for path in report.files:
        out.print(f"file: {path}", highlight=False, markup=False, soft_wrap=True)


def print_warning(text: str) -> None:
    """Print one yellow sentence to standard error."""
    err.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_error(text: str) -> None:
    """Print one red sentence to standard error."""
    err.print(f"error: {text}", style="bold red", markup=False, highlight=False, soft_wrap=True)


def _rates(progress: Progress) -> str:
    if not progress.seconds or not progress.megapixels:
        return ""
    tiles = progress.tiles / progress.seconds
    speed = progress.megapixels / progress.seconds
    return (
        f"{progress.nuclei:,} nuclei, {tiles:.2g} tiles/s, {speed:.2f} Mpx/s, "
        f"model busy {progress.busy:.0%}"
    )


class _WarningHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_warning(record.getMessage())


def show_log_warnings() -> None:
    """Print what the engine logs as warnings."""
    logger = logging.getLogger("wsi_engine")
    logger.handlers = [_WarningHandler(logging.WARNING)]
    logger.propagate = False
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
