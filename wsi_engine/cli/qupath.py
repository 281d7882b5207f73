"""Commands for files of objects: convert, validate."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, cast

import orjson
import typer

from wsi_engine.cli import console
from wsi_engine.cli.exit_codes import ExitCode
from wsi_engine.convert.kinds import DIALECTS, KINDS, Kind
from wsi_engine.errors import EngineError, SettingsError
from wsi_engine.qupath.rules.rule import NEWEST, VERSIONS, Severity, spelled

if TYPE_CHECKING:
    from wsi_engine.qupath.repair import Repair
    from wsi_engine.qupath.validation import Report

VERDICTS = {
    Severity.FINE: ("imports all of it as it is", "green"),
    Severity.ADVICE: ("imports all of it as it is", "green"),
    Severity.CHANGED: ("silently changes some of it", "yellow"),
    Severity.LOST: ("silently loses some of it", "yellow"),
    Severity.ABORTS: ("aborts the import", "bold red"),
}


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File of objects, of any kind.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help=".geojson, .geojson.gz, .parquet or .db.")
    ],
    kind: Annotated[
        str | None, typer.Option("--from", help=f"Kind of IN: {', '.join(KINDS)}.")
    ] = None,
    dialect: Annotated[
        str, typer.Option(help=f"QuPath that is to read OUT: {', '.join(DIALECTS)}.")
    ] = DIALECTS[-1],
    scale: Annotated[
        float | None, typer.Option(help="Full-resolution pixels per pixel of IN.")
    ] = None,
    origin: Annotated[
        str, typer.Option(metavar="X,Y", help="Where IN's top left lies, full-resolution pixels.")
    ] = "0,0",
    shift_bounds: Annotated[
        Path | None,
        typer.Option(metavar="SLIDE", help="IN counts pixels as OpenSlide does on this slide."),
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Take contours through pixel centres for outlines.")
    ] = False,
    types: Annotated[
        Path | None, typer.Option(help="JSON with the classes of type numbers (type_info.json).")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Pixel size in µm: adds measurements of shape.")
    ] = None,
) -> None:
    """Convert between QuPath, GeoParquet, CellViT, HoVer-Net, TIAToolbox and label images."""
    from wsi_engine.convert.convert import convert as convert_file

    try:
        x, y = (float(part) for part in origin.split(","))
    except ValueError:
        raise SettingsError(f"--origin {origin}: give two numbers, x,y") from None
    done = convert_file(
        source,
        target,
        kind=cast(Kind | None, kind),
        dialect=dialect,
        scale=scale,
        origin=(x, y),
        shift_bounds=shift_bounds,
        as_is=as_is,
        types=types,
        mpp=mpp,
    )
    console.print_facts({"read as": done.kind, "objects": f"{done.count:,}", "file": target})


def validate(
    files: Annotated[list[Path], typer.Argument(help="GeoJSON, also .gz and .zip.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also for what is changed or lost.")
    ] = False,
    fix: Annotated[
        Path | None, typer.Option(help="Write the nearest file that QuPath takes as it is.")
    ] = None,
    qupath: Annotated[
        str, typer.Option(metavar="VERSION", help=f"QuPath that is asked: {', '.join(VERSIONS)}.")
    ] = NEWEST,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON, for every version.")
    ] = False,
) -> None:
    """Say what QuPath would do with GeoJSON files; exit with 1 if it aborts the import."""
    from wsi_engine.qupath.repair import repair
    from wsi_engine.qupath.validation import validate as validate_file

    if qupath not in VERSIONS:
        raise SettingsError(f"--qupath {qupath}: give one of {', '.join(VERSIONS)}")
    if fix is not None and len(files) > 1:
        raise SettingsError("--fix writes one file: give one file to fix")
    failed = False
    reports: list[Report] = []
    for path in files:
        try:
            reports.append(validate_file(path))
        except EngineError as error:
            if len(files) == 1:
                raise
            console.print_error(str(error))
            failed = True
            continue
        if not as_json:
            _print_validation(reports[-1], qupath)
    judged = reports
    if fix is not None:
        done = repair(files[0], fix, qupath)
        judged = [validate_file(fix)]
        failed |= done.written == 0 and (done.left_out > 0 or reports[0].aborts(qupath))
        reports = reports + judged
        if not as_json:
            _print_repair(done, fix)
            _print_validation(judged[0], qupath)
    if as_json:
        print(orjson.dumps([report.as_dict() for report in reports]).decode())
    if failed or any(r.aborts(qupath) or (strict and not r.is_clean_in(qupath)) for r in judged):
        raise typer.Exit(ExitCode.FAILED)


def _print_validation(report: Report, version: str) -> None:
    """Print what a version of QuPath would do with a file, the worst first."""
    verdict, style = VERDICTS[report.severity(version)]
    line = f"{report.path}: {_objects(report.objects)}; QuPath {version} {verdict}"
    console.out.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    for tally in report.tallies_in(version):
        rule, first = tally.rule, tally.examples[0]
        times = f"{tally.count:,} times, first in " if tally.count > 1 else ""
        _print_indented(
            f"{rule.id}: {spelled(rule.severities)}", 2, VERDICTS[rule.severity(version)][1]
        )
        _print_indented(f"{rule.effect} {rule.advice}", 4)
        _print_indented(f"{times}{first.place}: {first.detail}", 4, "dim")


def _print_indented(text: str, indent: int, style: str = "none") -> None:
    """Print a paragraph within the width of the terminal, whole words to a line."""
    text = fill(
        text,
        console.out.width,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    console.out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _print_repair(repair: Repair, target: Path) -> None:
    """Print what was changed on the way to a file that QuPath takes."""
    line = f"{target}: {_objects(repair.written)} written"
    console.out.print(line, markup=False, highlight=False, soft_wrap=True)
    for change in repair.changes:
        times = "in" if change.count == 1 else f"{change.count:,} times, first in"
        line = f"  {change.what} ({times} {change.first})"
        console.out.print(line, markup=False, highlight=False, soft_wrap=True)


def _objects(count: int) -> str:
    return f"{count:,} object" if count == 1 else f"{count:,} objects"
