"""The folder of a result: what is published is whole, and the user's files are nobody else's."""

from __future__ import annotations

import json
from pathlib import Path

from wsi_engine.engine.output import (
    NUCLEI_FILES,
    PAGE_FILES,
    REGION_FILES,
    ROI_FILE,
    ResultFolder,
    files_called,
)
from wsi_engine.writing import clear_write_errors

REPLACED = [NUCLEI_FILES, ROI_FILE, REGION_FILES, *PAGE_FILES]


def publish(out: Path, replaced=REPLACED, **contents: str) -> Path:
    """Publish files, whose names have two underscores for a dot."""
    with ResultFolder(out, "slide") as folder, clear_write_errors(folder.path):
        for name, text in contents.items():
            (folder.growing / name.replace("__", ".")).write_text(text)
        folder.publish({"about": "".join(contents.values())}, replaced)
    return folder.path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def record_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


OWN = (
    "nuclei.geojson.gz",
    "nuclei_001.geojson.gz",
    "nuclei_1000.geojson.gz",
    "roi.geojson",
    "regions.geojson",
    "regions.parquet",
    "regions.csv",
    "regions_columns.json",
    "report.html",
    "quality.json",
    "quality.geojson",
    "thumbnail.jpg",
)
USERS = (
    "nuclei_corrected.geojson.gz",
    "nuclei_01.geojson.gz",
    "nuclei.geojson.gz.bak",
    "my_nuclei.geojson.gz",
    "roi-geojson",
    "regions_tumour.geojson",
    "regions.xlsx",
    "quality.txt",
    "thumbnail_of_mine.jpg",
)


def test_a_new_result_replaces_what_told_of_the_earlier_one_and_nothing_else(tmp_path):
    folder = publish(tmp_path, nuclei__parquet="old")
    for name in OWN + USERS:
        (folder / name).write_text(name)
    (folder / "regions_old").mkdir()
    publish(tmp_path, nuclei__parquet="new")
    assert contents(folder).keys() == {*USERS, "nuclei.parquet", "run.json"}
    assert (folder / "regions_old").is_dir()


def test_folders_are_no_files_of_the_engine(tmp_path):
    for name in OWN:
        (tmp_path / name).mkdir()
    assert files_called(tmp_path, *REPLACED) == []
