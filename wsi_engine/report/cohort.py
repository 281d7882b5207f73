"""The page of all slides of a folder: `cohort.html`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsi_engine.regions.cohort import SLIDE, join_regions, write_cohort_table
from wsi_engine.regions.measure import RegionReport
from wsi_engine.regions.notes import CORE_PLACE
from wsi_engine.regions.tables import IDENTITY
from wsi_engine.report.cohort_charts import Group, boxes_by_group, dots_by_group
from wsi_engine.report.cores import Core, grid_of_cores
from wsi_engine.report.page import write_page
from wsi_engine.report.pictures import data_uri
from wsi_engine.report.slide import SHOWN_AS_HISTOGRAM
from wsi_engine.results.cohort_folder import growing_cohort
from wsi_engine.results.failure import read_failure
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import (
    COHORT_PAGE,
    COHORT_TABLE_FILES,
    FAILED_FILE,
    RECORD,
    REPORT_FILE,
    THUMBNAIL_FILE,
    WORK,
)
from wsi_engine.results.quality_files import read_flags
from wsi_engine.slide.quality.flag import Flag

FIRST_FIGURE = "Area mm^2"
GROUP = "group"
MOST_GROUPS = 8


@dataclass(frozen=True)
class SlideRow:
    """One slide in the table of a cohort.

    Attributes
    ----------
    thumbnail
        Data URI; ``None`` where there is none.
    page
        Path of the slide's own page, relative to the cohort's.
    facts
        Facts of the slide in the manifest.
    flags
        Flags that are not ok; ``None`` where the slide has not been checked since its run.
    """

    name: str
    thumbnail: str | None
    page: str | None
    facts: list[str | None]
    nuclei: float | None
    area_mm2: float | None
    density: float | None
    flags: list[Flag] | None


def write_cohort_report(
    output: str | Path, manifest: str | Path | None = None, *, all_columns: bool = False
) -> RegionReport:
    """Join all finished slides of a folder into one table, and write its page.

    Parameters
    ----------
    output
        Folder of results; gets ``cohort.html`` beside the files of ``build_cohort``.
    manifest
        CSV with a column ``slide`` and any others. Distributions are shown by the column
        ``group``, else by the first that puts slides into two to eight groups.
    all_columns
        As for ``build_cohort``.

    Returns
    -------
    RegionReport
        The table and the files that were written.

    Raises
    ------
    ResultError, ManifestError
        When ``build_cohort`` raises it.

    Examples
    --------
    >>> import wsi_engine as we
    >>> we.write_cohort_report("results").files[-1].name
    'cohort.html'
    """
    output = Path(output)
    table, columns = join_regions(output, None if manifest is None else Path(manifest))
    with growing_cohort(output) as growing:
        write_cohort_table(table, columns, growing, all_columns=all_columns)
        _write_page(growing / COHORT_PAGE, output, table)
    return RegionReport(table, [output / name for name in (*COHORT_TABLE_FILES, COHORT_PAGE)])


def _write_page(path: Path, output: Path, table: pa.Table) -> None:
    slides = table.filter(pc.equal(table["kind"], "slide"))
    names: list[str] = slides[SLIDE].to_pylist()
    first = slides.column_names.index(FIRST_FIGURE)
    between = slides.column_names[len(IDENTITY) : first]
    # Places of cores and notes of annotations are not of slides.
    facts = [name for name in between if any(slides[name].to_pylist())]
    rows = [_slide_row(output / row[SLIDE], row, facts) for row in slides.to_pylist()]
    group = _group_column(slides, facts)
    groups = _groups(names, slides[group].to_pylist() if group else [None] * len(names))
    write_page(
        path,
        "cohort_page.html",
        rows=rows,
        facts=facts,
        group=group,
        unfinished=_unfinished(output),
        nuclei=sum(row.nuclei or 0 for row in rows),
        area_mm2=sum(row.area_mm2 or 0 for row in rows),
        charts=_charts(slides, groups),
        arrays=_arrays(table),
    )


def _slide_row(folder: Path, row: dict[str, Any], facts: list[str]) -> SlideRow:
    flags = read_flags(SlideResult(folder))
    thumbnail = folder / THUMBNAIL_FILE
    return SlideRow(
        name=row[SLIDE],
        thumbnail=data_uri(thumbnail.read_bytes()) if thumbnail.exists() else None,
        page=f"{folder.name}/{REPORT_FILE}" if (folder / REPORT_FILE).exists() else None,
        facts=[row[name] for name in facts],
        nuclei=row["Nuclei"],
        area_mm2=row["Searched area mm^2"],
        density=row["Nuclei per mm^2"],
        flags=None if flags is None else [flag for flag in flags if flag.level != "ok"],
    )


def _group_column(slides: pa.Table, facts: list[str]) -> str | None:
    """Choose the column by which slides are put beside each other."""
    if GROUP in facts:
        return GROUP
    for name in facts:
        values = set(slides[name].to_pylist())
        if 2 <= len(values) <= MOST_GROUPS and len(values) < len(slides):
            return name
    return None


def _groups(names: list[str], values: list[str | None]) -> list[Group]:
    members: dict[str | None, list[int]] = {}
    for k, value in enumerate(values):
        members.setdefault(value, []).append(k)
    order = sorted(members, key=lambda value: (value is None, value or ""))
    only = len(order) == 1 and order[0] is None
    return [
        Group(
            name="" if only else value or "not stated",
            slides=[names[k] for k in members[value]],
            rows=members[value],
        )
        for value in order
    ]


def _charts(slides: pa.Table, groups: list[Group]) -> list[dict[str, Any]]:
    charts = [
        {
            "title": "Nuclei per mm²",
            "picture": dots_by_group(
                "Nuclei per mm² of each slide", groups, slides["Nuclei per mm^2"].to_pylist()
            ),
        }
    ]
    for name in SHOWN_AS_HISTOGRAM:
        columns = [f"{name}: {rank}" for rank in ("P5", "P25", "Median", "P75", "P95")]
        if set(columns) <= set(slides.column_names):
            ranks = list(zip(*(slides[column].to_pylist() for column in columns), strict=True))
            title = name.replace("^2", "²")
            charts.append({"title": title, "picture": boxes_by_group(title, groups, ranks)})
    return charts


def _arrays(table: pa.Table) -> list[dict[str, Any]]:
    """Return the slides that are microarrays, with their cores as a picture."""
    row, column, missing = (note.name for note in CORE_PLACE)
    if row not in table.column_names:
        return []
    cores: dict[str, list[Core]] = {}
    for one in table.to_pylist():
        if one[row] is not None:
            core = Core(one["region"], one[row], one[column], one.get(missing) == "yes",
                        one["Nuclei"], one["Nuclei per mm^2"])  # fmt: skip
            cores.setdefault(one[SLIDE], []).append(core)
    return [
        {
            "title": slide,
            "missing": sum(core.missing for core in of_slide),
            "count": len(of_slide),
            "picture": grid_of_cores(slide, of_slide),
        }
        for slide, of_slide in cores.items()
    ]


def _unfinished(output: Path) -> list[tuple[str, str]]:
    """Return the slides that have no result, and why, as far as it is known."""
    found = []
    for folder in sorted(path for path in output.iterdir() if path.is_dir()):
        if (folder / RECORD).exists():
            continue
        if (folder / FAILED_FILE).exists():
            failure = read_failure(folder)
            found.append((folder.name, failure.reason if failure is not None else "failed"))
        elif (folder / WORK).exists():
            found.append((folder.name, "not finished: the same `wsi-engine run` goes on"))
    return found
