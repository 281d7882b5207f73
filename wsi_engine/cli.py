"""The command line: parses, calls the public interface, prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import orjson
import typer
from rich.table import Table

from wsi_engine import console
from wsi_engine.config import make_settings
from wsi_engine.convert.convert import DIALECTS, convert
from wsi_engine.convert.kinds import KINDS, Kind
from wsi_engine.corrections.diff import diff
from wsi_engine.doctor import examine
from wsi_engine.engine.applying import apply_corrections
from wsi_engine.engine.measuring import measure
from wsi_engine.engine.placing import warm_up
from wsi_engine.engine.run import Result, run
from wsi_engine.errors import EngineError, ResolutionError, SettingsError
from wsi_engine.learn.config import TrainConfig
from wsi_engine.learn.evaluate import evaluate as evaluate_segmentations
from wsi_engine.learn.overlays import write_worst_page
from wsi_engine.learn.train import train as train_network
from wsi_engine.models.registry import available_models, find_model
from wsi_engine.qupath.repair import repair
from wsi_engine.qupath.validation import Report
from wsi_engine.qupath.validation import validate as validate_file
from wsi_engine.regions.cohort import build_cohort
from wsi_engine.regions.measure import measure_regions
from wsi_engine.sample import write_sample
from wsi_engine.slide.finding import find_slides
from wsi_engine.slide.grid_reader import best_level
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.resolution import resolution_doubts, with_resolution
from wsi_engine.slide.tissue import find_tissue
from wsi_engine.version import __version__

DAMAGED = 3
"""Exit code of a run that finished, but could not read all of a slide."""
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Whole slide in, every nucleus out, in QuPath.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.out.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Whole slide in, every nucleus out, in QuPath."""
    del version, debug


@app.command("run")
def run_command(
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
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
) -> None:
    """Find every nucleus on slides and write them for QuPath."""
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
    }
    find_model(make_settings(config, **chosen).model)
    paths = find_slides(slides)
    exit_code = 0
    results: list[Result] = []
    with console.progress_display() as observe:
        for path in paths:
            try:
                results.append(run(path, output, config=config, observe=observe, **chosen))
            except EngineError as error:
                if len(paths) == 1 or "--debug" in sys.argv:
                    raise
                console.print_error(str(error))
                exit_code = error.exit_code
    for result in results:
        console.print_result(result)
        if not result.is_complete:
            exit_code = exit_code or DAMAGED
    if exit_code:
        raise typer.Exit(exit_code)


