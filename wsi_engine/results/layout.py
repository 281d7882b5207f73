"""The names of the files of a result, ``OUT/<slide>``, and of a cohort, ``OUT``; nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

Name = str | re.Pattern[str]
"""Name of one file of the engine, or of several: whatever else lies in the folder is the user's."""


class TableFiles(NamedTuple):
    """A table in both of its forms, and what its columns mean."""

    parquet: str
    csv: str
    columns: str


RECORD = "run.json"
"""The record of the run, which lists the other files; a folder that has it is complete."""

NUCLEI_TABLE = "nuclei.parquet"
COLUMNS = "columns.json"
NUCLEI_FILES: Name = re.compile(r"nuclei(_\d{3,})?\.geojson\.gz")
TISSUE_FILE = "tissue.geojson"
ROI_FILE = "roi.geojson"
CORRECTIONS = "corrections.geojson.gz"

CLASSIFIER = "classifier.json"
DOUBTFUL = "doubtful.geojson"
CLASSIFIER_FILES = (CLASSIFIER, DOUBTFUL)
"""The classifier that gave the classes, and the nuclei of which it is least sure."""

REGIONS_GEOJSON = "regions.geojson"
REGIONS_TABLE = "regions.parquet"
REGIONS_CSV = "regions.csv"
REGIONS_COLUMNS = "regions_columns.json"
REGION_TABLE_FILES = TableFiles(REGIONS_TABLE, REGIONS_CSV, REGIONS_COLUMNS)
REGION_FILES = (REGIONS_GEOJSON, *REGION_TABLE_FILES)

REPORT_FILE = "report.html"
QUALITY_FILE = "quality.json"
QUALITY_GEOJSON = "quality.geojson"
THUMBNAIL_FILE = "thumbnail.jpg"
PAGE_FILES = (REPORT_FILE, QUALITY_FILE, QUALITY_GEOJSON, THUMBNAIL_FILE)

SUMMARY_FILES = (*REGION_FILES, *PAGE_FILES)
"""Files that describe a result; when the result is replaced, they go with it."""

FAILED_FILE = "failed.json"
EXPORTS = "exports"

WORK = ".work"
TILES = f"{WORK}/tiles"

GROWING = "growing"
"""In a folder of work: files that are being written."""
READY = "ready"
"""In a folder of work: files that are whole, and on the way to their names."""
REMOVED = "removed.json"
"""Beside them: the names of files that go when they come."""

COHORT_RECORD = "cohort.json"
COHORT_TABLE_FILES = TableFiles("cohort.parquet", "cohort.csv", "cohort_columns.json")
COHORT_PAGE = "cohort.html"
COHORT_FILES = (COHORT_RECORD, *COHORT_TABLE_FILES, COHORT_PAGE)
COHORT_WORK = ".cohort"


def geojson_name(number: int | None = None) -> str:
    """Return the name of a file of nuclei, of several the one with a number from 1."""
    return f"nuclei{'' if number is None else f'_{number:03d}'}.geojson.gz"


def files_called(folder: Path, *names: Name) -> list[Path]:
    """Return the files of a folder that have one of the names, sorted."""
    return sorted(
        path for path in folder.iterdir() if path.is_file() and is_called(path.name, *names)
    )


def is_called(file: str, *names: Name) -> bool:
    """Whether a file has one of the names."""
    return any(
        file == name if isinstance(name, str) else name.fullmatch(file) is not None
        for name in names
    )
