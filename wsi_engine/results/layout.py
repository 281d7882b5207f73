"""The names of the files of a result, ``OUT/<slide>``, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

Name = str | re.Pattern[str]
"""Name of one file of the engine, or of several: whatever else lies in the folder is the user's."""

RECORD = "run.json"
"""The record of the run, which lists the other files; a folder that has it is complete."""

NUCLEI_TABLE = "nuclei.parquet"
COLUMNS = "columns.json"
NUCLEI_FILES: Name = re.compile(r"nuclei(_\d{3,})?\.geojson\.gz")
TISSUE_FILE = "tissue.geojson"
ROI_FILE = "roi.geojson"
CORRECTIONS = "corrections.geojson.gz"

REGIONS_GEOJSON = "regions.geojson"
REGIONS_TABLE = "regions.parquet"
REGIONS_CSV = "regions.csv"
REGIONS_COLUMNS = "regions_columns.json"
REGION_FILES = (REGIONS_GEOJSON, REGIONS_TABLE, REGIONS_CSV, REGIONS_COLUMNS)

REPORT_FILE = "report.html"
QUALITY_FILE = "quality.json"
QUALITY_GEOJSON = "quality.geojson"
THUMBNAIL_FILE = "thumbnail.jpg"
PAGE_FILES = (REPORT_FILE, QUALITY_FILE, QUALITY_GEOJSON, THUMBNAIL_FILE)
"""Files that describe a result; when the result is replaced, they go with it."""

FAILED_FILE = "failed.json"
EXPORTS = "exports"

WORK = ".work"
TILES = f"{WORK}/tiles"


def geojson_name(number: int | None = None) -> str:
    """Return the name of a file of nuclei, of several the one with a number from 1."""
    return f"nuclei{'' if number is None else f'_{number:03d}'}.geojson.gz"


def files_called(folder: Path, *names: Name) -> list[Path]:
    """Return the files of a folder that have one of the names, sorted."""
    wanted = [re.compile(re.escape(name)) if isinstance(name, str) else name for name in names]
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and any(name.fullmatch(path.name) for name in wanted)
    )
