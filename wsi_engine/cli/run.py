"""The command `run`: one slide, or many."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from wsi_engine.cli import console
from wsi_engine.cli.exit_codes import ExitCode
from wsi_engine.cli.progress import progress_display
from wsi_engine.cli.settings_options import takes_settings
from wsi_engine.config import RunSettings, make_settings
from wsi_engine.errors import OutputError, SettingsError, reason_for
from wsi_engine.results.layout import RECORD

if TYPE_CHECKING:
    from wsi_engine.archive.events import Event, Listener
    from wsi_engine.archive.outcome import Outcome
    from wsi_engine.results.result import RunResult

MANY = "Many slides"
"""Heading of the options that are made for many; some help with one as well."""


@takes_settings(*RunSettings.model_fields)
def run(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    slides: Annotated[
        list[str] | None, typer.Argument(help="Slides, folders, patterns or URLs.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start again, whatever an earlier run left.")
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option(help="CSV that names slides, and what is special.", rich_help_panel=MANY),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(help="Slides at a time, or parts of one slide.", rich_help_panel=MANY),
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask scheduler to use, tcp://host:port.", rich_help_panel=MANY),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="slurm, lsf or kubernetes: start workers.", rich_help_panel=MANY),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(help="k/n: begin with this share of the slides.", rich_help_panel=MANY),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try those again.", rich_help_panel=MANY)
    ] = False,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait for what other runs are at.", rich_help_panel=MANY),
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for copies of URLs.", rich_help_panel=MANY)
    ] = None,
    cache_size: Annotated[
        str, typer.Option(help="Most that it may hold.", rich_help_panel=MANY)
    ] = "100GB",
    log: Annotated[
        Path | None,
        typer.Option(help="File that gets a line of JSON per event.", rich_help_panel=MANY),
    ] = None,
    log_format: Annotated[
        str, typer.Option(help="What is shown meanwhile: text or json.", rich_help_panel=MANY)
    ] = "text",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what became of slides as JSON, nothing else.")
    ] = False,
    **settings: Any,
) -> None:
    """Find every nucleus on slides and write them for QuPath."""
    from wsi_engine.archive.cache import CacheSettings, default_folder, parse_bytes
    from wsi_engine.archive.inputs import parse_share
    from wsi_engine.archive.register import FOLDER
    from wsi_engine.archive.splitting import split_options
    from wsi_engine.engine.workers.dask import check_one
    from wsi_engine.models.around import members_of
    from wsi_engine.slide.slide_files import main_file

    named = slides or []
    settings["config"] = config
    archive: dict[str, Any] = {
        "manifest": manifest,
        "jobs": jobs,
        "scheduler": scheduler,
        "cluster": cluster,
        "share": parse_share(share) if share is not None else (1, 1),
        "retry_failed": retry_failed,
        "wait": wait,
        "cache": CacheSettings(cache or default_folder(), parse_bytes(cache_size)),
    }
    if log_format not in ("text", "json"):
        raise SettingsError(f"--log-format {log_format}: give text or json")
    if not named and manifest is None:
        raise SettingsError("name slides, a folder of them, or a --manifest")
    chosen = make_settings(**settings)
    members_of(chosen)
    if dry_run:
        _forecast(named, output, settings | archive | {"force": force}, as_json)
        return
    is_one = len(named) == 1 and _is_slide(Path(named[0])) and not (output / FOLDER).exists()
    wants_many = manifest is not None or share or log
    if is_one and not wants_many and log_format == "text":
        slide = main_file(Path(named[0]))
        check_one(scheduler, cluster)
        is_remote = scheduler is not None or cluster is not None
        if is_remote and not force and _is_up_to_date(slide, output, chosen):
            jobs, scheduler, cluster = 1, None, None  # nobody has to wait in a queue for nothing
        with split_options(jobs, scheduler, cluster) as processes:
            _run_one(slide, output, settings | processes | {"force": force}, as_json)
    else:
        archive["force"] = force
        _run_many(named, output, settings | archive, log, log_format == "json", as_json)


def _is_slide(path: Path) -> bool:
    from wsi_engine.slide.readers import is_slide_folder

    return path.is_file() or is_slide_folder(path)


def _is_up_to_date(slide: Path, output: Path, chosen: RunSettings) -> bool:
    from wsi_engine.archive.names import folder_name
    from wsi_engine.engine.resume import is_up_to_date

    return is_up_to_date(output / folder_name(slide.stem), slide, chosen) is not None


def _forecast(named: list[str], output: Path, options: dict[str, Any], as_json: bool) -> None:
    from wsi_engine.archive.forecast import forecast_archive
    from wsi_engine.cli.archive import print_forecast

    for name in ("jobs", "scheduler", "cluster", "share", "wait"):
        del options[name]
    forecast = forecast_archive(named, output, **options)
    if as_json:
        typer.echo(json.dumps(forecast.figures(), indent=2, ensure_ascii=False))
    else:
        print_forecast(forecast)


def _run_one(slide: Path, output: Path, options: dict[str, Any], as_json: bool) -> None:
    from wsi_engine.archive.names import folder_name
    from wsi_engine.archive.outcome import done
    from wsi_engine.engine.run import run as run_slide

    with progress_display() as observe:
        name = folder_name(slide.stem)
        result = run_slide(slide, output, name=name, observe=observe, **options)
    if as_json:
        outcome = done(name, result.record, computed=not result.is_earlier)
        _print_json(output, {name: str(slide.absolute())}, [outcome])
    else:
        _print_result(result)
    if not result.is_complete:
        raise typer.Exit(ExitCode.DAMAGED)


def _run_many(
    named: list[str],
    output: Path,
    options: dict[str, Any],
    log: Path | None,
    log_is_shown: bool,
    as_json: bool,
) -> None:
    from wsi_engine.archive.events import JsonLog
    from wsi_engine.archive.register import Register
    from wsi_engine.archive.run import run_archive
    from wsi_engine.cli.archive import ArchiveDisplay, print_summary

    with ExitStack() as open_things:
        listeners: list[Listener] = []
        if log is not None:
            try:
                stream = open_things.enter_context(log.open("a", encoding="utf-8"))
            except OSError as error:
                raise OutputError(f"cannot write to {log}: {reason_for(error)}") from None
            listeners.append(JsonLog(stream))
        shown = JsonLog(sys.stderr) if log_is_shown else open_things.enter_context(ArchiveDisplay())
        listeners.append(shown)

        def listen(event: Event) -> None:
            for listener in listeners:
                listener(event)

        summary = run_archive(named, output, listen=listen, **options)
    if as_json:
        paths = {name: entry["path"] for name, entry in Register(output).entries().items()}
        _print_json(output, paths, summary.outcomes)
    elif not log_is_shown:
        print_summary(summary)
    if summary.failed:
        raise typer.Exit(ExitCode.FAILED)
    if summary.damaged:
        raise typer.Exit(ExitCode.DAMAGED)


def _print_json(output: Path, paths: Mapping[str, str], outcomes: Sequence[Outcome]) -> None:
    """Print the rows of ``summary.csv``, and what became of each slide in this very run."""
    from wsi_engine.archive.summary import summary_row

    slides = []
    for outcome in outcomes:
        folder = output.absolute() / outcome.name
        row = asdict(summary_row(folder, paths[outcome.name]))
        row |= {
            "status": outcome.status,
            "computed": outcome.computed,
            "folder": str(folder),
        }
        if outcome.failure is not None:
            row |= {"reason": outcome.failure.reason, "error": outcome.failure.error}
        slides.append(row)
    typer.echo(json.dumps({"slides": slides}, indent=2, ensure_ascii=False))


def _print_result(result: RunResult) -> None:
    from wsi_engine.results.quality_files import doubts_in

    record = result.record
    if result.is_earlier:
        text = f"{record.slide.name}: already finished on {record.finished}; --force to do it again"
        console.out.print(text, highlight=False, markup=False, soft_wrap=True)
    nuclei, tiles = record.nuclei, record.tiles
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("slide", escape(record.slide.name))
    table.add_row("nuclei", f"{nuclei.count:,}")
    table.add_row("density", f"{nuclei.density_per_mm2:,.0f} per mm² on {nuclei.area_mm2:.3f} mm²")
    rate = tiles.megapixels / tiles.seconds if tiles.seconds else 0.0
    table.add_row(
        "speed",
        f"{tiles.seconds:.1f} s for {tiles.count} tiles, {rate:.2f} Mpx/s at "
        f"{record.model.mpp} µm, model busy {tiles.model_busy:.0%}",
    )
    if record.peak_rss_mb is not None:
        table.add_row("memory", f"{record.peak_rss_mb:,.0f} MB at the peak")
    if result.folder is not None:
        for path in sorted(result.folder.iterdir()):
            table.add_row("file", escape(str(path)))
    console.out.print(table, soft_wrap=True)
    doubts = doubts_in(result.folder) if result.folder is not None else []
    for warning in (*record.warnings, *doubts):
        console.print_warning(f"{record.slide.name}: {warning}")
    if not result.is_complete:
        lost = len(record.unreadable)
        console.print_warning(
            f"{record.slide.name}: {lost} damaged region(s) could not be read and were left out; "
            f"{RECORD} lists them"
        )
