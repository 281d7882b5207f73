"""What becomes of slides: kept in their folders, summed up in views, shown by exit codes."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.archives import (
    OPTIONS,
    SETTINGS,
    Heard,
    logged,
    results,
    write_slide,
    write_slides,
)
from tests.support.slides import overwrite_tile
from wsi_engine import Progress, run_archive
from wsi_engine import run as run_slide
from wsi_engine.archive.events import Event
from wsi_engine.archive.register import FOLDER
from wsi_engine.archive.run import ArchiveSummary
from wsi_engine.cli import ExitCode, main
from wsi_engine.engine.plan import make_plan
from wsi_engine.errors import EngineError, ListenerError, OutputError, SettingsError
from wsi_engine.results.failure import read_failure
from wsi_engine.results.status import status_of
from wsi_engine.store.claim import Claim


def run(inputs, output: Path, **options) -> tuple[ArchiveSummary, Heard]:
    heard = Heard()
    inputs = inputs if isinstance(inputs, list) else [inputs]
    return run_archive(inputs, output, listen=heard, **(SETTINGS | options)), heard


def table(output: Path) -> dict[str, dict[str, str]]:
    with (output / "summary.csv").open(encoding="utf-8", newline="") as stream:
        return {row["slide"]: row for row in csv.DictReader(stream)}


def rows(output: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(output / "archive.sqlite")) as database:
        return database.execute(query).fetchall()


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Two good slides, and between them one that is none."""
    write_slides(tmp_path / "slides", 2)
    (tmp_path / "slides" / "slide_000b.svs").write_text("no slide")
    return tmp_path / "slides"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


# --- one bad slide ----------------------------------------------------------------------------


def test_one_bad_slide_ends_as_failed_and_the_others_as_done(slides: Path, output: Path):
    summary, heard = run(slides, output)
    assert [outcome.name for outcome in summary.done] == ["slide_000", "slide_001"]
    (failed,) = summary.failed
    assert failed.failure == read_failure(output / "slide_000b")
    assert "slide_000b.svs" in failed.failure.reason
    assert (failed.failure.error, failed.failure.attempts) == ("SlideError", 1)
    assert failed.failure.traceback is None
    assert heard.computed() == ["slide_000", "slide_001"]
    assert set(results(output)) == {"slide_000", "slide_001"}


def test_done_is_not_done_again_and_failed_is_not_tried_again(slides: Path, output: Path):
    run(slides, output)
    before = results(output)
    summary, heard = run(slides, output)
    assert (len(summary.done), len(summary.failed), summary.computed) == (2, 1, 0)
    assert [event.event for event in heard.events] == ["archive_started", "archive_ended"]
    assert results(output) == before


def test_the_status_of_a_folder_shows_what_failed_and_why(slides: Path, output: Path):
    run(slides, output)
    states = {status.folder: (status.state, status.reason) for status in status_of(output)}
    reason = read_failure(output / "slide_000b").reason
    assert states == {
        "slide_000": ("finished", None),
        "slide_000b": ("failed", reason),
        "slide_001": ("finished", None),
    }


def test_failed_slides_are_tried_again_when_asked(slides: Path, output: Path):
    run(slides, output)
    summary, heard = run(slides, output, retry_failed=True)
    assert len(heard.of("slide_started")) == 1
    assert summary.failed[0].failure.attempts == 2
    shutil.copy(slides / "slide_000.tif", slides / "slide_000b.svs")
    summary, _ = run(slides, output, retry_failed=True)
    assert (len(summary.done), len(summary.failed)) == (3, 0)
    assert not (output / "slide_000b" / "failed.json").exists()
    assert table(output)["slide_000b"]["status"] == "done"


def test_a_failed_slide_is_tried_again_with_other_settings(tmp_path: Path, output: Path):
    write_slides(tmp_path / "slides", 1)
    summary, _ = run(tmp_path / "slides", output, roi=tmp_path / "absent.geojson")
    assert len(summary.failed) == 1
    summary, _ = run(tmp_path / "slides", output)
    assert len(summary.done) == 1


