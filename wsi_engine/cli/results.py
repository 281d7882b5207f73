"""Commands on finished results: regions, cohort, export, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from wsi_engine.cli import console
from wsi_engine.errors import SettingsError
from wsi_engine.export.formats import FORMATS, help_of
from wsi_engine.export.options import Which
from wsi_engine.results.layout import COHORT_TABLE_FILES

if TYPE_CHECKING:
    from wsi_engine.regions.measure import RegionReport


def regions(
    result: Annotated[Path, typer.Argument(help="OUT/<slide>, as `run` wrote it.")],
    annotations: Annotated[
        Path | None, typer.Option(help="GeoJSON with annotations from QuPath.")
    ] = None,
) -> None:
    """Compute the numbers of a finished slide per slide, tissue and annotation."""
    from wsi_engine.regions.measure import measure_regions

    _print_regions(measure_regions(result, annotations))


def cohort(
    output: Annotated[Path, typer.Argument(help="Folder of results.")],
    manifest: Annotated[
        Path | None, typer.Option(help="CSV with a column slide, and others to join in.")
    ] = None,
    all_columns: Annotated[
        bool,
        typer.Option("--all-columns", help="All columns in the CSV, the essential ones first."),
    ] = False,
) -> None:
    """Join the regions of all finished slides into one table, with a page to look at."""
    from wsi_engine.report.cohort import write_cohort_report

    written = write_cohort_report(output, manifest, all_columns=all_columns)
    _print_regions(written)
    if not all_columns:
        table = COHORT_TABLE_FILES.parquet
        text = f"all {written.table.num_columns} columns are in {table}, or --all-columns"
        console.out.print(text, highlight=False)


def report(
    result: Annotated[Path, typer.Argument(help="OUT/<slide>, as `run` wrote it.")],
    slide: Annotated[
        Path | None, typer.Option(help="Where the slide is, if it has moved since the run.")
    ] = None,
) -> None:
    """Write the page of a finished slide: maps, distributions, nuclei, quality."""
    from wsi_engine.report.slide import write_report

    page = write_report(result, slide)
    console.out.print(f"file: {page}", highlight=False, markup=False, soft_wrap=True)


def export(
    result: Annotated[Path, typer.Argument(help="OUT/<slide>, as `run` wrote it.")],
    to: Annotated[
        list[str],
        typer.Option(help=f"{', '.join(FORMATS)}, or one of another package; can be repeated."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File, or folder; by default OUT/<slide>/exports."),
    ] = None,
    um: Annotated[bool, typer.Option("--um", help=help_of("um"))] = False,
    measurements: Annotated[Which, typer.Option(help=help_of("measurements"))] = "all",
    split: Annotated[int | None, typer.Option(help=help_of("split"))] = None,
    mpp: Annotated[float | None, typer.Option(help=help_of("mpp"))] = None,
    labels: Annotated[bool, typer.Option("--labels", help=help_of("labels"))] = False,
    slide: Annotated[Path | None, typer.Option(help=help_of("slide"))] = None,
    mm: Annotated[bool, typer.Option("--mm", help=help_of("mm"))] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(help="name=value, for a format of another package; can be repeated."),
    ] = None,
) -> None:
    """Write the nuclei of a finished slide for other programs."""
    from wsi_engine.export.export import export_result

    pairs = [text.partition("=") for text in option or ()]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise SettingsError(f"--option {wrong[0]}: give name=value")
    files = export_result(
        result,
        to,
        output,
        um=um,
        measurements=measurements,
        split=split,
        mpp=mpp,
        labels=labels,
        slide=slide,
        mm=mm,
        options={name: value for name, _, value in pairs},
    )
    _print_files(files)


def _print_regions(report: RegionReport) -> None:
    """Print the first numbers of slides and annotations, and where those of all regions are."""
    names = ("slide", "region", "kind")
    numbers = {"Searched area mm^2": ",.3f", "Nuclei": ",.0f", "Nuclei per mm^2": ",.0f"}
    table = Table(*names, "mm²", "nuclei", "per mm²")
    rows = report.table.select([*names, *numbers]).to_pylist()
    pieces = sum(row["kind"] == "tissue" for row in rows)
    for row in rows:
        if row["kind"] == "tissue":
            continue
        values = [(row[name], form) for name, form in numbers.items()]
        cells = ["-" if value is None else format(value, form) for value, form in values]
        table.add_row(*[escape(row[name]) for name in names], *cells)
    console.out.print(table)
    if pieces:
        text = f"and {pieces:,} piece(s) of tissue, whose numbers are in the files"
        console.out.print(text, highlight=False)
    _print_files(report.files)


def _print_files(files: Sequence[Path]) -> None:
    for path in files:
        console.out.print(f"file: {path}", highlight=False, markup=False, soft_wrap=True)
