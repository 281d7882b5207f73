"""All commands under one name; errors become one sentence and an exit code."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from wsi_engine.cli import (
    classify,
    console,
    corrections,
    learning,
    machine,
    qupath,
    results,
    run,
    runs,
    slides,
    view,
)
from wsi_engine.cli.ending import end_on_sigterm
from wsi_engine.cli.every_command import DEBUG, Debug, Quiet, with_options_of_every_command
from wsi_engine.cli.exit_codes import ExitCode
from wsi_engine.errors import EngineError
from wsi_engine.version import __version__

COLLECTED_AFTER = 50_000
"""So many new objects let Python look for garbage that refers to itself. By default 700 do, and a
short run spent a tenth of its time on looking through what it had imported."""

# In the order of `--help`.
COMMANDS: dict[str, Callable[..., None]] = {
    "run": run.run,
    "measure": slides.measure,
    "info": slides.info,
    "status": runs.status,
    "verify": runs.verify,
    "models": machine.models,
    "warm-up": machine.warm_up,
    "doctor": machine.doctor,
    "qupath-scripts": machine.qupath_scripts,
    "configs": machine.configs,
    "sample": slides.sample,
    "train": learning.train,
    "regions-train": learning.regions_train,
    "evaluate": learning.evaluate,
    "diff": corrections.diff,
    "apply": corrections.apply,
    "classify": classify.classify,
    "convert": qupath.convert,
    "validate": qupath.validate,
    "regions": results.regions,
    "cohort": results.cohort,
    "export": results.export,
    "report": results.report,
    "view": view.view,
}

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Whole slide in, every nucleus out, in QuPath.",
)
for _name, _command in COMMANDS.items():
    app.command(_name)(with_options_of_every_command(_command))


def _print_version(wanted: bool) -> None:
    if wanted:
        console.out.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Whole slide in, every nucleus out, in QuPath."""
    del version, debug
    console.be_quiet(quiet)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors become one sentence and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console.be_quiet(False)
    gc.set_threshold(COLLECTED_AFTER)
    console.show_log()
    end_on_sigterm(lambda: console.print_error(after_interruption(arguments)))
    try:
        app(arguments, prog_name="wsi-engine")
    except EngineError as error:
        if DEBUG in arguments:
            raise
        console.print_error(str(error))
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            console.print_error(after_interruption(arguments))
        raise


def after_interruption(arguments: list[str]) -> str:
    """Say what is kept of a command that was cut off."""
    if next((word for word in arguments if not word.startswith("-")), None) != "run":
        return "interrupted"
    same = "the same command without --force" if "--force" in arguments else "the same command"
    return f"interrupted: finished tiles are kept, and {same} goes on from there"
