"""Commands that open a slide: measure, info, sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_engine.cli import console
from wsi_engine.cli.exit_codes import ExitCode
from wsi_engine.cli.progress import progress_display
from wsi_engine.cli.settings_options import takes_settings
from wsi_engine.results.layout import RECORD

if TYPE_CHECKING:
    from wsi_engine.engine.inspection import Inspection
    from wsi_engine.results.result import Result

SETTINGS_OF_MEASURING = (
    *("mpp", "tissue", "cells", "measure", "stains", "geojson_measurements", "tile_size"),
    *("split", "workers"),
)


@takes_settings(*SETTINGS_OF_MEASURING)
def measure(
    slide: Annotated[Path, typer.Argument(help="The slide.")],
    nuclei: Annotated[Path, typer.Argument(help="GeoJSON with nuclei, whoever found them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the result of a run that is there.")
    ] = False,
    **settings: Any,
) -> None:
    """Measure nuclei that are known already: shape, stains, texture, cytoplasm."""
    from wsi_engine.engine.measure import measure as measure_nuclei

    with progress_display() as observe:
        result = measure_nuclei(
            slide, nuclei, output, config=config, observe=observe, force=force, **settings
        )
    _print_measured(result)
    if not result.is_complete:
        raise typer.Exit(ExitCode.DAMAGED)


def info(
    slide: Annotated[Path, typer.Argument(help="A slide.")],
    mpp: Annotated[float | None, typer.Option(help="Pixel size in µm.")] = None,
    model: Annotated[str, typer.Option(help="Whose reading level to show.")] = "starconvex",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print it as JSON, and nothing else.")
    ] = False,
) -> None:
    """Show what is known of a slide and how the engine would read it."""
    from wsi_engine.engine.inspection import inspect
    from wsi_engine.models.registry import find_model

    found = inspect(slide, find_model(model).spec, mpp)
    if as_json:
        typer.echo(json.dumps(found.figures(), indent=2, ensure_ascii=False))
    else:
        _print_inspection(found)


def sample(
    path: Annotated[Path, typer.Argument(help="Slide to write, a .tif.")],
    seed: Annotated[int, typer.Option(help="Another seed, another tissue.")] = 0,
) -> None:
    """Write a small slide of drawn H&E tissue, and the truth about its nuclei."""
    from wsi_engine.sample import write_sample

    written = write_sample(path, seed)
    console.print_facts({"slide": written.slide_path, "truth": written.truth_path})


def _print_inspection(found: Inspection) -> None:
    facts = found.info
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
        "pixel size": "unknown",
    }
    if facts.mpp is not None:
        shown["pixel size"] = f"{facts.mpp.x:g} x {facts.mpp.y:g} µm ({facts.mpp_source})"
    if found.tissue is not None:
        pieces = len(found.tissue.pieces)
        shown["tissue"] = f"{found.tissue.area_mm2:.3f} mm² in {pieces} piece(s)"
    if found.stain is not None:
        shown["stain"] = found.stain.sentence
    if found.reading is not None:
        reading = found.reading
        assert facts.mpp is not None
        shown["read level"] = (
            f"{reading.level.index} ({reading.level.downsample * facts.mpp.mean:.4g} µm) "
            f"for {reading.model} at {reading.mpp} µm"
        )
        x, y = reading.pixel_um
        shown["model sees"] = f"{x:.4g} x {y:.4g} µm: {reading.reason}"
    console.print_facts(shown)
    for warning in found.warnings:
        console.print_warning(warning)


def _print_measured(result: Result) -> None:
    name = result.record.slide.name
    facts = {"slide": name, "nuclei": f"{result.count:,}", "folder": result.folder}
    console.print_facts(facts)
    for warning in result.record.warnings:
        console.print_warning(f"{name}: {warning}")
    if not result.is_complete:
        console.print_warning(f"{name}: damaged regions could not be read; {RECORD} lists them")
