"""`wsi-engine validate`: what it prints, what it exits with, what --fix leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wsi_engine.cli import main
from wsi_engine.engine.run import run
from wsi_engine.qupath.rules.rule import Severity
from wsi_engine.qupath.validation import validate
from wsi_engine.sample import SampleTruth

RING = [[0, 0], [8, 0], [8, 5.25], [0, 5], [0, 0]]


def an_object(ring=RING, identity="9f0d26a1-0000-4000-8000-000000000001", **properties):
    return {
        "type": "Feature",
        "id": identity,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "detection"} | properties,
    }


FILES = {
    "fine.geojson": [an_object()],
    "advice.geojson": [{"type": "Feature", "geometry": an_object()["geometry"]}],
    "changed.geojson": [an_object([[0, 0], [8.125, 0], [8, 5], [0, 0]])],
    "lost.geojson": [an_object(area=5)],
    "aborts.geojson": [an_object(), an_object(classification={"name": "Tumor"})],
    "old.geojson": [an_object(measurements={"a": "NaN"})],  # only 0.4 aborts
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, document in FILES.items():
        (tmp_path / name).write_text(json.dumps(document))
    return tmp_path


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["validate", *map(str, arguments)])
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize(
    ("names", "code", "strict"),
    [
        (["fine.geojson"], 0, 0),
        (["advice.geojson"], 0, 0),
        (["changed.geojson"], 0, 1),
        (["lost.geojson"], 0, 1),
        (["old.geojson"], 0, 0),
        (["aborts.geojson"], 1, 1),
        (["fine.geojson", "lost.geojson"], 0, 1),
        (["aborts.geojson", "fine.geojson"], 1, 1),
        (["gone.geojson", "fine.geojson"], 1, 1),
        (["gone.geojson"], 1, 1),
    ],
)
def test_exit_codes(capsys, folder, names, code, strict):
    paths = [folder / name for name in names]
    assert run_cli(capsys, *paths)[0] == code
    assert run_cli(capsys, *paths, "--strict")[0] == strict


def test_what_is_printed(capsys, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    _, out, err = run_cli(capsys, folder / "aborts.geojson")
    assert f"{folder / 'aborts.geojson'}: 2 objects; QuPath 0.7 aborts the import" in out
    for words in (
        "class-without-colour",
        "aborts since 0.4",
        "A classification object without color ends the import.",
        "feature 1 (9f0d26a1-0000-4000-8000-000000000001): 'Tumor' has no color",
    ):
        assert words in out
    assert err == ""


def test_what_is_printed_fits_80_columns(capsys, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run_cli(capsys, folder / "aborts.geojson")
    lines = out.splitlines()[1:]
    assert max(map(len, lines)) <= 80
    words = " ".join(out.split())
    assert "feature 1 (9f0d26a1-0000-4000-8000-000000000001): 'Tumor' has no color" in words


def test_what_older_versions_mind_is_told_on_request(capsys, folder):
    path = folder / "old.geojson"
    _, out, _ = run_cli(capsys, path)
    assert out == f"{path}: 1 object; QuPath 0.7 imports all of it as it is\n"
    code, out, _ = run_cli(capsys, path, "--qupath", "0.4")
    assert code == 1
    assert "QuPath 0.4 aborts the import" in out
    assert "measurement-as-text: aborts in 0.4" in out


def test_a_file_is_mended_for_the_version_that_is_asked(capsys, folder):
    path, target = folder / "old.geojson", folder / "mended.geojson"
    assert run_cli(capsys, path, "--qupath", "0.4", "--strict", "--fix", target)[0] == 0
    assert not validate(target).aborts("0.4")
    assert "measurements" not in json.loads(target.read_text())["features"][0]["properties"]


def test_an_unknown_version_is_an_error(capsys, folder):
    code, _, err = run_cli(capsys, folder / "fine.geojson", "--qupath", "8")
    assert code == 1
    assert err == "error: --qupath 8: give one of 0.2, 0.3, 0.4, 0.5, 0.6, 0.7\n"


@pytest.mark.parametrize("raw", [b"[null, null]", "[]".encode("utf-16"), b"\x1f\x8b\x08"])
def test_a_file_of_which_nothing_could_be_mended_is_a_failure(capsys, folder, raw):
    path = folder / "nothing.geojson"
    path.write_bytes(raw)
    assert run_cli(capsys, path, "--fix", folder / "mended.geojson")[0] == 1


def test_a_fine_file_is_one_line(capsys, folder):
    path = folder / "fine.json"
    path.write_text(json.dumps([an_object(objectType="annotation")]))
    _, out, _ = run_cli(capsys, path)
    assert out == f"{path}: 1 object; QuPath 0.7 imports all of it as it is\n"


def test_names_and_values_are_not_taken_for_markup(capsys, folder):
    path = folder / "[bold]x[-red].geojson"
    path.write_text(json.dumps([an_object(**{"[/bold]": 1})]))
    code, out, err = run_cli(capsys, path)
    assert (code, err) == (0, "")
    assert "[bold]x[-red].geojson" in out
    assert "[/bold]" in out


def test_json_for_scripts(capsys, folder):
    code, out, _ = run_cli(capsys, folder / "fine.geojson", folder / "aborts.geojson", "--json")
    fine, aborts = json.loads(out)
    assert code == 1
    assert fine["verdicts"]["0.7"] == "fine"
    assert aborts["verdicts"] == dict.fromkeys(("0.2", "0.4", "0.5", "0.6", "0.7"), "aborts") | {
        "0.3": "changed"
    }
    (finding,) = (f for f in aborts["findings"] if f["rule"] == "class-without-colour")
    assert finding["count"] == 1
    assert finding["examples"][0]["feature"] == 1


def test_fix_writes_a_clean_file_and_says_what_it_changed(capsys, folder):
    target = folder / "fixed.geojson.gz"
    code, out, _ = run_cli(capsys, folder / "aborts.geojson", "--strict", "--fix", target)
    assert code == 0
    assert "  gave a class its colour (in feature 1 (9f0d26a1-" in out
    assert "  gave an object another id than that of an earlier one (in feature 1" in out
    report = validate(target)
    assert (report.objects, report.is_clean) == (2, True)


def test_json_tells_of_both_files_where_one_is_fixed(capsys, folder):
    target = folder / "fixed.geojson"
    code, out, _ = run_cli(capsys, folder / "aborts.geojson", "--fix", target, "--json")
    before, after = json.loads(out)
    assert code == 0
    assert (before["verdicts"]["0.7"], after["verdicts"]["0.7"]) == ("aborts", "fine")


def test_fix_is_for_one_file(capsys, folder):
    paths = [folder / "fine.geojson", folder / "lost.geojson"]
    code, _, err = run_cli(capsys, *paths, "--fix", folder / "x.geojson")
    assert code == 1
    assert err.startswith("error: --fix writes one file")
    assert not (folder / "x.geojson").exists()


@pytest.mark.parametrize("raw", [b"", b"\x1f\x8b\x08", b"PK\x03\x04", b"[" * 5000, b"\xff\xfe"])
def test_garbage_gives_a_verdict_and_no_traceback(capsys, tmp_path, raw):
    path = tmp_path / "x.geojson"
    path.write_bytes(raw)
    code, out, err = run_cli(capsys, path, "--strict")
    assert code == 1
    assert "QuPath 0.7" in out
    assert "Traceback" not in out + err


def test_a_folder_is_an_error(capsys, tmp_path):
    code, _, err = run_cli(capsys, tmp_path)
    assert code == 1
    assert err.startswith("error: ")


def test_what_the_engine_writes_is_clean_in_every_version_since_0_4(
    capsys, sample: SampleTruth, tmp_path: Path
):
    folder = run(sample.slide_path, tmp_path, model="watershed").folder
    assert folder is not None
    files = [folder / "nuclei.geojson.gz", folder / "tissue.geojson"]
    assert run_cli(capsys, "--strict", *files)[0] == 0
    for path in files:
        report = validate(path)
        assert report.objects > 0
        for version in ("0.4", "0.5", "0.6", "0.7"):
            assert report.severity(version) == Severity.FINE, report.findings
