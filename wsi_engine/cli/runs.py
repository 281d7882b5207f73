"""Commands that look at what runs left: status, verify."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from wsi_engine.cli import console
from wsi_engine.cli.exit_codes import ExitCode
from wsi_engine.errors import ResultError

if TYPE_CHECKING:
    from wsi_engine.results.status import SlideStatus


def status(
    output: Annotated[Path, typer.Argument(help="Folder of results, or OUT/SLIDE.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show which slides are finished, how far the others are, and who works on them."""
    from wsi_engine.archive.register import Register
    from wsi_engine.results.status import status_of

    found = status_of(output)
    if as_json:
        typer.echo(json.dumps([asdict(slide) for slide in found], indent=2, ensure_ascii=False))
    else:
        begun = {slide.folder for slide in found}
        _print_status(found, sum(name not in begun for name in Register(output).entries()))


def verify(
    output: Annotated[Path, typer.Argument(help="Folder of results, or OUT/SLIDE.")],
) -> None:
    """Check every checksum and count; exit with 1 and a line per problem if there is any."""
    from wsi_engine.results.folder import has_result
    from wsi_engine.results.status import slide_folders, status_of
    from wsi_engine.results.verify import problems_of, problems_of_cohort

    slides = list(slide_folders(output))
    if not slides:
        raise ResultError(f"{output} holds no results: give a folder that `wsi-engine run` wrote")
    problems = [problem for folder in slides for problem in problems_of(folder)]
    problems += problems_of_cohort(output)
    for problem in problems:
        console.out.print(problem, highlight=False, markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(ExitCode.FAILED)
    without = [state for folder in slides if not has_result(folder) for state in status_of(folder)]
    named = ", ".join(f"{slide.folder} ({slide.state})" for slide in without)
    if len(without) == len(slides):
        raise ResultError(
            f"{output} holds no finished result, but {named}: `wsi-engine status` shows how far "
            "each is, or why it failed"
        )
    finished = len(slides) - len(without)
    console.out.print(f"{finished} slide(s): all is as it was written", highlight=False)
    if without:
        console.print_warning(f"{len(without)} slide(s) have no finished result: {named}")


def _print_status(found: list[SlideStatus], not_begun: int) -> None:
    table = Table("slide", "state", "tiles", "nuclei", "finished (UTC)", "running on")
    for slide in found:
        tiles = "" if slide.tiles is None else f"{slide.tiles:,} / {slide.tiles_total:,}"
        nuclei = "" if slide.nuclei is None else f"{slide.nuclei:,}"
        when = (slide.finished or "").replace("T", " ")[:16]
        rest = (when, slide.running or "")
        table.add_row(escape(slide.folder), slide.state, tiles, nuclei, *map(escape, rest))
    if found:
        console.out.print(table)
    for slide in found:
        if slide.reason is not None:
            text = f"{slide.folder}: {slide.reason}"
            console.out.print(text, highlight=False, markup=False, soft_wrap=True)
    counts = {state: sum(slide.state == state for slide in found) for state in _STATES}
    counts["not begun"] = not_begun
    text = ", ".join(
        f"{count} {state}{_MEANINGS.get(state, '')}" for state, count in counts.items() if count
    )
    console.out.print(text or "no slides", highlight=False)


_STATES = ("finished", "unfinished", "failed", "empty", "damaged")
_MEANINGS = {"empty": " (begun, but nothing is kept yet)"}
