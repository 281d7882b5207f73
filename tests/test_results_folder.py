"""The folder of a result: what is published is whole, and the user's files are nobody else's."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.runs import in_a_process
from wsi_engine.errors import OutputError
from wsi_engine.results.folder import ResultFolder, describe_file
from wsi_engine.results.layout import (
    CORRECTIONS,
    NUCLEI_FILES,
    PAGE_FILES,
    REGION_FILES,
    ROI_FILE,
    files_called,
)
from wsi_engine.writing import clear_write_errors

REPLACED = [NUCLEI_FILES, ROI_FILE, *REGION_FILES, *PAGE_FILES]


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


def test_a_disk_that_is_full_when_the_record_is_written_leaves_the_earlier_result(
    tmp_path, monkeypatch
):
    folder = publish(tmp_path, nuclei__parquet="old", columns__json="old")
    before, write = contents(folder), Path.write_text

    def full(path: Path, text: str, **options: str) -> int:
        if "run.json" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="disk is full"):
        publish(tmp_path, nuclei__parquet="new", columns__json="new")
    assert contents(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("made", [True, False], ids=["corrections come", "corrections go"])
def test_killed_before_any_step_a_record_is_of_what_lies_there(tmp_path, made):
    """Where there is none, the corrections of now are there before anything else is."""
    step, code = 0, -signal.SIGKILL
    while code:
        out = tmp_path / str(step)
        old = {"columns__json": "old", "nuclei__parquet": "old", "nuclei_001__geojson__gz": "old"}
        if not made:
            old["corrections__geojson__gz"] = "old"
        folder = publish(out, **old)
        code = in_a_process(publish_and_die, out, made, step)
        if (folder / "run.json").exists():
            files = record_of(folder)["files"]
            assert files == {
                path.name: describe_file(path)
                for path in folder.iterdir()
                if path.is_file() and path.name != "run.json"
            }
        elif (folder / "columns.json").read_text() == "new":
            assert (folder / CORRECTIONS).exists() == made
        step += 1
    assert step > 6
    assert set(contents(folder).values()) - {"new"} == {(folder / "run.json").read_text()}


def publish_and_die(out: Path, made: bool, step: int) -> None:
    """Publish, and be killed in front of a step that changes the folder of the result."""
    done = [0]

    def counted(function):
        def count(path, *arguments, **options):
            if not str(path).endswith("probe"):
                done[0] += 1
                if done[0] > step:
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(path, *arguments, **options)

        return count

    class Dying(ResultFolder):
        def publish(self, *arguments):
            kept = os.replace, os.unlink
            os.replace, os.unlink = counted(os.replace), counted(os.unlink)
            try:
                super().publish(*arguments)
            finally:
                os.replace, os.unlink = kept

    with Dying(out, "slide") as folder:
        names = ["columns.json", "nuclei.parquet", "nuclei.geojson.gz"]
        for name in [*names, CORRECTIONS] if made else names:
            (folder.growing / name).write_text("new")
        folder.publish({}, [NUCLEI_FILES, CORRECTIONS])


def test_corrections_that_were_exchanged_are_in_the_record_as_they_are(tmp_path):
    folder = publish(tmp_path, nuclei__parquet="old", corrections__geojson__gz="old")
    (folder / CORRECTIONS).write_text("exchanged")
    publish(tmp_path, nuclei__parquet="new")
    assert record_of(folder)["files"][CORRECTIONS] == describe_file(folder / CORRECTIONS)


def test_the_record_tells_of_files_that_stay_and_not_of_those_that_went(tmp_path):
    folder = publish(tmp_path, nuclei__parquet="old", tissue__geojson="old", roi__geojson="old")
    publish(tmp_path, nuclei__parquet="new")
    assert record_of(folder)["files"].keys() == {"nuclei.parquet", "tissue.geojson"}
