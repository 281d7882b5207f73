"""Many slides, one table: the regions of all results, joined with what a study knows of them."""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.parquet as pq

from wsi_engine.errors import ManifestError, ResultError
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.regions.cohort_columns import (
    QUALITY,
    essential_columns,
    essential_first,
    quality_flags,
)
from wsi_engine.regions.measure import RegionReport, measure_regions
from wsi_engine.regions.tables import IDENTITY, write_table
from wsi_engine.results.cohort_folder import growing_cohort
from wsi_engine.results.finished import SlideResult, finished_results
from wsi_engine.results.folder import ResultFolder, is_interrupted
from wsi_engine.results.layout import COHORT_TABLE_FILES, REGIONS_COLUMNS, REGIONS_TABLE
from wsi_engine.results.summary_row import COLUMNS
from wsi_engine.results.table_metadata import facts_of
from wsi_engine.study import read_study

log = logging.getLogger(__name__)

SLIDE, PATH = "slide", "path"

SUMMARY_COLUMNS = frozenset(COLUMNS)
"""Columns of a ``summary.csv`` that tell of its runs, and not of its study."""


@dataclass(frozen=True)
class Manifest:
    """What a study knows of its slides.

    Attributes
    ----------
    path
        Path of the file that was read.
    columns
        Names of the columns, without that of the slide.
    rows
        Values, as they were written (patient 007 stays 007), by the name of the slide, or by the
        absolute path where the manifest has paths.
    """

    path: Path
    columns: tuple[str, ...]
    rows: dict[str, tuple[str | None, ...]]


def build_cohort(
    output: str | Path, manifest: str | Path | None = None, *, all_columns: bool = False
) -> RegionReport:
    r"""Join the regions of all finished slides in a folder into one table.

    Parameters
    ----------
    output
        Folder of results; gets ``cohort.parquet``, ``cohort.csv`` and ``cohort_columns.json``.
        Slides whose regions were not computed yet get those of slide and tissue.
    manifest
        CSV with a column ``slide`` (names with or without suffix) and any others: patient,
        group… They follow the names of slide and region.
    all_columns
        Give ``cohort.csv`` all columns, and not the essential ones only, which come first. All
        are in ``cohort.parquet`` in any case.

    Returns
    -------
    RegionReport
        The table, a row per region of each slide, and the files that were written.

    Raises
    ------
    ResultError
        When there is no finished slide, or regions are of other nuclei than the result.
    ManifestError
        When the manifest cannot be read, names a slide twice, or by a name that several have.

    Examples
    --------
    >>> from pathlib import Path
    >>> import wsi_engine as we
    >>> _ = Path("study.csv").write_text("slide,patient\nslide.tif,007\n")
    >>> cohort = we.build_cohort("results", "study.csv")
    >>> set(cohort.table["patient"].to_pylist())
    {'007'}
    """
    output = Path(output)
    table, columns = join_regions(output, None if manifest is None else Path(manifest))
    with growing_cohort(output) as growing:
        write_cohort_table(table, columns, growing, all_columns=all_columns)
    return RegionReport(table, [output / name for name in COHORT_TABLE_FILES])


def write_cohort_table(
    table: pa.Table, columns: Sequence[Column], folder: Path, *, all_columns: bool
) -> None:
    """Write the table of `build_cohort` and what its columns mean into a folder."""
    essential = essential_columns(table)
    shown = essential_first(table.column_names, essential) if all_columns else essential
    write_table(table, columns, folder, COHORT_TABLE_FILES, shown)


def join_regions(output: Path, manifest: Path | None) -> tuple[pa.Table, list[Column]]:
    """Return the table of `build_cohort` and what its columns mean, without writing it."""
    folders = list(finished_results(output))
    if not folders:
        raise ResultError(f"{output} holds no finished result: run slides into it first")
    study = read_manifest(manifest) if manifest is not None else None
    for folder in filter(is_interrupted, folders):
        with ResultFolder.of_result(folder):
            pass  # entering it completes it
    results = [SlideResult(folder) for folder in folders]
    tables, dictionaries = zip(*[_regions_of(result) for result in results], strict=True)
    table = pa.concat_tables(tables, promote_options="default").replace_schema_metadata(None)
    meanings = {column.name: column for columns in dictionaries for column in columns}
    if study is not None:
        table = _joined(table, study, results)
        meanings |= {
            name: Column(name, "", "as written for the slide", study.path.name)
            for name in study.columns
        }
    flags = {result.name: quality_flags(result) for result in results}
    values = [flags[slide] for slide in table[SLIDE].to_pylist()]
    table = table.append_column(QUALITY.name, pa.array(values, pa.string()))
    meanings[QUALITY.name] = QUALITY
    return table, [meanings[name] for name in table.column_names]


