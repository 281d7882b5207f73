"""The options that every command has."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from wsi_engine.cli import console

DEBUG = "--debug"

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors, and nothing else.")]
Debug = Annotated[bool, typer.Option(DEBUG, help="Show tracebacks.")]


def with_options_of_every_command(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--quiet``, and ``--debug``, which `main` looks for itself."""
    signature = inspect.signature(command, eval_str=True)
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("quiet", Quiet), ("debug", Debug))
    ]

    @functools.wraps(command)
    def wrapped(*, quiet: bool, debug: bool, **given: Any) -> None:
        del debug
        if quiet:
            console.be_quiet(True)
        command(**given)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in signature.parameters.values()
    ]
    wrapped.__signature__ = inspect.Signature([*parameters, *named])  # type: ignore[attr-defined]
    return wrapped
