"""The command `run`: one slide, or many."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from wsi_engine.cli import console
from wsi_engine.cli.console import DAMAGED
from wsi_engine.cli.progress import progress_display
from wsi_engine.errors import OutputError, SettingsError
from wsi_engine.results.layout import RECORD

if TYPE_CHECKING:
    from wsi_engine.archive.events import Event, Listener
    from wsi_engine.config import RunSettings
    from wsi_engine.results.result import RunResult

MANY = "Many slides"
"""Heading of the options that are made for many; some help with one as well."""


def run(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    slides: Annotated[
        list[str] | None, typer.Argument(help="Slides, folders, patterns or URLs.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="See `wsi-engine models`.")] = None,
    weights: Annotated[Path | None, typer.Option(help="File of weights.")] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Pixel size of the slide in µm, if the file's is not.")
    ] = None,
    roi: Annotated[
        Path | None, typer.Option(help="GeoJSON with annotations that bound the work.")
    ] = None,
    roi_class: Annotated[
        list[str] | None,
        typer.Option(help="Only annotations of this class bound the work; can be repeated."),
    ] = None,
    exclude_class: Annotated[
        list[str] | None,
        typer.Option(help="Annotations of this class are cut out; can be repeated."),
    ] = None,
    tissue: Annotated[
        bool | None, typer.Option("--tissue/--no-tissue", help="Leave out the glass.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:0,1.")] = None,
    batch_size: Annotated[str | None, typer.Option(help="Tiles per batch, or auto.")] = None,
    compile: Annotated[
        str | None, typer.Option(help="Compile the network: auto (where it pays), always, never.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Threads that read and decode, or auto.")
    ] = None,
    tile_size: Annotated[
        int | None, typer.Option(help="Side of a tile in the model's pixels.")
    ] = None,
    split: Annotated[int | None, typer.Option(help="Most nuclei per GeoJSON file.")] = None,
    regions: Annotated[
        bool | None, typer.Option("--regions/--no-regions", help="Write the tables of regions.")
    ] = None,
    report: Annotated[
        bool | None, typer.Option("--report/--no-report", help="Write the page of the slide.")
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
) -> None:
    """Find every nucleus on slides and write them for QuPath."""
    from wsi_engine.archive.cache import CacheSettings, default_folder, parse_bytes
    from wsi_engine.archive.inputs import parse_share
    from wsi_engine.archive.register import FOLDER
    from wsi_engine.archive.splitting import split_options
    from wsi_engine.config import make_settings
    from wsi_engine.engine.workers.dask import check_one
    from wsi_engine.models.registry import find_model

    named = slides or []
    settings: dict[str, Any] = {
        "config": config,
        "model": model,
        "weights": weights,
        "mpp": mpp,
        "roi": roi,
        "roi_class": roi_class or None,
        "exclude_class": exclude_class or None,
        "tissue": tissue,
        "device": device,
        "batch_size": _number_or_auto("--batch-size", batch_size),
        "compile": compile,
        "workers": _number_or_auto("--workers", workers),
        "tile_size": tile_size,
        "split": split,
        "regions": regions,
        "report": report,
    }
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
    find_model(chosen.model)
    is_one = len(named) == 1 and Path(named[0]).is_file() and not (output / FOLDER).exists()
    wants_many = manifest is not None or share or log
    if is_one and not wants_many and log_format == "text":
        slide = Path(named[0])
        check_one(scheduler, cluster)
        is_remote = scheduler is not None or cluster is not None
        if is_remote and not force and _is_up_to_date(slide, output, chosen):
            jobs, scheduler, cluster = 1, None, None  # nobody has to wait in a queue for nothing
        with split_options(jobs, scheduler, cluster) as processes:
            _run_one(slide, output, settings | processes | {"force": force})
    else:
        archive["force"] = force
        _run_many(named, output, settings | archive, log, log_format == "json")


def _is_up_to_date(slide: Path, output: Path, chosen: RunSettings) -> bool:
    from wsi_engine.archive.names import folder_name
    from wsi_engine.engine.resume import is_up_to_date

    return is_up_to_date(output / folder_name(slide.stem), slide, chosen) is not None


def _run_one(slide: Path, output: Path, options: dict[str, Any]) -> None:
    from wsi_engine.archive.names import folder_name
    from wsi_engine.engine.run import run as run_slide

    with progress_display() as observe:
        name = folder_name(slide.stem)
        result = run_slide(slide, output, name=name, observe=observe, **options)
    _print_result(result)
    if not result.is_complete:
        raise typer.Exit(DAMAGED)


def _run_many(
    named: list[str], output: Path, options: dict[str, Any], log: Path | None, as_json: bool
) -> None:
    from wsi_engine.archive.events import JsonLog
    from wsi_engine.archive.run import run_archive
    from wsi_engine.cli.archive import ArchiveDisplay, print_summary

    with ExitStack() as open_things:
        listeners: list[Listener] = []
        if log is not None:
            try:
                stream = open_things.enter_context(log.open("a", encoding="utf-8"))
            except OSError as error:
                raise OutputError(f"cannot write to {log}: {error.strerror}") from None
            listeners.append(JsonLog(stream))
        shown = JsonLog(sys.stderr) if as_json else open_things.enter_context(ArchiveDisplay())
        listeners.append(shown)

        def listen(event: Event) -> None:
            for listener in listeners:
                listener(event)

        summary = run_archive(named, output, listen=listen, **options)
    if not as_json:
        print_summary(summary)
    if summary.failed:
        raise typer.Exit(1)
    if summary.damaged:
        raise typer.Exit(DAMAGED)


def _number_or_auto(option: str, text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"{option} {text}: give a whole number from 1, or auto")
    return int(text)


def _print_result(result: RunResult) -> None:
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
    for warning in record.warnings:
        console.print_warning(f"{record.slide.name}: {warning}")
    if not result.is_complete:
        lost = len(record.unreadable)
        console.print_warning(
            f"{record.slide.name}: {lost} damaged region(s) could not be read and were left out; "
            f"{RECORD} lists them"
        )
