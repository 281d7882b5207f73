"""Commands that open a slide: measure, info, sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_engine.cli import console
from wsi_engine.cli.console import DAMAGED
from wsi_engine.cli.progress import progress_display
from wsi_engine.cli.settings_options import takes_settings
from wsi_engine.errors import ResolutionError
from wsi_engine.results.layout import RECORD

if TYPE_CHECKING:
    from wsi_engine.results.result import Result

SETTINGS_OF_MEASURING = (
    *("mpp", "tissue", "measure", "stains", "geojson_measurements", "tile_size", "split"),
    "workers",
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
        raise typer.Exit(DAMAGED)


def info(
    slide: Annotated[Path, typer.Argument(help="A slide.")],
    mpp: Annotated[float | None, typer.Option(help="Pixel size in µm.")] = None,
    model: Annotated[str, typer.Option(help="Whose reading level to show.")] = "starconvex",
) -> None:
    """Show what is known of a slide and how the engine would read it."""
    from wsi_engine.models.registry import find_model
    from wsi_engine.slide.grid_reader import GridReader
    from wsi_engine.slide.opening import open_slide
    from wsi_engine.slide.resolution import resolution_warnings, with_resolution
    from wsi_engine.slide.tissue import find_tissue
    from wsi_engine.slide.whole_pixels import make_model_grid, reason_for

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
        reader = GridReader(opened, make_model_grid(usable, spec.mpp))
        grid, level = reader.grid, reader.level
        shown["pixel size"] = f"{usable.mpp.x:g} x {usable.mpp.y:g} µm ({usable.mpp_source})"
        shown["tissue"] = f"{tissue.area_mm2:.3f} mm² in {len(tissue.pieces)} piece(s)"
        shown["read level"] = (
            f"{level.index} ({level.downsample * usable.mpp.mean:.4g} µm) "
            f"for {spec.name} at {spec.mpp} µm"
        )
        shown["model sees"] = (
            f"{grid.pixel.x:.4g} x {grid.pixel.y:.4g} µm: {reason_for(grid, spec.mpp)}"
        )
        console.print_facts(shown)
        if tissue.unreadable:
            console.print_warning(
                f"{facts.path.name} is damaged: {len(tissue.unreadable)} region(s) cannot be read"
            )
        for warning in resolution_warnings(facts, mpp):
            console.print_warning(warning)


def sample(
    path: Annotated[Path, typer.Argument(help="Slide to write, a .tif.")],
    seed: Annotated[int, typer.Option(help="Another seed, another tissue.")] = 0,
) -> None:
    """Write a small slide with two fields of tissue, one with known truth."""
    from wsi_engine.sample import write_sample

    written = write_sample(path, seed)
    console.print_facts({"slide": written.slide_path, "truth": written.truth_path})


def _print_measured(result: Result) -> None:
    name = result.record.slide.name
    facts = {"slide": name, "nuclei": f"{result.count:,}", "folder": result.folder}
    console.print_facts(facts)
    for warning in result.record.warnings:
        console.print_warning(f"{name}: {warning}")
    if not result.is_complete:
        console.print_warning(f"{name}: damaged regions could not be read; {RECORD} lists them")
