"""What every command prints with: facts, warnings, one-sentence errors."""

from __future__ import annotations

import logging
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console()
err = Console(stderr=True)


def be_quiet(quiet: bool) -> None:
    """Print nothing but errors from now on, and what is asked for as JSON; or everything again."""
    out.quiet = err.quiet = quiet


def print_facts(facts: dict[str, Any], title: str | None = None) -> None:
    """Print names and values below each other."""
    if title is not None:
        out.print(title, style="bold", highlight=False)
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(f"[dim]{name}", escape(str(value)))
    out.print(table, soft_wrap=True)


def print_warning(text: str) -> None:
    """Print one yellow sentence to standard error."""
    err.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_error(text: str) -> None:
    """Print one red sentence to standard error, even if all else is quiet."""
    quiet, err.quiet = err.quiet, False
    err.print(f"error: {text}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    err.quiet = quiet


def print_note(text: str) -> None:
    """Print one sentence that asks for nothing to standard error."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        (print_warning if is_warning else print_note)(record.getMessage())


def show_log() -> None:
    """Print what the engine logs: warnings as such, the rest as notes."""
    logger = logging.getLogger("wsi_engine")
    logger.handlers = [_LogHandler(logging.INFO)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
