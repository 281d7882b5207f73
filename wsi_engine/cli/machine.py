"""Commands about what is installed: models, warm-up, doctor, scripts and presets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from wsi_engine.bundled_files import Bundle, copy_bundle
from wsi_engine.cli import console
from wsi_engine.cli.exit_codes import ExitCode
from wsi_engine.cli.settings_options import takes_settings
from wsi_engine.config import make_settings

if TYPE_CHECKING:
    from wsi_engine.models.registry import ModelEntry


def models(
    check: Annotated[
        str | None,
        typer.Option(help="Try this model, by its name or card, and tell what is wrong with it."),
    ] = None,
) -> None:
    """List the models of nuclei, and those of regions."""
    from wsi_engine.models.regions.segmentor_spec import SPECS
    from wsi_engine.models.registry import available_models

    if check is not None:
        _check_model(check)
        return
    for name, entry in available_models().items():
        spec = entry.spec
        console.print_facts(
            {
                "what": spec.summary,
                "resolution": f"{spec.mpp:g} µm per pixel",
                "classes": ", ".join(spec.classes) or "none",
                "licence": spec.licence,
                "weights": _weights_of(entry),
            },
            title=name,
        )
    for name, regions in SPECS.items():
        console.print_facts(
            {
                "what": "Regions of tissue, for --regions-model; TIAToolbox",
                "resolution": f"{regions.mpp:g} µm per pixel",
                "classes": ", ".join(regions.regions),
                "weights": "downloaded when first used, or --regions-weights FILE",
            },
            title=name,
        )


def _weights_of(entry: ModelEntry) -> str:
    """Say where the weights of a model are from."""
    from wsi_engine.models import ensemble
    from wsi_engine.models.registry import package_of

    if entry.name == ensemble.NAME:
        return "those of the methods that vote"
    if entry.weights is not None:
        return "come with the package, or --weights FILE"
    if not entry.spec.embedded:
        return "downloaded when first used, or --weights FILE"
    package = package_of(entry.name)
    return "none needed" if package is None else f"come with {package}"


def _check_model(name: str) -> None:
    from wsi_engine.models.check import check_model

    with console.err.status("trying the model on drawn tissue"):
        findings = check_model(name)
    for finding in findings:
        console.out.print(finding, highlight=False, markup=False, soft_wrap=True)
    if findings:
        raise typer.Exit(ExitCode.FAILED)
    console.out.print(f"{name} keeps every promise", highlight=False, markup=False, soft_wrap=True)


@takes_settings("model", "weights", "tile_size")
def warm_up(
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    **settings: Any,
) -> None:
    """Compile for this processor now, so that no run has to."""
    from wsi_engine.engine.warm_up import warm_up as run_through_a_sample
    from wsi_engine.engine.workers.devices import compile_network

    with console.err.status("compiling the network, a minute or so"):
        compiled = compile_network(make_settings(config, **settings))
    with console.err.status("compiling what decodes and measures, some 15 s"):
        run_through_a_sample(config, **settings)
    console.out.print("decoding and measuring are compiled")
    if compiled:
        console.out.print("the next runs use the compiled network")


def qupath_scripts(
    folder: Annotated[Path, typer.Argument(help="Folder for the scripts.")],
) -> None:
    """Write the scripts that import results in QuPath, run the engine there, and export."""
    _copy("qupath_scripts", folder)


def configs(folder: Annotated[Path, typer.Argument(help="Folder for the presets.")]) -> None:
    """Write the presets of settings for --config, and batch scripts."""
    _copy("configs", folder)


def _copy(bundle: Bundle, folder: Path) -> None:
    for path in copy_bundle(bundle, folder):
        console.out.print(f"file: {path}", highlight=False, markup=False, soft_wrap=True)


def doctor() -> None:
    """Look at this machine: torch, device, compiler, OpenSlide, extras."""
    from wsi_engine.doctor import examine

    table = Table("what", "found", "advice")
    for finding in examine():
        table.add_row(*map(escape, (finding.name, finding.value, finding.advice)))
    console.out.print(table)