def read_manifest(path: Path) -> Manifest:
    """Read the table of a study; the one that `wsi-engine run` was given serves, too.

    Paths are relative to the manifest. Of the ``summary.csv`` of an archive is taken what the study
    says of its slides, and not what became of the runs.

    Raises
    ------
    ManifestError
        When it cannot be read, has no column ``slide`` or ``path``, or names a slide twice.
    """
    study = read_study(path)
    key = next((name for name in (SLIDE, PATH) if name in study.columns), None)
    if key is None:
        raise ManifestError(
            f"{path.name} has no column {SLIDE!r}; it has {', '.join(study.columns)}"
        )
    of_runs = SUMMARY_COLUMNS if set(study.columns) >= SUMMARY_COLUMNS else {key}
    columns = tuple(name for name in study.columns if name not in of_runs)
    rows: dict[str, tuple[str | None, ...]] = {}
    for number, values in study.rows:
        written = values[key]
        if written is None:
            raise ManifestError(f"{path.name}: line {number} names no slide")
        slide = os.path.realpath(path.parent / written) if key == PATH else PurePath(written).name
        if slide in rows:
            raise ManifestError(f"{path.name} names slide {slide} twice: keep one row of it")
        rows[slide] = tuple(values[name] for name in columns)
    return Manifest(path, columns, rows)


def _joined(table: pa.Table, study: Manifest, results: Sequence[SlideResult]) -> pa.Table:
    """Add the columns of a study behind those that name slide and region."""
    clash = sorted(set(study.columns) & set(table.column_names))
    if clash:
        raise ManifestError(
            f"{study.path.name}: the table has a column {clash[0]!r} of its own: rename it"
        )
    rows = _rows_by_slide(study, results)
    slides = table[SLIDE].to_pylist()
    for k, name in enumerate(study.columns):
        values = [rows[slide][k] if slide in rows else None for slide in slides]
        table = table.add_column(len(IDENTITY) + k, name, pa.array(values, pa.string()))
    return table


class _Owners:
    """The results that a manifest may mean: by folder, else by path, else by the slide's name.

    A result whose path the manifest has belongs to that row, whatever other rows are called.
    """

    def __init__(self, study: Manifest, results: Sequence[SlideResult]) -> None:
        self._folders = {result.name for result in results}
        self._paths: defaultdict[str, set[str]] = defaultdict(set)
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        for result in results:
            path = result.record.slide_path
            self._paths[path].add(result.name)
            for name in () if path in study.rows else result.names:
                self._names[name].add(result.name)

    def of(self, written: str) -> set[str]:
        """Return the folders of a slide as a manifest names it."""
        if written in self._folders:
            return {written}
        return self._paths.get(written) or self._names.get(PurePath(written).name) or set()


def _rows_by_slide(
    study: Manifest, results: Sequence[SlideResult]
) -> dict[str, tuple[str | None, ...]]:
    """Find the row of each result."""
    rows: dict[str, tuple[str | None, ...]] = {}
    without_result = []
    owners = _Owners(study, results)
    for written, row in study.rows.items():
        meant = owners.of(written)
        if not meant:
            without_result.append(written)
            continue
        if len(meant) > 1:
            raise ManifestError(
                f"{study.path.name}: {PurePath(written).name} may be {' or '.join(sorted(meant))}: "
                f"name the folder of the result in a column {SLIDE!r}"
            )
        [slide] = meant
        if slide in rows:
            raise ManifestError(f"{study.path.name} names slide {slide} twice: keep one row of it")
        rows[slide] = row
    without_row = sorted({result.name for result in results} - rows.keys())
    if without_row:
        log.warning(
            "%s has no row for %s: values are left empty", study.path.name, ", ".join(without_row)
        )
    if without_result:
        log.warning(
            "%s names slides without a result: %s",
            study.path.name,
            ", ".join(sorted(without_result)),
        )
    return rows


def _regions_of(result: SlideResult) -> tuple[pa.Table, list[Column]]:
    """Read the regions of a result and what their columns mean; compute them if need be."""
    path = result.folder / REGIONS_TABLE
    if not path.exists():
        measure_regions(result.folder)
    with _readable(path):
        table = pq.read_table(path)
        nuclei = facts_of(table.schema)["nuclei_sha256"]
    if nuclei != result.digest:
        raise ResultError(
            f"{path} is of other nuclei than those that are there now: compute it again with "
            f"`wsi-engine regions {result.folder}`"
        )
    path = result.folder / REGIONS_COLUMNS
    with _readable(path):
        entries = {entry["name"]: Column(**entry) for entry in json.loads(path.read_bytes())}
        columns = [entries[name] for name in table.column_names]
    slides = pa.array([result.name] * len(table), pa.string())
    return table.set_column(0, SLIDE, slides), columns


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowInvalid, TypeError, KeyError, ValueError) as error:
        raise ResultError(
            f"{path} cannot be read ({error}): compute it again with "
            f"`wsi-engine regions {path.parent}`"
        ) from None
