"""Commands that open slides: run, measure, info, sample."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from wsi_engine.cli import console
from wsi_engine.cli.progress import progress_display
from wsi_engine.errors import EngineError, ResolutionError, SettingsError

if TYPE_CHECKING:
    from wsi_engine.engine.result import Result

DAMAGED = 3
"""Exit code of a run that finished, but could not read all of a slide."""


def run(
    slides: Annotated[list[str], typer.Argument(help="Slides, folders or patterns.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
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
    report: Annotated[
        bool | None, typer.Option("--report/--no-report", help="Write report.html.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start again, whatever an earlier run left.")
    ] = False,
) -> None:
    """Find every nucleus on slides and write them for QuPath."""
    from wsi_engine.config import make_settings
    from wsi_engine.engine.run import run as run_slide
    from wsi_engine.models.registry import find_model
    from wsi_engine.slide.finding import find_slides

    chosen: dict[str, Any] = {
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
        "report": report,
    }
    find_model(make_settings(config, **chosen).model)
    paths = find_slides(slides)
    exit_code = 0
    results: list[Result] = []
    with progress_display() as observe:
        for path in paths:
            try:
                results.append(
                    run_slide(path, output, config=config, observe=observe, force=force, **chosen)
                )
            except EngineError as error:
                if len(paths) == 1 or "--debug" in sys.argv:
                    raise
                console.print_error(str(error))
                exit_code = error.exit_code
    for result in results:
        _print_result(result)
        if not result.is_complete:
            exit_code = exit_code or DAMAGED
    if exit_code:
        raise typer.Exit(exit_code)


def measure(
    slide: Annotated[Path, typer.Argument(help="The slide.")],
    nuclei: Annotated[Path, typer.Argument(help="GeoJSON with nuclei, whoever found them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    mpp: Annotated[
        float | None, typer.Option(help="Pixel size of the slide in µm, if the file's is not.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
) -> None:
    """Measure nuclei that are known already: shape, stains, texture, cytoplasm."""
    from wsi_engine.engine.measuring import measure as measure_nuclei

    with progress_display() as observe:
        result = measure_nuclei(slide, nuclei, output, config=config, observe=observe, mpp=mpp)
    _print_measured(result)
    if not result.is_complete:
        raise typer.Exit(DAMAGED)


def info(
    slide: Annotated[Path, typer.Argument(help="A slide.")],
    mpp: Annotated[float | None, typer.Option(help="Pixel size in µm.")] = None,
    model: Annotated[str, typer.Option(help="Whose reading level to show.")] = "starconvex",
) -> None:
    """Show what is known of a slide and how the engine would read it."""
    from wsi_engine.models.registry import find_model
    from wsi_engine.slide.grid_reader import best_level
    from wsi_engine.slide.opening import open_slide
    from wsi_engine.slide.resolution import resolution_doubts, with_resolution
    from wsi_engine.slide.tissue import find_tissue

    spec = find_model(model).spec
    with open_slide(slide) as opened:
        facts = opened.info
        shown: dict[str, Any] = {
            "file": facts.path.name,
            "vendor": facts.vendor,
            "size": f"{facts.width} x {facts.height} px",
            "levels": ", ".join(
                f"{level.index}: {level.width} x {level.height} (1/{level.downsample:.6g})"
                for level in facts.levels
            ),
            "bounds": f"{facts.bounds.width} x {facts.bounds.height} px at "
            f"({facts.bounds.x}, {facts.bounds.y})",
            "objective": f"{facts.objective_power:g}x" if facts.objective_power else "unknown",
            "focal planes": facts.focal_planes,
            "associated images": ", ".join(facts.associated_images) or "none",
        }
        try:
            usable = with_resolution(facts, mpp)
        except ResolutionError as error:
            console.print_facts(shown | {"pixel size": "unknown"})
            console.print_warning(str(error))
            return
        assert usable.mpp is not None
        tissue = find_tissue(opened, usable)
        level = best_level(usable.levels, spec.mpp / max(usable.mpp.x, usable.mpp.y))
        shown["pixel size"] = f"{usable.mpp.x:g} x {usable.mpp.y:g} µm ({usable.mpp_source})"
        shown["tissue"] = f"{tissue.area_mm2:.3f} mm² in {len(tissue.pieces)} piece(s)"
        shown["read level"] = (
            f"{level.index} ({level.downsample * usable.mpp.mean:.4g} µm) "
            f"for {spec.name} at {spec.mpp} µm"
        )
        console.print_facts(shown)
        for doubt in resolution_doubts(facts, mpp):
            console.print_warning(doubt)


def sample(
    path: Annotated[Path, typer.Argument(help="Slide to write, a .tif.")],
    seed: Annotated[int, typer.Option(help="Another seed, another tissue.")] = 0,
) -> None:
    """Write a small slide with two fields of tissue, one with known truth."""
    from wsi_engine.sample import write_sample

    written = write_sample(path, seed)
    console.print_facts({"slide": written.slide_path, "truth": written.truth_path})


def _number_or_auto(option: str, text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"{option} {text}: give a whole number from 1, or auto")
    return int(text)


def _print_result(result: Result) -> None:
    record = result.record
    if result.is_earlier:
        name, when = record["slide"]["name"], record["finished"]
        text = f"{name}: already finished on {when}; --force to do it again"
        console.out.print(text, highlight=False, markup=False, soft_wrap=True)
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
    console.out.print(table, soft_wrap=True)
    for warning in record["warnings"]:
        console.print_warning(f"{record['slide']['name']}: {warning}")
    if not result.is_complete:
        lost = len(record["unreadable"])
        console.print_warning(
            f"{record['slide']['name']}: {lost} damaged region(s) could not be read and were "
            "left out; run.json lists them"
        )


def _print_measured(result: Result) -> None:
    name = result.record["slide"]["name"]
    facts = {"slide": name, "nuclei": f"{result.count:,}", "folder": result.folder}
    console.print_facts(facts)
    for warning in result.record["warnings"]:
        console.print_warning(f"{name}: {warning}")
    if not result.is_complete:
        console.print_warning(f"{name}: damaged regions could not be read; run.json lists them")
