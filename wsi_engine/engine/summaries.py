"""What is computed from a finished result: the numbers of its regions, and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsi_engine.regions.measure import are_of, measure_regions, measure_regions_again
from wsi_engine.report.slide import report_on
from wsi_engine.results.layout import NUCLEI_TABLE, REGIONS_GEOJSON, REGIONS_TABLE, REPORT_FILE
from wsi_engine.results.record import Kind, read_record

_FACTS: dict[str, Kind] = {"files": dict}


def write_summaries(folder: Path, *, regions: bool, report: bool) -> None:
    """Write regions and page of a finished result, unless those of its nuclei are there already.

    To be called by the owner of the folder. Whoever was killed in between is made up for.

    Parameters
    ----------
    folder
        ``OUT/<slide>``.
    regions
        Write regions where there are none yet; those of other nuclei are renewed in any case.
    report
        Write the page where there is none.

    Raises
    ------
    EngineError
        When regions cannot be computed or written.
    """
    if not _has_regions(folder, read_record(folder, _FACTS), regions):
        if _are_there(folder):
            measure_regions_again(folder)
        else:
            measure_regions(folder)
    if not _has_page(folder, report):
        report_on(folder)


def has_summaries(folder: Path, record: dict[str, Any], *, regions: bool, report: bool) -> bool:
    """Whether `write_summaries` has nothing to do; ``record`` is the content of ``run.json``."""
    return _has_regions(folder, record, regions) and _has_page(folder, report)


def _has_regions(folder: Path, record: dict[str, Any], are_wanted: bool) -> bool:
    if not _are_there(folder):
        return not are_wanted
    try:
        return are_of(folder, record["files"][NUCLEI_TABLE]["sha256"])
    except (KeyError, TypeError):
        return False


def _are_there(folder: Path) -> bool:
    return (folder / REGIONS_TABLE).exists() and (folder / REGIONS_GEOJSON).exists()


def _has_page(folder: Path, is_wanted: bool) -> bool:
    return (folder / REPORT_FILE).exists() or not is_wanted
