"""The progress of runs, as bars or as lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from wsi_engine.cli.console import err
from wsi_engine.closing import Closing
from wsi_engine.engine.stages import STAGES

if TYPE_CHECKING:
    from wsi_engine.engine.progress import Progress


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
        """Leave the bars as they are."""
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
    """Return bars on a terminal, and plain lines elsewhere, which are not seen if all is quiet."""
    return TerminalProgress(err) if err.is_terminal and not err.quiet else LineProgress(err)


def _rates(progress: Progress) -> str:
    if not progress.seconds or not progress.megapixels:
        return ""
    tiles = progress.tiles / progress.seconds
    speed = progress.megapixels / progress.seconds
    return (
        f"{progress.nuclei:,} nuclei, {tiles:.2g} tiles/s, {speed:.2f} Mpx/s, "
        f"model busy {progress.busy:.0%}"
    )