def test_classes_of_annotations_go_with_the_files_of_a_manifest(tmp_path: Path, output: Path):
    write_slides(tmp_path, 2)
    square = [[32, 32], [224, 32], [224, 224], [32, 224], [32, 32]]
    drawn = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "properties": {"objectType": "annotation", "classification": {"name": "Tumor"}},
    }
    (tmp_path / "roi.geojson").write_text(json.dumps(drawn))
    manifest = tmp_path / "study.csv"
    manifest.write_text("path,roi\nslide_000.tif,roi.geojson\nslide_001.tif,\n")
    summary, _ = run([], output, manifest=manifest, roi_class=("Tumor",))
    assert [outcome.name for outcome in summary.done] == ["slide_000"]
    assert "give --roi or --regions-model, too" in summary.failed[0].failure.reason


def test_a_slide_that_is_not_there_fails_and_the_rest_is_done(tmp_path: Path, output: Path):
    write_slide(tmp_path / "a.tif")
    (tmp_path / "study.csv").write_text("path\na.tif\nb.tif\n")
    summary, _ = run([], output, manifest=tmp_path / "study.csv")
    assert len(summary.done) == 1
    assert "b.tif: no such file" in summary.failed[0].failure.reason


def test_a_defect_on_one_slide_is_kept_with_its_traceback(slides: Path, output: Path, monkeypatch):
    calls = iter(range(100))

    def broken_once(*arguments):
        if next(calls) == 0:
            raise ZeroDivisionError("by a hair")
        return make_plan(*arguments)

    monkeypatch.setattr("wsi_engine.engine.run.make_plan", broken_once)
    summary, _ = run(slides, output)
    first = next(outcome for outcome in summary.failed if outcome.name == "slide_000")
    assert first.failure.reason == "ZeroDivisionError: by a hair"
    assert "broken_once" in first.failure.traceback
    assert [outcome.name for outcome in summary.done] == ["slide_001"]


def test_other_settings_are_refused_and_force_does_all_again(slides: Path, output: Path):
    run(slides, output)
    before = results(output)
    summary, _ = run(slides, output, simplify_um=1.0)
    assert len(summary.failed) == 3
    assert "simplify_um" in summary.failed[0].failure.reason
    assert results(output) == before
    assert not (output / "slide_000" / "failed.json").exists()
    summary, heard = run(slides, output, simplify_um=1.0, force=True)
    assert heard.computed() == ["slide_000", "slide_001"]
    assert results(output) != before


def test_tiles_of_another_machine_are_done_again_and_the_row_says_so(
    tmp_path: Path, output: Path, monkeypatch
):
    slide = write_slide(tmp_path / "slides" / "slide_000.tif", side=512, nuclei=50)
    settings = SETTINGS | {"tile_size": 64}

    def interrupt(progress: Progress) -> None:
        if progress.tiles == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_slide(slide, output, **settings, observe=interrupt)
    monkeypatch.setattr("wsi_engine.models.devices.processor_instructions", lambda _: "new")
    summary, heard = run(slide, output, tile_size=64)
    assert len(summary.done) == 1
    said = "tiles of an unfinished run were computed again, as they were computed with arithmetic"
    assert said in table(output)["slide_000"]["warning_texts"]
    assert [said in event.facts["text"] for event in heard.of("slide_warning")] == [True]
    record = json.loads((output / "slide_000" / "run.json").read_text(encoding="utf-8"))
    assert record["tiles"]["resumed"] == 0
    before = results(output)
    monkeypatch.undo()
    summary, _ = run(slide, output, tile_size=64)
    assert (len(summary.done), summary.computed) == (1, 0)
    assert results(output) == before
    run(slide, tmp_path / "whole", tile_size=64)
    assert results(tmp_path / "whole") == before


def test_a_slide_that_a_single_run_is_at_is_left_to_it(tmp_path: Path, output: Path):
    write_slides(tmp_path / "slides", 2)
    with Claim.take(output / "slide_000" / ".work"):
        summary, _ = run(tmp_path / "slides", output)
    assert [outcome.name for outcome in summary.claimed_by_another] == ["slide_000"]
    assert [outcome.name for outcome in summary.done] == ["slide_001"]
    assert not (output / "slide_000" / "failed.json").exists()


def test_a_full_disk_is_not_held_against_the_slide(slides: Path, output: Path, monkeypatch):
    def full(*arguments):
        raise OutputError("cannot write to out: the disk is full")

    monkeypatch.setattr("wsi_engine.engine.run.make_plan", full)
    summary, _ = run(slides, output)
    assert len(summary.failed) == 3
    assert not (output / "slide_000" / "failed.json").exists()
    monkeypatch.undo()
    summary, _ = run(slides, output)
    assert [outcome.name for outcome in summary.done] == ["slide_000", "slide_001"]


