"""What is computed from a finished result: the numbers of its regions, and its page."""

from __future__ import annotations

from pathlib import Path

from wsi_engine.regions.measure import are_of, measure_regions_again, measure_regions_of_run
from wsi_engine.report.slide import report_on
from wsi_engine.results.folder import ResultFolder
from wsi_engine.results.layout import NUCLEI_TABLE, REGIONS_GEOJSON, REGIONS_TABLE, REPORT_FILE
from wsi_engine.results.record import Record, read_record


def write_summaries(held: ResultFolder, *, regions: bool, report: bool) -> None:
    """Write regions and page of a finished result, unless those of its nuclei are there already.

    Whoever was killed in between is made up for.

    Parameters
    ----------
    held
        The folder of the result.
    regions
        Write regions where there are none yet; those of other nuclei are renewed in any case.
    report
        Write the page where there is none.

    Raises
    ------
    EngineError
        When regions cannot be computed or written.
    """
    if not _has_regions(held.path, read_record(held.path), regions):
        if _are_there(held.path):
            measure_regions_again(held)
        else:
            measure_regions_of_run(held)
    if not _has_page(held.path, report):
        report_on(held)


def has_summaries(folder: Path, record: Record, *, regions: bool, report: bool) -> bool:
    """Whether `write_summaries` has nothing to do; ``record`` is that of the folder."""
    return _has_regions(folder, record, regions) and _has_page(folder, report)


def _has_regions(folder: Path, record: Record, are_wanted: bool) -> bool:
    if not _are_there(folder):
        return not are_wanted
    table = record.files.get(NUCLEI_TABLE)
    return table is not None and are_of(folder, table.sha256)


def _are_there(folder: Path) -> bool:
    return (folder / REGIONS_TABLE).exists() and (folder / REGIONS_GEOJSON).exists()


def _has_page(folder: Path, is_wanted: bool) -> bool:
    return (folder / REPORT_FILE).exists() or not is_wanted
