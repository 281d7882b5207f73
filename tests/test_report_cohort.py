"""The page of a cohort: a row per slide, groups side by side, and what failed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import shapely

from tests.support.pages import Page
from tests.support.results import write_result
from wsi_engine.archive.summary import TABLE, write_views
from wsi_engine.cli import main
from wsi_engine.errors import ResultError
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.writer import write_objects
from wsi_engine.regions.cohort import SUMMARY_COLUMNS
from wsi_engine.regions.measure import measure_regions
from wsi_engine.report.cohort import write_cohort_report
from wsi_engine.report.slide import write_report
from wsi_engine.results.failure import Failure, write_failure
from wsi_engine.results.finished import SlideResult

HOSTILE = "<script>alert(1)<b>&'\" #1?"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Four slides: one with a page, one without nuclei, one with a hostile name."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(["a", "b", HOSTILE.replace("/", "")]):
        places = rng.uniform(0, 4000, (40 + k, 2)).round(2)
        areas = rng.gamma(6, 5 + k, 40 + k)
        write_result(tmp_path / "out" / name, places, measurements={"Area µm^2": areas})
    write_result(tmp_path / "out" / "none", [])
    write_report(tmp_path / "out" / "a")
    write_report(tmp_path / "out" / HOSTILE)
    return tmp_path / "out"


def manifest(output: Path, *rows: str) -> Path:
    path = output.parent / "study.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def test_a_row_for_every_slide(output: Path):
    report = write_cohort_report(output)
    assert report.files[-1] == output / "cohort.html"
    page = Page(output / "cohort.html")
    assert "4 slides" in page.words
    assert "123 nuclei" in page.words
    assert "none 0 0 1" in page.words, "no nuclei, none per mm², on 1 mm²"
    assert page.text.count("<tr>") == 1 + 4


def test_the_summary_of_an_archive_is_a_manifest(output: Path):
    """What became of the runs would make the page unreadable, and has columns of its own."""
    archive = output.parent / "archive"
    archive.mkdir()
    write_views(archive)
    columns = (archive / TABLE).read_text("utf-8").splitlines()[0].split(",")
    assert frozenset(columns) == SUMMARY_COLUMNS
    facts = {"slide": "a", "reason": "a long sentence", "seconds": "12.5"}
    row = ",".join(facts.get(name, "x") for name in columns)
    path = manifest(output, ",".join([*columns, "patient"]), f"{row},007")
    table = write_cohort_report(output, path).table
    assert table.column_names[5:7] == ["patient", "Area mm^2"]
    words = Page(output / "cohort.html").words
    assert "007" in words
    assert "a long sentence" not in words


def test_notes_of_annotations_are_not_facts_of_slides(output: Path):
    drawn = PathObject(
        object_type="annotation",
        roi=ROI(shapely.box(0, 0, 900, 900)),
        metadata={"Stained by": "Ada"},
    )
    write_objects(output.parent / "drawn.geojson", [drawn])
    measure_regions(output / "a", output.parent / "drawn.geojson")
    assert "Ada" in write_cohort_report(output).table["Stained by"].to_pylist()
    assert "Stained by" not in Page(output / "cohort.html").words


def test_names_are_text_and_links_lead_to_the_pages(output: Path):
    write_cohort_report(output)
    page = Page(output / "cohort.html")
    assert len(page.links) == 2
    for link in page.links:
        assert (output / unquote(link)).is_file()
    assert HOSTILE in page.words
    assert "<b>" not in page.text


def test_cores_of_an_array_are_drawn_in_their_rows_and_columns(output: Path):
    write_cohort_report(output)
    assert "Cores" not in Page(output / "cohort.html").words
    kinds = {"A-1": False, "A-2": True, "A-10": False, "B-1": False}
    cores = [
        PathObject(
            object_type="tmaCore",
            roi=ROI(shapely.Point(300 * int(name[2:]), 900 * "0AB".index(name[0])).buffer(140)),
            name=name,
            id=f"12345678-0000-4000-8000-{k:012d}",
            is_missing=missing,
        )
        for k, (name, missing) in enumerate(kinds.items())
    ]  # fmt: skip
    write_objects(output.parent / "array.geojson", cores)
    measure_regions(output / "b", output.parent / "array.geojson")
    table = write_cohort_report(output).table
    page = Page(output / "cohort.html")
    assert "b: 4 cores, 1 missing" in page.words
    assert "A-2: missing" in page.words
    for row in table.to_pylist():
        if row["region"] in kinds and not kinds[row["region"]]:
            assert f"{row['region']}: {row['Nuclei']:.0f} nuclei, " in page.words
    drawn = page.text[page.text.index("<title>Cores of b</title>") :]
    names = re.findall(r'text-anchor="(?:middle|end)"[^>]*font-size="13"[^>]*>([^<]+)<', drawn)
    assert names == ["1", "2", "10", "A", "B"]


def test_the_only_script_is_the_one_that_sorts(output: Path):
    write_cohort_report(output)
    page = Page(output / "cohort.html")
    [script] = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    assert not re.search(r"fetch|XMLHttp|import\b|eval|http", script)


def test_a_folder_that_is_a_link_goes_by_the_name_of_the_link(tmp_path: Path):
    store = write_result(tmp_path / "store" / "0815", [(9, 9)])
    write_report(store)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case 1").symlink_to(store, target_is_directory=True)
    report = write_cohort_report(tmp_path / "out")
    assert set(report.table["slide"].to_pylist()) == {"case 1"}
    page = Page(tmp_path / "out" / "cohort.html")
    assert [unquote(link) for link in page.links] == ["case 1/report.html"]


def test_the_folder_one_stands_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(write_result(tmp_path / "case 1", []))
    Path("sub").mkdir()
    assert SlideResult(Path()).name == SlideResult(Path("../case 1/sub/..")).name == "case 1"


def test_flags_are_those_of_the_last_run(output: Path):
    write_cohort_report(output)
    assert Page(output / "cohort.html").text.count(">not checked<") == 2
    record = json.loads((output / "a" / "run.json").read_text())
    flags = json.loads((output / "a" / "quality.json").read_text())
    flags["flags"].append(
        {"name": "pen", "level": "bad", "value": 3.0, "unit": "mm²", "sentence": "Much pen."}
    )
    (output / "a" / "quality.json").write_text(json.dumps(flags))
    write_cohort_report(output)
    assert "✕ pen" in Page(output / "cohort.html").words
    flags["run_finished"] = "2020-01-01T00:00:00+00:00"
    assert flags["run_finished"] != record["finished"]
    (output / "a" / "quality.json").write_text(json.dumps(flags))
    write_cohort_report(output)
    assert Page(output / "cohort.html").text.count(">not checked<") == 3


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        # The column `group` first; else one that makes groups; patients make none.
        (["slide,site,group", "a,x,<i>", "b,x,ctrl", "none,y,ctrl"], ["by group", "ctrl: 2"]),
        (["slide,patient,site", "a,1,x", "b,2,x", "none,3,y"], ["by site", "x: 2 slides"]),
        (["slide,patient", "a,1", "b,2", "none,3"], ["Side by side Per slide"]),
    ],
)  # fmt: skip
def test_groups_of_the_manifest(output: Path, rows: list[str], told: list[str]):
    write_cohort_report(output, manifest(output, *rows, f'"{HOSTILE.replace(chr(34), chr(34) * 2)}"'
                        + "," * rows[0].count(",")))  # fmt: skip
    page = Page(output / "cohort.html")
    for words in told:
        assert words in page.words
    assert "<i>" not in page.text


def test_what_has_no_result_is_told(output: Path):
    (output / "half" / ".work" / "tiles").mkdir(parents=True)
    failure = Failure("the slide is <damaged>", "SlideError", 1, "", "", "")
    write_failure(output / "broken", failure)
    (output / "notes").mkdir()
    write_cohort_report(output)
    page = Page(output / "cohort.html")
    assert "2 without a result" in page.words
    assert "broken : the slide is <damaged>" in page.words
    assert "half : not finished" in page.words
    assert "notes" not in page.words


def test_many_slides_have_no_names_in_the_charts(tmp_path: Path):
    rng = np.random.default_rng(1)
    for k in range(61):
        values = {"Area µm^2": rng.gamma(6, 6, 5)}
        write_result(tmp_path / f"slide {k:02}", rng.uniform(0, 4000, (5, 2)), measurements=values)
    write_cohort_report(tmp_path)
    drawings = Page(tmp_path / "cohort.html").drawings
    words = " ".join("".join(text for text in drawing.itertext()) for drawing in drawings[1:])
    assert "slide 07" not in words


def test_the_command(output: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["cohort", str(output)])
    assert not end.value.code
    assert f"file: {output / 'cohort.html'}" in capsys.readouterr().out


def test_no_results(tmp_path: Path):
    with pytest.raises(ResultError, match="no finished result"):
        write_cohort_report(tmp_path)
