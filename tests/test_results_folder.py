"""The folder of a result: what is published is whole, and the user's files are nobody else's."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.results import make_record
from tests.support.runs import in_a_process
from wsi_engine.errors import OutputError, ResultError
from wsi_engine.results.facts import FileFacts
from wsi_engine.results.folder import ResultFolder, describe_file
from wsi_engine.results.layout import (
    CORRECTIONS,
    NUCLEI_FILES,
    PAGE_FILES,
    REGION_FILES,
    ROI_FILE,
    files_called,
)
from wsi_engine.results.record import read_record
from wsi_engine.results.status import status_of
from wsi_engine.results.verify import problems_of
from wsi_engine.writing import clear_write_errors

REPLACED = [NUCLEI_FILES, ROI_FILE, *REGION_FILES, *PAGE_FILES]


def publish(out: Path, replaced=REPLACED, **contents: str) -> Path:
    """Publish files, whose names have two underscores for a dot."""
    with ResultFolder(out, "slide") as folder, clear_write_errors(folder.path):
        for name, text in contents.items():
            (folder.growing / name.replace("__", ".")).write_text(text)
        folder.publish(make_record(), replaced)
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


FILES = ("columns.json", "nuclei.parquet", "nuclei.geojson.gz")
OLD = ("columns.json", "nuclei.parquet", "nuclei_001.geojson.gz")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("made", [True, False], ids=["corrections come", "corrections go"])
def test_killed_before_any_step_the_old_result_or_the_new_one_is_there(tmp_path, made):
    """Whoever comes next finds it whole; until then nothing that is told of it is wrong."""
    step, code, seen = 0, -signal.SIGKILL, []
    while code:
        out = tmp_path / str(step)
        old = (*OLD, *(() if made else (CORRECTIONS,)))
        folder = publish(out, **{name.replace(".", "__"): "old" for name in old})
        (folder / "mine.txt").write_text("mine")
        code = in_a_process(publish_and_die, out, made, step)
        was_published = (folder / "run.json").exists()
        assert_told_as_it_is(folder)
        with ResultFolder(out, "slide"):
            pass
        assert_whole(folder)
        age = (folder / "columns.json").read_text()
        new = (*FILES, *((CORRECTIONS,) if made else ()))
        assert contents(folder).keys() == {*(old if age == "old" else new), "run.json", "mine.txt"}
        assert set(contents(folder).values()) == {age, "mine", (folder / "run.json").read_text()}
        assert not (folder / ".work").exists()
        seen.append((was_published, age))
        step += 1
    assert [age for _, age in seen] == sorted((age for _, age in seen), reverse=True)
    # Of some of the moments each: before, in between, afterwards.
    assert {(True, "old"), (False, "new"), (True, "new")} <= set(seen)


def assert_whole(folder: Path) -> None:
    """The record is of what lies there."""
    files = {name: FileFacts(**facts) for name, facts in record_of(folder)["files"].items()}
    assert files == {
        path.name: describe_file(path)
        for path in folder.iterdir()
        if path.is_file() and path.name not in ("run.json", "mine.txt")
    }


def assert_told_as_it_is(folder: Path) -> None:
    is_there = (folder / "run.json").exists()
    (status,) = status_of(folder)
    assert status.state == ("finished" if is_there else "unfinished")
    assert not [problem for problem in problems_of(folder) if "as a table" not in problem]
    if is_there:
        assert_whole(folder)
        return
    with pytest.raises(ResultError, match="are on their way"):
        read_record(folder)


def publish_and_die(out: Path, made: bool, step: int) -> None:
    """Publish, and be killed in front of a step that changes the folder of the result."""
    done = [0]

    def counted(function):
        def count(path, *arguments, **options):
            done[0] += 1
            if done[0] > step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(path, *arguments, **options)

        return count

    class Dying(ResultFolder):
        def publish(self, *arguments):
            kept = {name: getattr(os, name) for name in ("replace", "rename", "unlink", "fsync")}
            for name, function in kept.items():
                setattr(os, name, counted(function))
            try:
                return super().publish(*arguments)
            finally:
                for name, function in kept.items():
                    setattr(os, name, function)

    with Dying(out, "slide") as folder:
        for name in (*FILES, CORRECTIONS) if made else FILES:
            (folder.growing / name).write_text("new")
        folder.publish(make_record(), [NUCLEI_FILES, CORRECTIONS])


@pytest.mark.parametrize("names", ["{", "{}", '"ab"', "[3]", '["../x"]', '[".."]', "[" * 100_000])
def test_what_is_ready_and_spoilt_is_told_in_a_sentence_and_touches_nothing(tmp_path, names):
    folder = publish(tmp_path, nuclei__parquet="old")
    (tmp_path / "x").touch()
    ready = folder / ".work" / "ready"
    ready.mkdir(parents=True)
    (ready / "run.json").write_text(make_record().text())
    (ready / "removed.json").write_text(names)
    with pytest.raises(ResultError, match=r"removed\.json cannot be read"):
        publish(tmp_path, nuclei__parquet="new")
    assert contents(folder)["nuclei.parquet"] == "old"
    assert (folder / "run.json").exists()
    assert (tmp_path / "x").exists()


def test_corrections_that_were_exchanged_are_in_the_record_as_they_are(tmp_path):
    folder = publish(tmp_path, nuclei__parquet="old", corrections__geojson__gz="old")
    (folder / CORRECTIONS).write_text("exchanged")
    publish(tmp_path, nuclei__parquet="new")
    assert (
        record_of(folder)["files"][CORRECTIONS] == describe_file(folder / CORRECTIONS).model_dump()
    )


def test_the_record_tells_of_files_that_stay_and_not_of_those_that_went(tmp_path):
    folder = publish(tmp_path, nuclei__parquet="old", tissue__geojson="old", roi__geojson="old")
    publish(tmp_path, nuclei__parquet="new")
    assert record_of(folder)["files"].keys() == {"nuclei.parquet", "tissue.geojson"}
