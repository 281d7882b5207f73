"""Whatever a command writes beside a result is in a record, and was written by one alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import shapely

from tests.support.results import write_result
from wsi_engine.cli import main
from wsi_engine.errors import BusyError
from wsi_engine.regions.measure import measure_regions
from wsi_engine.report.cohort import write_cohort_report
from wsi_engine.report.slide import write_report
from wsi_engine.results.folder import ResultFolder
from wsi_engine.results.layout import COHORT_FILES, COHORT_WORK, REGION_FILES
from wsi_engine.results.publication import Publication
from wsi_engine.results.record import read_record
from wsi_engine.results.status import status_of
from wsi_engine.results.verify import problems_of, problems_of_cohort
from wsi_engine.store.claim import Claim

OF_THE_PAGE = ("report.html", "quality.json", "quality.geojson")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A result with all that can be made of it; its one nucleus-free corner raises a flag."""
    left = [(100, 100), (900, 900)]
    tissue = (shapely.box(0, 0, 1500, 1500), shapely.box(2000, 2000, 3900, 3900))
    folder = write_result(tmp_path / "slide", left, tissue=tissue)
    measure_regions(folder)
    write_report(folder)
    write_cohort_report(tmp_path)
    return tmp_path


def problems(out: Path) -> list[str]:
    # What is made by hand has no GeoJSON of nuclei.
    found = [*problems_of(out / "slide"), *problems_of_cohort(out)]
    return [problem for problem in found if "GeoJSON" not in problem]


def test_all_is_as_it_was_written(out: Path):
    assert problems(out) == []
    files = read_record(out / "slide").files
    assert files.keys() == {*REGION_FILES, *OF_THE_PAGE}
    assert not (out / COHORT_WORK).exists()
    assert not (out / "slide" / ".work").exists()


@pytest.mark.parametrize("name", [*REGION_FILES, *OF_THE_PAGE])
def test_a_line_more_is_noticed(out: Path, capsys: pytest.CaptureFixture[str], name: str):
    with (out / "slide" / name).open("a") as stream:
        stream.write("\n1")
    assert problems(out) == [f"{out / 'slide' / name} is not as it was written"]
    with pytest.raises(SystemExit) as end:
        main(["verify", str(out)])
    assert end.value.code == 1
    assert f"{name} is not as it was written" in capsys.readouterr().out


@pytest.mark.parametrize("name", COHORT_FILES[1:])
def test_of_a_cohort_too(out: Path, capsys: pytest.CaptureFixture[str], name: str):
    with (out / name).open("a") as stream:
        stream.write("\n1")
    assert problems(out) == [f"{out / name} is not as it was written"]
    with pytest.raises(SystemExit) as end:
        main(["verify", str(out)])
    assert end.value.code == 1
    assert f"{name} is not as it was written" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "files": 3}', "[" * 100_000])
def test_a_hostile_record_of_a_cohort_is_a_sentence(out: Path, content: str):
    (out / "cohort.json").write_text(content)
    [problem] = problems_of_cohort(out)
    assert "cohort.json" in problem
    write_cohort_report(out)
    assert problems(out) == []


def test_what_is_made_again_is_as_it_was_written(out: Path):
    (out / "slide" / "regions.csv").write_text("mine")
    measure_regions(out / "slide")
    write_report(out / "slide")
    assert problems(out) == []


@pytest.mark.parametrize("command", [measure_regions, write_report])
def test_a_folder_that_another_works_in_is_left_to_it(out: Path, command):
    before = {path: path.read_bytes() for path in (out / "slide").iterdir()}
    with ResultFolder(out, "slide"), pytest.raises(BusyError, match="another process works on"):
        command(out / "slide")
    assert {path: path.read_bytes() for path in (out / "slide").iterdir()} == before


def test_so_is_a_cohort_that_another_writes(out: Path):
    claim = Claim.take(out / COHORT_WORK)
    assert claim is not None
    with claim, pytest.raises(BusyError, match="another process writes the cohort"):
        write_cohort_report(out)


def test_a_cohort_that_was_cut_off_is_completed(out: Path, monkeypatch: pytest.MonkeyPatch):
    cut_off_in(write_cohort_report, out, monkeypatch)
    assert not (out / "cohort.json").exists()
    assert problems(out) == []
    write_cohort_report(out)
    assert (out / "cohort.json").exists()
    assert not (out / COHORT_WORK).exists()
    assert problems(out) == []


class Cut(BaseException):
    """As an interrupt from the keyboard: nothing catches it."""


def cut_off_in(command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command publish until the old record has gone, and no further."""
    complete = Publication.complete

    def cut(self: Publication) -> None:
        if self.ready.exists():
            (self.folder / self.record).unlink()
            raise Cut
        complete(self)

    with monkeypatch.context() as patched:
        patched.setattr(Publication, "complete", cut)
        with pytest.raises(Cut):
            command(folder)


@pytest.mark.parametrize("command", [measure_regions, write_report, "cohort"])
def test_a_publication_that_was_cut_off_is_completed_by_the_next_command(
    out: Path, monkeypatch: pytest.MonkeyPatch, command
):
    folder = out / "slide"
    cut_off_in(measure_regions, folder, monkeypatch)
    assert not (folder / "run.json").exists()
    assert problems(out) == []
    assert [status.state for status in status_of(out)] == ["unfinished"]
    write_cohort_report(out) if command == "cohort" else command(folder)
    assert [status.state for status in status_of(out)] == ["finished"]
    assert read_record(folder).files.keys() == {*REGION_FILES, *OF_THE_PAGE}
    assert problems(out) == []


def test_a_ready_file_that_was_harmed_is_named(out: Path, monkeypatch: pytest.MonkeyPatch):
    cut_off_in(measure_regions, out / "slide", monkeypatch)
    ready = out / "slide" / ".work" / "ready" / "regions.csv"
    ready.write_text("harmed")
    assert problems(out) == [f"{ready} is not as it was written"]


def test_a_run_vouches_for_all_that_it_wrote(finished_run: Path, tmp_path: Path):
    folder = Path(shutil.copytree(finished_run, tmp_path / "sample"))
    written = {path.name for path in folder.iterdir() if path.is_file()} - {"run.json"}
    assert written >= {"regions.csv", "report.html", "nuclei.parquet"}
    assert read_record(folder).files.keys() == written
    assert problems_of(folder) == []
    for name in written:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b"\n1")
        assert f"{folder / name} is not as it was written" in problems_of(folder)
        (folder / name).write_bytes(content)
