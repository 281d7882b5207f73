"""The record of a result is typed, has a format number, and is read in one place."""

from __future__ import annotations

import json

import pytest

from tests.support.results import make_record, write_result
from wsi_engine.cli import main
from wsi_engine.errors import ResultError
from wsi_engine.regions.measure import measure_regions
from wsi_engine.results.facts import MeasuredNuclei, NucleusSource
from wsi_engine.results.record import FORMAT, MeasureRecord, RunRecord, read_record, read_run_record
from wsi_engine.results.status import status_of
from wsi_engine.results.verify import problems_of


def changed(folder, **facts):
    """Change, or with ``None`` remove, what is told at the top."""
    record = json.loads((folder / "run.json").read_text("utf-8")) | facts
    kept = {name: value for name, value in record.items() if value is not None}
    (folder / "run.json").write_text(json.dumps(kept), "utf-8")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_result(tmp_path / "slide", [(9, 9), (99, 99)], classes=("A",), split=50)


def test_what_is_written_comes_back(folder):
    record = read_record(folder)
    assert type(record) is RunRecord
    assert json.loads((folder / "run.json").read_text("utf-8"))["format"] == FORMAT
    (folder / "run.json").write_text(record.text(), "utf-8")
    assert read_record(folder) == record
    assert (record.nuclei.count, record.model.classes, record.settings.split) == (2, ("A",), 50)
    assert record.settings.tile_size == "auto"


def test_the_record_of_measuring_is_of_another_kind(folder):
    facts = dict(make_record()) | {
        "nuclei": MeasuredNuclei(count=2, left_out=1),
        "model": NucleusSource(name="nuclei.geojson", classes=()),
    }
    names = MeasureRecord.model_fields.keys() - {"format"}
    written = MeasureRecord(**{name: facts[name] for name in names})
    (folder / "run.json").write_text(written.text(), "utf-8")
    assert read_record(folder) == written
    with pytest.raises(ResultError, match="`wsi-engine measure` wrote it"):
        read_run_record(folder)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (None, r"an earlier one wrote it\): run the slide again with --force"),
        (0, r"an earlier one wrote it, in format 0\): run the slide again with --force"),
        ("1", r"an earlier one wrote it, in format 1\): run the slide again with --force"),
        (True, r"an earlier one wrote it, in format True\): run the slide again with --force"),
        (FORMAT + 1, rf"a later one wrote it, in format {FORMAT + 1}\): update wsi-engine"),
        (10**400, r"a later one wrote it, in format 10{19}\): update wsi-engine"),
    ],
)
def test_another_format_is_told_in_one_sentence(folder, capsys, number, sentence):
    changed(folder, format=number)
    with pytest.raises(ResultError, match=sentence):
        measure_regions(folder)
    assert [status.state for status in status_of(folder)] == ["damaged"]
    [problem] = problems_of(folder)
    assert "\n" not in problem
    with pytest.raises(SystemExit) as end:
        main(["report", str(folder)])
    assert end.value.code == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("facts", "lacks"),
    [
        ({"nuclei": None}, "nuclei"),
        ({"nuclei": {"count": -1, "area_mm2": 1, "density_per_mm2": 1}}, "nuclei.count"),
        ({"nuclei": {"count": 2**63, "area_mm2": 1, "density_per_mm2": 1}}, "nuclei.count"),
        ({"nuclei": {"count": True, "area_mm2": 1, "density_per_mm2": 1}}, "nuclei.count"),
        ({"nuclei": {"count": 1, "area_mm2": "1", "density_per_mm2": 1}}, "nuclei.area_mm2"),
        ({"nuclei": {"count": 1, "area_mm2": float("nan")}}, "nuclei.area_mm2"),
        ({"files": {"x": {"bytes": 1}}}, r"files\.x\.sha256"),
        ({"files": []}, "files"),
        ({"files": {"a" * 256: {"bytes": 1, "sha256": ""}}}, r"files\.a+\.\[key\]"),
        ({"files": {"\0": {"bytes": 1, "sha256": ""}}}, "files\\.\0\\.\\[key\\]"),
        ({"files": None}, "files"),
        ({"settings": {"tissue": 1}}, r"settings\.tissue"),
        ({"warnings": [3]}, r"warnings\.0"),
        ({"unreadable": [{}]}, r"unreadable\.0\.x_min"),
    ],
)
def test_a_value_of_another_type_is_named(folder, facts, lacks):
    changed(folder, **facts)
    with pytest.raises(ResultError, match=rf"run\.json is .*\(it does not tell {lacks}\)"):
        read_record(folder)