def test_a_disk_that_does_not_answer_is_not_held_against_the_slide(slides, output, monkeypatch):
    def gone(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("wsi_engine.engine.run.make_plan", gone)
    summary, _ = run(slides, output)
    assert len(summary.failed) == 3
    assert not (output / "slide_000" / "failed.json").exists()


@pytest.mark.parametrize("deaf_to", ["slide_started", "slide_progress", "slide_done"])
@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ValueError("no file")])
def test_a_log_that_breaks_ends_the_run_and_blames_no_slide(tmp_path, output, deaf_to, error):
    write_slides(tmp_path / "slides", 1)

    def listen(event: Event) -> None:
        if event.event == deaf_to:
            raise error

    with pytest.raises(ListenerError, match=f"cannot take '{deaf_to}' .*{error.args[-1]}"):
        run_archive([tmp_path / "slides"], output, listen=listen, **SETTINGS)
    assert not (output / "slide_000" / "failed.json").exists()
    summary, _ = run(tmp_path / "slides", output)
    assert len(summary.done) == 1


def test_a_slide_that_changed_is_looked_at_again(tmp_path: Path, output: Path):
    slide = write_slide(tmp_path / "slides" / "a.tif", 0)
    run(tmp_path / "slides", output)
    write_slide(slide, 1)
    _, heard = run(tmp_path / "slides", output)
    assert len(heard.of("slide_started")) == 1


@pytest.mark.parametrize("kind", [str, Path])
def test_the_public_call_takes_one_folder_as_it_is(slides: Path, output: Path, kind):
    assert len(run_archive(kind(slides), output, **SETTINGS).done) > 1


def test_the_public_call_refuses_what_cannot_work(slides: Path, output: Path):
    for options in (
        {"jobs": 0},
        {"scheduler": "tcp://a", "cluster": "slurm"},
        {"force": True, "share": (1, 2)},
        {"tilesize": 1},
    ):
        with pytest.raises(SettingsError):
            run(slides, output, **options)
    with pytest.raises(EngineError, match="unknown model"):
        run(slides, output, model="none")
    assert not output.exists()


# --- views ------------------------------------------------------------------------------------


def test_the_views_hold_every_slide_with_what_the_study_knows(slides: Path, output: Path):
    manifest = slides / "study.csv"
    text = "path,mpp,patient,group,status\nslide_000.tif,0.5,007,x,1\nslide_001.tif,,8,,2\n"
    manifest.write_text(text, encoding="utf-8")
    run(slides, output, manifest=manifest)
    shown = table(output)
    assert [(row["status"], row["patient"], row["group"]) for row in shown.values()] == [
        ("done", "007", "x"),
        ("failed", "", ""),
        ("done", "8", ""),
    ]
    record = json.loads((output / "slide_000" / "run.json").read_text(encoding="utf-8"))
    assert record["slide"]["mpp"] == {"x": 0.5, "y": 0.5}
    assert int(shown["slide_000"]["nuclei"]) == record["nuclei"]["count"]
    assert shown["slide_000b"]["error"] == "SlideError"
    assert rows(output, "SELECT slide, status, attempts FROM slide ORDER BY slide") == [
        ("slide_000", "done", None),
        ("slide_000b", "failed", 1),
        ("slide_001", "done", None),
    ]
    patients = "SELECT value FROM fact WHERE name = 'patient' ORDER BY slide"
    assert rows(output, patients) == [("007",), ("8",)]


def test_views_are_made_anew_from_the_folders(slides: Path, output: Path):
    run(slides, output)
    whole = table(output)
    (output / "summary.csv").unlink()
    (output / "archive.sqlite").write_text("damaged")
    shutil.rmtree(output / "slide_001")
    run(slides / "slide_000.tif", output)
    status = {name: row["status"] for name, row in table(output).items()}
    assert status == {"slide_000": "done", "slide_000b": "failed", "slide_001": "left"}
    assert rows(output, "SELECT count(*) FROM slide") == [(3,)]
    run(slides, output)
    for name, row in table(output).items():
        assert (row["status"], row["nuclei"]) == (whole[name]["status"], whole[name]["nuclei"])


