"""From a finished result to the tables of its regions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_engine.regions.notes import notes_of
from wsi_engine.regions.summary import all_columns, summarise
from wsi_engine.regions.tables import (
    IDENTITY,
    read_written_regions,
    region_table,
    write_annotations,
    write_table,
)
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.folder import ResultFolder
from wsi_engine.results.layout import (
    REGION_FILES,
    REGION_TABLE_FILES,
    REGIONS_GEOJSON,
    REGIONS_TABLE,
)
from wsi_engine.results.region import Region, read_drawn_regions
from wsi_engine.results.table_metadata import facts_of
from wsi_engine.writing import clear_write_errors


@dataclass(frozen=True)
class RegionReport:
    """The regions that were computed.

    Attributes
    ----------
    table
        One row per region, the slide first.
    files
        Paths of the files that were written.
    """

    table: pa.Table
    files: list[Path]

    def __repr__(self) -> str:
        return f"RegionReport({len(self.table)} regions, {self.table.num_columns} columns)"


def measure_regions(folder: str | Path, annotations: str | Path | None = None) -> RegionReport:
    """Compute the numbers of a finished slide, of its tissue and of annotations.

    Parameters
    ----------
    folder
        ``OUT/<slide>``; gets ``regions.parquet``, ``regions.csv``, ``regions_columns.json`` and
        ``regions.geojson``. Those of an earlier call are replaced.
    annotations
        GeoJSON from QuPath; they follow those that bounded the run. Nested annotations count
        each for itself.

    Returns
    -------
    RegionReport
        The table, a row per region, and the files that were written.

    Raises
    ------
    EngineError
        When the folder is no finished result, or annotations cannot be read; says what to do.

    Examples
    --------
    >>> import wsi_engine as we
    >>> regions = we.measure_regions("results/slide")
    >>> regions.table["kind"].to_pylist()
    ['slide', 'tissue']
    """
    with ResultFolder.of_result(Path(folder)) as held:
        result = SlideResult(held.path)
        more = [] if annotations is None else read_drawn_regions(Path(annotations))
        named_again = {region.id for region in more}
        of_run = [region for region in result.drawn if region.id not in named_again]
        return _measure(result, [*of_run, *more], held)


def measure_regions_of_run(held: ResultFolder) -> RegionReport:
    """Compute the numbers of a slide that was just finished, in its folder that is held.

    Raises
    ------
    EngineError
        One sentence that says what is wrong and what to do.
    """
    result = SlideResult(held.path)
    return _measure(result, result.drawn, held)


def measure_regions_again(held: ResultFolder) -> RegionReport:
    """Compute the numbers of the same regions as before, after the nuclei have changed.

    Raises
    ------
    EngineError
        One sentence that says what is wrong and what to do.
    """
    return _measure(SlideResult(held.path), read_written_regions(held.path), held)


def are_of(folder: Path, nuclei_sha256: str) -> bool:
    """Whether the regions that were written are of these nuclei."""
    try:
        facts = facts_of(pq.read_schema(folder / REGIONS_TABLE))
        return bool(facts["nuclei_sha256"] == nuclei_sha256)
    except (OSError, pa.ArrowException, TypeError, KeyError, ValueError):
        return False


def _measure(result: SlideResult, drawn: list[Region], held: ResultFolder) -> RegionReport:
    regions = [result.whole(), *_with_tissue(result.tissue, drawn)]
    figures = summarise(result, regions)
    slide = result.record.slide.model_dump(mode="json")
    facts = {"slide": slide, "nuclei_sha256": result.digest}
    numbers = [*all_columns(figures)]
    notes = notes_of(regions, {column.name for column in (*IDENTITY, *numbers)})
    table = region_table(result.name, regions, figures, facts, notes)
    columns = [*IDENTITY, *notes, *numbers]
    with clear_write_errors(held.path), held.adding(*REGION_FILES) as growing:
        write_table(table, columns, growing, REGION_TABLE_FILES)
        write_annotations(growing / REGIONS_GEOJSON, regions, figures)
    return RegionReport(
        table, [held.path / name for name in (*REGION_TABLE_FILES, REGIONS_GEOJSON)]
    )


def _with_tissue(tissue: list[Region], drawn: list[Region]) -> list[Region]:
    """Put tissue before annotations; tissue that came back from QuPath counts as tissue."""
    known = {piece.id for piece in tissue}
    returned = {region.id for region in drawn} & known
    return [
        *[piece for piece in tissue if piece.id not in returned],
        *[replace(region, kind="tissue") if region.id in known else region for region in drawn],
    ]
