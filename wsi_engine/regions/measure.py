"""From a finished result to the tables of its regions."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_engine.regions.summary import all_columns, summarise
from wsi_engine.regions.tables import (
    IDENTITY,
    read_written_regions,
    region_table,
    write_annotations,
    write_table,
)
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import REGIONS_GEOJSON, REGIONS_TABLE
from wsi_engine.results.region import Region, read_drawn_regions
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


def measure_regions(folder: str | Path, annotations: str | Path | None = None) -> RegionReport:
    """Compute the numbers of a finished slide, of its tissue and of annotations.

    Parameters
    ----------
    folder
        ``OUT/<slide>``; gets ``regions.parquet``, ``regions.csv``, ``regions_columns.json`` and
        ``regions.geojson``. Those of an earlier call are replaced.
    annotations
        GeoJSON from QuPath; without it those that bounded the run. Nested annotations count
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
    ['slide', 'tissue', 'tissue']
    """
    result = SlideResult(Path(folder))
    drawn = result.drawn if annotations is None else read_drawn_regions(Path(annotations))
    return _measure(result, drawn)


def measure_regions_again(folder: Path) -> RegionReport:
    """Compute the numbers of the same regions as before, after the nuclei have changed.

    Raises
    ------
    EngineError
        One sentence that says what is wrong and what to do.
    """
    return _measure(SlideResult(folder), read_written_regions(folder / REGIONS_GEOJSON))


def are_of(folder: Path, nuclei_sha256: str) -> bool:
    """Whether the regions that were written are of these nuclei."""
    try:
        facts = pq.read_schema(folder / REGIONS_TABLE).metadata[b"wsi_engine"]
        return bool(json.loads(facts)["nuclei_sha256"] == nuclei_sha256)
    except (OSError, pa.ArrowException, TypeError, KeyError, ValueError):
        return False


def _measure(result: SlideResult, drawn: list[Region]) -> RegionReport:
    regions = [result.whole(), *_with_tissue(result.tissue, drawn)]
    figures = summarise(result, regions)
    facts = {"slide": result.record["slide"], "nuclei_sha256": result.digest}
    table = region_table(result.name, regions, figures, facts)
    with clear_write_errors(result.folder):
        columns = [*IDENTITY, *all_columns(figures)]
        annotations = write_annotations(result.folder / REGIONS_GEOJSON, regions, figures)
        # The table comes last: it says of which nuclei all of them are.
        files = [*write_table(table, columns, result.folder / "regions"), annotations]
    return RegionReport(table, files)


def _with_tissue(tissue: list[Region], drawn: list[Region]) -> list[Region]:
    """Put tissue before annotations; tissue that came back from QuPath counts as tissue."""
    known = {piece.id for piece in tissue}
    returned = {region.id for region in drawn} & known
    return [
        *[piece for piece in tissue if piece.id not in returned],
        *[replace(region, kind="tissue") if region.id in known else region for region in drawn],
    ]
