"""What is computed from a finished result: the numbers of its regions, and its page."""

from __future__ import annotations

from pathlib import Path

from wsi_engine.regions.finished import FinishedResult
from wsi_engine.regions.measure import (
    ANNOTATIONS,
    TABLE,
    are_current,
    measure_regions,
    measure_regions_again,
)
from wsi_engine.report.slide import REPORT_FILE, report_on


def sum_up(folder: Path, *, regions: bool, report: bool) -> None:
    """Write regions and page of a finished result, unless those of its nuclei are there already.

    To be called by the owner of the folder. Whoever was killed in between is made up for.

    Parameters
    ----------
    folder
        ``OUT/<slide>``.
    regions
        Also where there are none yet; those of other nuclei are renewed in any case.
    report
        Write the page where there is none.

    Raises
    ------
    EngineError
        When regions cannot be computed or written.
    """
    there = (folder / TABLE).exists() and (folder / ANNOTATIONS).exists()
    if (regions or there) and not (there and are_current(FinishedResult(folder))):
        if there:
            measure_regions_again(folder)
        else:
            measure_regions(folder)
    if report and not (folder / REPORT_FILE).exists():
        report_on(folder)
