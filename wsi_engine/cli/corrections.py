"""Commands for what was corrected in QuPath: diff, apply."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from wsi_engine.cli import console

if TYPE_CHECKING:
    from wsi_engine.corrections.diff import Diff
    from wsi_engine.engine.apply import Applied


def diff(
    old: Annotated[Path, typer.Argument(help="GeoJSON, or a folder: OUT/SLIDE or another.")],
    new: Annotated[Path, typer.Argument(help="What became of it; the same kinds.")],
    write: Annotated[
        Path | None, typer.Option(help="Folder for a GeoJSON file of each kind of change.")
    ] = None,
) -> None:
    """Show what was corrected: nuclei added, deleted, reclassified, reshaped, renamed."""
    from wsi_engine.corrections.diff import diff as compare

    _print_diff(compare(old, new, write))
    if write is not None:
        console.out.print(f"changes: {write}", highlight=False)


def apply(
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
    from wsi_engine.engine.apply import apply_corrections

    applied = apply_corrections(
        edited, result, partial=partial, yes=yes, drawn_class=drawn_class or ()
    )
    _print_applied(applied)


def _print_diff(difference: Diff) -> None:
    """Print how many objects were changed in which way, and which classes became which."""
    shown: dict[str, Any] = {kind: f"{count:,}" for kind, count in difference.counts.items()}
    if difference.counts["reshaped"]:
        shown["reshaped"] += f", IoU {difference.mean_iou:.3f} on average"
    console.print_facts(shown | {"unchanged": f"{difference.unchanged:,}"})
    drawn = {kind: f"{count:,}" for kind, count in difference.annotations.items() if count}
    if drawn:
        console.print_facts(drawn, "annotations")
    if difference.reclassified:
        table = Table("class before", "class now", "objects")
        for (old, new), count in difference.reclassified.most_common():
            table.add_row(escape(old or "none"), escape(new or "none"), f"{count:,}")
        console.out.print(table)
    for kind, count in difference.not_compared.items():
        console.print_warning(f"one of the versions has no {kind}s: {count:,} were not compared")
    _warn_of_ids(difference)


def _print_applied(applied: Applied) -> None:
    """Print what a corrected file changed, and what of it was left out."""
    console.print_facts(
        {
            "deleted": f"{applied.deleted:,}",
            "edited": f"{applied.edited:,}",
            "added": f"{applied.added:,}",
            "corrections": ", ".join(f"{n:,} {k}" for k, n in applied.corrections.counts.items()),
            "nuclei": f"{applied.nuclei:,}",
        }
        | ({"areas that were checked": f"{applied.checked:,}"} if applied.checked else {})
    )
    for kind, count in applied.left_out.items():
        console.print_warning(f"{count:,} objects are no nuclei and were left out: {kind}")
    if applied.left_out["annotation"]:
        console.print_warning(
            "annotations of nuclei drawn by hand come in with --drawn-class CLASS"
        )
    if applied.earlier_thresholds is not None:
        console.print_warning(
            f"the intensities in the file are those of {applied.earlier_thresholds}, which the "
            "result had before: they are left to its present thresholds, but for those that you "
            "changed"
        )
    _warn_of_ids(applied)


def _warn_of_ids(found: Diff | Applied) -> None:
    """Say how many objects have the id, or the place, of others."""
    if found.duplicates:
        console.print_warning(
            f"{found.duplicates:,} objects were passed over: earlier ones have the same id"
        )
    if found.by_place:
        console.print_warning(
            f"{found.by_place:,} nuclei have ids that the result does not know, and were known by "
            "their place: QuPath gives new ids to what is imported twice"
        )
    if found.overlapping:
        console.print_warning(
            f"{found.overlapping:,} of them were passed over: the nucleus in their place is there"
        )