RECORD = {
    "nuclei": {"count": 1, "area_mm2": 1},
    "tiles": {"count": 1, "megapixels": 1, "seconds": 1},
    "unreadable": [],
    "warnings": [],
    "slide": {"name": "slide_000.tif"},
    "finished": "",
}
FAILURE = {"reason": "", "error": "", "attempts": 1, "when": "", "host": "", "settings": ""}
HOSTILE = {
    "nuclei": {"count": 1, "area_mm2": []},
    "tiles": {"count": 1, "megapixels": 1, "seconds": 1},
    "unreadable": [],
    "warnings": [],
    "slide": {"name": "slide_000.tif"},
    "settings": 3,
    "finished": ["\udcff"],
}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"reason": 1}',
        '{"tiles": []}',
        "\xff",
        json.dumps(HOSTILE),
        "[" * 100_000,
        json.dumps(RECORD).replace('"count": 1', '"count": 1e999'),
        json.dumps(RECORD).replace('"count": 1', f'"count": {10**30}'),
        json.dumps(RECORD).replace('"megapixels": 1', f'"megapixels": {10**400}'),
        json.dumps(RECORD).replace('"area_mm2": 1', f'"area_mm2": {10**400}'),
        json.dumps(FAILURE).replace('"attempts": 1', f'"attempts": {10**30}'),
    ],
    ids=range(13),
)
@pytest.mark.parametrize("name", ["run.json", "failed.json"])
def test_a_hostile_record_counts_for_nothing(tmp_path: Path, output: Path, name: str, content: str):
    write_slides(tmp_path / "slides", 1)
    (output / "slide_000").mkdir(parents=True)
    (output / "slide_000" / name).write_bytes(content.encode("latin-1"))
    summary, _ = run(tmp_path / "slides", output)
    assert summary.computed + len(summary.failed) == 1
    assert len(rows(output, "SELECT * FROM slide")) == 1


# --- side by side -----------------------------------------------------------------------------


