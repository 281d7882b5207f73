"""The progress of runs in the cell of a notebook, where nobody else observes them."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from wsi_engine.engine.progress import Observer, Progress, ignore
from wsi_engine.engine.stages import STAGES

SECONDS_BETWEEN_UPDATES = 0.2
"""A notebook keeps up with that, whatever the number of tiles."""


@contextmanager
def observing(observe: Observer | None) -> Iterator[Observer]:
    """Give an observer for a run: the given one, or else a bar in a notebook, or else none."""
    if observe is not None:
        yield observe
    elif not _is_notebook():
        yield ignore
    else:
        bar = NotebookProgress()
        try:
            yield bar
        except BaseException:
            bar.show_end("stopped")
            raise
        bar.show_end("done")


class NotebookProgress:
    """Shows a bar in the output of a cell; an observer of runs.

    IPython, which every notebook has, is all that it needs. Nothing is shown before the first
    call: a run whose result is there already is no progress.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._last: Progress | None = None
        self._shown_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Redraw the bar, if the stage is another or some time has passed."""
        is_new = self._last is None or progress.stage != self._last.stage
        self._last = progress
        if is_new or time.monotonic() - self._shown_at >= SECONDS_BETWEEN_UPDATES:
            self._show(progress, STAGES[progress.stage])

    def show_end(self, word: str) -> None:
        """Say how the run ended."""
        if self._last is not None:
            self._show(self._last, word)

    def _show(self, progress: Progress, words: str) -> None:
        self._shown_at = time.monotonic()
        text = f"{progress.slide}: {words}"
        if progress.tiles_total:
            text += f", {progress.tiles:,} of {progress.tiles_total:,} tiles"
            text += f", {progress.nuclei:,} nuclei"
        bar = f'<progress value="{progress.tiles}" max="{progress.tiles_total or 1}"></progress>'
        shown = {"text/plain": text, "text/html": f"{bar} {html.escape(text)}"}
        if self._handle is None:
            ipython = import_module("IPython.display")
            self._handle = ipython.display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


def _is_notebook() -> bool:
    """Whether the code runs in a kernel, as that of Jupyter, VS Code and Colab."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