@app.command("measure")
def measure_command(
    slide: Annotated[Path, typer.Argument(help="The slide.")],
    nuclei: Annotated[Path, typer.Argument(help="GeoJSON with nuclei, whoever found them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    mpp: Annotated[
        float | None, typer.Option(help="Pixel size of the slide in µm, if the file's is not.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
) -> None:
    """Measure nuclei that are known already: shape, stains, texture, cytoplasm."""
    with console.progress_display() as observe:
        result = measure(slide, nuclei, output, config=config, observe=observe, mpp=mpp)
    console.print_measured(result)
    if not result.is_complete:
        raise typer.Exit(DAMAGED)


@app.command()
def info(
    slide: Annotated[Path, typer.Argument(help="A slide.")],
    mpp: Annotated[float | None, typer.Option(help="Pixel size in µm.")] = None,
    model: Annotated[str, typer.Option(help="Whose reading level to show.")] = "starconvex",
) -> None:
    """Show what is known of a slide and how the engine would read it."""
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


@app.command()
def models() -> None:
    """List the models."""
    for name, entry in available_models().items():
        spec = entry.spec
        console.print_facts(
            {
                "what": spec.summary,
                "resolution": f"{spec.mpp:g} µm per pixel",
                "classes": ", ".join(spec.classes) or "none",
                "licence": spec.licence,
                "weights": "embedded" if spec.embedded else "downloaded, or --weights FILE",
            },
            title=name,
        )


@app.command("warm-up")
def warm_up_command(
    model: Annotated[str | None, typer.Option(help="See `wsi-engine models`.")] = None,
    weights: Annotated[Path | None, typer.Option(help="File of weights.")] = None,
    tile_size: Annotated[
        int | None, typer.Option(help="Side of a tile in the model's pixels.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
) -> None:
    """Compile the network for this processor now, so that no run has to."""
    chosen = {"model": model, "weights": weights, "tile_size": tile_size}
    with console.err.status("compiling the network, a minute or so"):
        compiled = warm_up(make_settings(config, **chosen))
    message = "the next runs use the compiled network" if compiled else "nothing to compile here"
    console.out.print(message)


@app.command()
def doctor() -> None:
    """Look at this machine: torch, device, compiler, OpenSlide, extras."""
    table = Table("what", "found", "advice")
    for finding in examine():
        table.add_row(finding.name, finding.value, finding.advice)
    console.out.print(table)


@app.command()
def sample(
    path: Annotated[Path, typer.Argument(help="Slide to write, a .tif.")],
    seed: Annotated[int, typer.Option(help="Another seed, another tissue.")] = 0,
) -> None:
    """Write a small slide with two fields of tissue, one with known truth."""
    written = write_sample(path, seed)
    console.print_facts({"slide": written.slide_path, "truth": written.truth_path})


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file, see configs/train_default.yaml.")],
) -> None:
    """Train a star-convex network, or go on with a run that was stopped."""
    result = train_network(TrainConfig.load(config), console=console.err)
    shown: dict[str, Any] = {
        "best weights": result.best,
        "last weights": result.weights,
        "threshold": f"{result.threshold:.2f}",
        "validation F1": f"{result.f1:.3f}",
        "validation PQ": f"{result.pq:.3f}",
    }
    if result.class_f1 is not None:
        shown["validation F1 with class"] = f"{result.class_f1:.3f}"
    console.print_facts(shown)
    console.out.print("Next: wsi-engine run SLIDE -o OUT --model starconvex --weights FILE")


@app.command()
def evaluate(
    predicted: Annotated[Path, typer.Argument(help="GeoJSON, label image, or a folder of them.")],
    truth: Annotated[Path, typer.Argument(help="What is there; the same kinds.")],
    mpp: Annotated[
        float, typer.Option(help="Pixel size in µm that both refer to, for distances.")
    ] = 0.25,
    images: Annotated[
        Path | None, typer.Option(help="Images, for a page of the worst ones.")
    ] = None,
    worst: Annotated[Path, typer.Option(help="The page to write.")] = Path("worst.html"),
) -> None:
    """Compare nuclei with the truth: F1, PQ, AJI, Dice, splits and merges."""
    report = evaluate_segmentations(predicted, truth, mpp=mpp)
    console.print_evaluation("all nuclei", report.overall)
    for name, evaluation in report.by_class.items():
        console.print_evaluation(name, evaluation)
    if images is not None:
        write_worst_page(worst, report, predicted, truth, images)
        console.out.print(f"worst images: {worst}", highlight=False)


@app.command("diff")
def diff_command(
    old: Annotated[Path, typer.Argument(help="GeoJSON, or a folder: OUT/SLIDE or another.")],
    new: Annotated[Path, typer.Argument(help="What became of it; the same kinds.")],
    write: Annotated[
        Path | None, typer.Option(help="Folder for a GeoJSON file of each kind of change.")
    ] = None,
) -> None:
    """Show what was corrected: nuclei added, deleted, reclassified, reshaped, renamed."""
    console.print_diff(diff(old, new, write))
    if write is not None:
        console.out.print(f"changes: {write}", highlight=False)


@app.command("apply")
def apply_command(
    edited: Annotated[Path, typer.Argument(help="GeoJSON that QuPath exported.")],
    result: Annotated[Path, typer.Argument(help="Result of the slide, OUT/SLIDE.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="The file holds some nuclei; those it lacks stay.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete what the file lacks, even most of the nuclei.")
    ] = False,
    drawn_class: Annotated[
        list[str] | None,
        typer.Option(help="Annotations of this class are nuclei drawn by hand; can be repeated."),
    ] = None,
) -> None:
    """Take nuclei that were corrected in QuPath back into a result, for good."""
    applied = apply_corrections(
        edited, result, partial=partial, yes=yes, drawn_class=drawn_class or ()
    )
    console.print_applied(applied)


@app.command("convert")
def convert_command(
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
    try:
        x, y = (float(part) for part in origin.split(","))
    except ValueError:
        raise SettingsError(f"--origin {origin}: give two numbers, x,y") from None
    done = convert(
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


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="GeoJSON, also .gz and .zip.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also for what is changed or lost.")
    ] = False,
    fix: Annotated[
        Path | None, typer.Option(help="Write the nearest file that QuPath takes as it is.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what QuPath 0.2 to 0.7 would do with GeoJSON files; exit with 1 if 0.7 aborts."""
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
            console.print_validation(reports[-1])
    judged = reports
    if fix is not None:
        done = repair(files[0], fix)
        judged = [validate_file(fix)]
        reports = reports + judged
        if not as_json:
            console.print_repair(done, fix)
            console.print_validation(judged[0])
    if as_json:
        print(orjson.dumps([report.as_dict() for report in reports]).decode())
    if failed or any(r.aborts() or (strict and not r.is_clean) for r in judged):
        raise typer.Exit(1)


@app.command()
def regions(
    result: Annotated[Path, typer.Argument(help="OUT/<slide>, as `run` wrote it.")],
    annotations: Annotated[
        Path | None, typer.Option(help="GeoJSON with annotations from QuPath.")
    ] = None,
) -> None:
    """Compute the numbers of a finished slide per slide, tissue and annotation."""
    console.print_regions(measure_regions(result, annotations))


@app.command()
def cohort(
    output: Annotated[Path, typer.Argument(help="Folder of results.")],
    manifest: Annotated[
        Path | None, typer.Option(help="CSV with a column slide, and others to join in.")
    ] = None,
) -> None:
    """Join the regions of all finished slides into one table."""
    console.print_regions(build_cohort(output, manifest))


def _number_or_auto(option: str, text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"{option} {text}: give a whole number from 1, or auto")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors become one sentence and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console.show_log_warnings()
    try:
        app(arguments, prog_name="wsi-engine")
    except EngineError as error:
        if "--debug" in arguments:
            raise
        console.print_error(str(error))
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            console.print_error(
                "interrupted: finished tiles are kept, and the same command goes on from there"
            )
        raise


if __name__ == "__main__":
    main()