def test_two_drivers_at_once_do_no_slide_twice(tmp_path: Path, output: Path):
    write_slides(tmp_path / "slides", 30)
    found: list[tuple[ArchiveSummary, Heard]] = []

    def drive() -> None:
        found.append(run(tmp_path / "slides", output, wait=True))

    threads = [threading.Thread(target=drive) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (one, heard_by_one), (other, heard_by_other) = found
    computed = [*heard_by_one.computed(), *heard_by_other.computed()]
    assert len(computed) == len(set(computed)) == 30
    assert min(one.computed, other.computed) > 0
    assert len(one.done) == len(other.done) == 30


def test_what_others_are_at_is_left_to_them_and_said(tmp_path: Path, output: Path):
    write_slides(tmp_path / "slides", 3)
    with Claim.take(output / FOLDER / "claims" / "slide_001"):
        summary, heard = run(tmp_path / "slides", output)
    assert [outcome.name for outcome in summary.claimed_by_another] == ["slide_001"]
    assert heard.computed() == ["slide_000", "slide_002"]
    assert len(heard.of("slide_elsewhere")) == 1
    assert table(output)["slide_001"]["status"] == "left"
    summary, _ = run(tmp_path / "slides", output)
    assert (len(summary.done), summary.computed) == (3, 1)


def test_waiting_for_others_takes_over_what_they_leave(tmp_path: Path, output: Path):
    write_slides(tmp_path / "slides", 2)
    other = Claim.take(output / FOLDER / "claims" / "slide_001")
    assert other is not None
    threading.Timer(3, other.close).start()
    summary, heard = run(tmp_path / "slides", output, wait=True)
    assert heard.computed() == ["slide_000", "slide_001"]
    assert not summary.claimed_by_another


# --- the command line -------------------------------------------------------------------------


def cli(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["run", *map(str, arguments), *OPTIONS])
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def test_exit_codes_and_last_lines(capsys, slides: Path, output: Path):
    code, out, err = cli(capsys, slides, "-o", output)
    assert code == 1
    assert "2 slides" in out
    last = err.splitlines()[-1]
    assert last == f"warning: 1 slide failed; the reasons are in {output}/summary.csv"
    code, out, err = cli(capsys, slides, "-o", output)
    assert code == 1
    assert "2 were done already" in out
    assert "1 of them earlier: --retry-failed tries them again" in err.splitlines()[-1]
    (slides / "slide_000b.svs").unlink()
    assert cli(capsys, slides, "-o", output)[0] == 0


def test_a_damaged_slide_among_good_ones(capsys, tmp_path: Path, output: Path):
    write_slides(tmp_path / "slides", 1)
    damaged = write_slide(tmp_path / "slides" / "damaged.tif", 5)
    overwrite_tile(damaged, 0, 1, 1)
    code, _, err = cli(capsys, tmp_path / "slides", "-o", output)
    assert code == ExitCode.DAMAGED
    assert "damaged: 1 damaged region(s)" in err
    assert int(table(output)["damaged"]["damaged_regions"]) == 1


def test_slides_elsewhere_are_counted_in_one_line(capsys, tmp_path: Path, output: Path):
    write_slides(tmp_path / "slides", 3)
    claims = [Claim.take(output / FOLDER / "claims" / f"slide_00{k}") for k in range(2)]
    code, _, err = cli(capsys, tmp_path / "slides", "-o", output)
    for claim in claims:
        claim.close()
    assert code == 0
    assert "2 slides are being done elsewhere" in err


def test_the_log_has_an_object_per_event(capsys, slides: Path, output: Path, tmp_path: Path):
    log = tmp_path / "log.jsonl"
    code, out, err = cli(capsys, slides, "-o", output, "--log", log, "--log-format", "json")
    assert (code, out) == (1, "")
    lines = logged([log])
    assert [json.loads(line) for line in err.splitlines()] == lines
    names = [line["event"] for line in lines]
    assert (names[0], names[-1]) == ("archive_started", "archive_ended")
    assert names.count("slide_started") == 3
    assert names.count("slide_done") == 2
    done = next(line for line in lines if line["event"] == "slide_done")
    assert {"time", "slide", "worker", "computed", "nuclei", "tiles", "seconds"} <= done.keys()
    failed = next(line for line in lines if line["event"] == "slide_failed")
    assert failed["slide"] == "slide_000b"
    assert {"reason", "error", "attempts", "host"} <= failed.keys()
    ended = lines[-1]
    assert (ended["done"], ended["failed"], ended["computed"]) == (2, 1, 2)


def test_every_event_and_field_is_in_the_documentation(slides: Path, output: Path):
    page = (Path(__file__).parents[1] / "docs" / "archive.md").read_text(encoding="utf-8")
    _, heard = run(slides, output)
    for event in heard.events:
        assert f"`{event.event}`" in page
        for field in event.facts:
            assert f"`{field}`" in page, f"{event.event} has {field}"
    header = (output / "summary.csv").read_text(encoding="utf-8").splitlines()[0]
    for column in header.split(","):
        assert f"`{column}`" in page


def test_a_finished_slide_starts_no_cluster(capsys, tmp_path: Path, output: Path):
    slide = write_slide(tmp_path / "a.tif")
    assert cli(capsys, slide, "-o", output)[0] == 0
    nobody = ("--scheduler", "tcp://127.0.0.1:1")
    code, out, _ = cli(capsys, slide, "-o", output, *nobody)
    assert code == 0
    assert "already finished" in out
    code, _, err = cli(capsys, slide, "-o", output, *nobody, "--force")
    assert code == 1
    assert "no Dask scheduler answers" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name slides, a folder of them, or a --manifest"),
        (["SLIDES", "--share", "3/2"], "--share"),
        (["SLIDES", "--jobs", "0"], "--jobs"),
        (["SLIDES", "--log-format", "xml"], "--log-format xml"),
        (["SLIDES", "--cache-size", "much"], "--cache-size much"),
        (["SLIDES", "--cluster", "slurm"], "dask_jobqueue is not installed: pip install"),
        (["SLIDES", "--cluster", "cray"], "slurm, lsf, kubernetes"),
        (["SLIDES", "--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
        (["SLIDES", "--scheduler", "nowhere"], "no Dask scheduler answers"),
        (["SLIDES", "--cluster", "slurm", "--scheduler", "tcp://a"], "exclude each other"),
        (["ONE", "--cluster", "slurm", "--scheduler", "tcp://a"], "exclude each other"),
        (["SLIDES", "--share", "2/3", "--force"], "--force with --share"),
        (["SLIDES", "--manifest", "absent.csv"], "absent.csv: no such file"),
        (["SLIDES", "--log", "/nowhere/log"], "cannot write to /nowhere/log"),
    ],
)
def test_what_cannot_work_is_one_sentence(capsys, slides, output, arguments, words, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dask_jobqueue", None)
    named = {"SLIDES": slides, "ONE": slides / "slide_000.tif"}
    arguments = [named.get(argument, argument) for argument in arguments]
    code, _, err = cli(capsys, *arguments, "-o", output)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in err
    assert not list(output.glob("*/nuclei*"))
