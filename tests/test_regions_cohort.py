"""Many slides in one table, joined with what a study knows of them; and the command line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from tests.support.results import write_annotations_by_hand, write_result
from wsi_engine.cli import main
from wsi_engine.errors import ManifestError, ResultError
from wsi_engine.regions.cohort import build_cohort, read_manifest
from wsi_engine.regions.measure import measure_regions
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.quality_files import write_flags
from wsi_engine.slide.quality.flag import Flag


@pytest.fixture
def output(tmp_path):
    """Three slides; one has classes, one a region that was drawn."""
    folder = tmp_path / "out"
    places = np.random.default_rng(0).uniform(0, 4000, (30, 2)).round(2)
    write_result(folder / "a.1", places, measurements={"Area µm^2": np.arange(30)})
    write_result(folder / "b", places, classes=("Tumor",), labels=[0] * 30)
    write_result(folder / "c", np.empty((0, 2)))
    drawn = write_annotations_by_hand(
        tmp_path / "drawn.geojson", shapely.box(0, 0, 2000, 2000), names=["core"]
    )
    measure_regions(folder / "b", drawn)
    return folder


def manifest(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "study.csv"
    path.write_text(text, encoding=encoding)
    return path


def test_one_row_per_slide_and_region(output):
    table = build_cohort(output).table
    rows = zip(table["slide"].to_pylist(), table["region"].to_pylist(), strict=True)
    assert list(rows) == [
        *[("a.1", "a.1"), ("a.1", "Tissue 1")],
        *[("b", "b"), ("b", "Tissue 1"), ("b", "core")],
        *[("c", "c"), ("c", "Tissue 1")],
    ]
    # A column that one slide has and another has not is missing there.
    assert table["Nuclei: Tumor"].to_pylist()[:3] == [None, None, 30]
    assert table["Area µm^2: N"].to_pylist()[:3] == [30, 30, None]


def test_files_hold_the_table_and_its_dictionary(output):
    report = build_cohort(output)
    assert [path.name for path in report.files] == [
        "cohort.parquet",
        "cohort.csv",
        "cohort_columns.json",
    ]
    assert pq.read_table(output / "cohort.parquet").equals(report.table)
    assert pa.csv.read_csv(output / "cohort.csv").column_names[:5] == [
        *("slide", "region", "kind", "class", "Quality flags")
    ]
    entries = json.loads((output / "cohort_columns.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in entries] == report.table.column_names


def test_a_spreadsheet_gets_what_a_person_reads_first_and_all_on_request(output, tmp_path):
    rng = np.random.default_rng(1)
    names = ["Area µm^2", "Circularity", "Hematoxylin: Mean", "Hematoxylin: Haralick Entropy (F8)"]
    measurements = {name: rng.uniform(1, 2, 30) for name in names}
    write_result(output / "d", rng.uniform(0, 4000, (30, 2)), measurements=measurements)
    study = manifest(tmp_path, "slide,patient\na.1,1\nb,2\nc,3\nd,=4\n")
    table = build_cohort(output, study).table
    spread = pa.csv.read_csv(output / "cohort.csv")
    assert spread.column_names == [
        *("slide", "region", "kind", "class", "patient", "Quality flags"),
        *("Area mm^2", "Searched area mm^2", "Nuclei", "Nuclei per mm^2"),
        *("Area µm^2: Mean", "Area µm^2: Std.Dev.", "Area µm^2: Median", "Area µm^2: CV"),
        "Clark-Evans: R",
        *("Nuclei: Tumor", "Nuclei: Tumor %", "Nuclei: unclassified", "Nuclei: unclassified %"),
        *("Circularity: Mean", "Circularity: Std.Dev.", "Circularity: Median"),
        *(f"Hematoxylin: Mean: {figure}" for figure in ("Mean", "Std.Dev.", "Median")),
    ]
    assert spread["Nuclei"].to_pylist() == table["Nuclei"].to_pylist()
    assert spread["patient"].to_pylist()[-1] == "'=4", "no formula for Excel"

    build_cohort(output, study, all_columns=True)
    everything = pa.csv.read_csv(output / "cohort.csv").column_names
    assert everything[: len(spread.column_names)] == spread.column_names
    assert sorted(everything) == sorted(table.column_names)
    assert "Hematoxylin: Haralick Entropy (F8): P95" in everything


def test_what_quality_checks_found_is_said_in_every_row_of_a_slide(output):
    blurred = Flag("blur", "bad", 0.4, "", "Blurred.")
    fine, unknown = Flag("pen", "ok", 0.0, "mm²", ""), Flag("folds", "not checked", None, "", "")
    red = Flag("red cells", "look", 0.1, "", "Red.")
    write_flags(SlideResult(output / "a.1"), [blurred, fine, red, unknown], output / "a.1")
    write_flags(SlideResult(output / "b"), [fine, unknown], output / "b")
    flags = build_cohort(output).table["Quality flags"].to_pylist()
    assert flags == [*["blur: bad, red cells: look"] * 2, *["ok"] * 3, *[None] * 2]


def test_the_command_says_where_the_other_columns_are(output, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["cohort", str(output)])
    assert "columns are in cohort.parquet, or --all-columns" in capsys.readouterr().out
    essential = (output / "cohort.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["cohort", str(output), "--all-columns"])
    assert "or --all-columns" not in capsys.readouterr().out
    everything = (output / "cohort.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    assert everything.startswith(essential + ",")


def test_a_second_cohort_over_the_first_is_the_same(output):
    assert build_cohort(output).table.equals(build_cohort(output).table)


@pytest.mark.parametrize(
    "text",
    [
        "slide,patient,group\na.1.svs,007,x\nb,8,y\nc.svs,9,\n",
        "patient;slide;group\n007;a.1;x\n8;b.svs;y\n9;c;\n",
        "slide\tpatient\tgroup\r\nc\t9\t\r\na.1\t 007 \tx\r\n\r\nb\t8\ty\r\n",
        '\ufeff"slide","patient","group"\n"a.1","007","x"\n"b","8","y"\n"c","9",""\n',
    ],
    ids=["commas", "semicolons", "tabs", "byte order mark"],
)
def test_a_manifest_is_joined_by_slide(output, tmp_path, text, caplog):
    table = build_cohort(output, manifest(tmp_path, text)).table
    assert table.column_names[:7] == [
        *["slide", "region", "kind", "class", "id"],
        *["patient", "group"],
    ]
    assert table["patient"].to_pylist() == ["007", "007", "8", "8", "8", "9", "9"]
    assert table["group"].to_pylist() == ["x", "x", "y", "y", "y", None, None]
    assert not caplog.records


def test_a_study_names_an_ome_tiff_without_its_two_suffixes(tmp_path):
    folder = write_result(tmp_path / "out" / "case1.ome", [(9, 9)])
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["slide"]["name"] = "case1.ome.tif"
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    path = manifest(tmp_path, "slide,patient\ncase1,007\n")
    assert set(build_cohort(tmp_path / "out", path).table["patient"].to_pylist()) == {"007"}


def test_a_copied_folder_goes_by_its_own_name(output, tmp_path):
    (output / "b").rename(output / "z")
    shutil.copytree(output / "z", output / "b")
    text = "slide,group\na.1,1\nb,2\nc,3\nz,4\n"
    table = build_cohort(output, manifest(tmp_path, text)).table
    groups = dict(zip(table["slide"].to_pylist(), table["group"].to_pylist(), strict=True))
    assert groups == {"a.1": "1", "b": "2", "c": "3", "z": "4"}


@pytest.fixture
def namesakes(tmp_path):
    """Results X and X_2 of two slides that are both called X.svs."""
    for folder, slide in (("X", "a/X.svs"), ("X_2", "b/X.svs")):
        made = write_result(tmp_path / "out" / folder, [(9, 9)], tissue=None)
        record = json.loads((made / "run.json").read_text())
        record["slide"]["name"] = "X.svs"
        record["slide_path"] = str((tmp_path / slide).resolve())
        (made / "run.json").write_text(json.dumps(record))
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("path,group\na/X.svs,1\nb/X.svs,2\n", ["1", "2"]),
        ("path,group\nb/X.svs,2\na/X.svs,1\n", ["1", "2"]),
        ("path,group\n./a/../a/X.svs,1\nc/X.svs,3\n", ["1", "3"]),  # one has moved
        ("path,group\n{here}/b/X.svs,2\n{here}/a/X.svs,1\nc/X.svs,3\n", ["1", "2"]),
        ("slide,group\nX_2,2\nX,1\n", ["1", "2"]),
        ("slide,group\nX,1\n", ["1", None]),
    ],
)
def test_slides_of_one_file_name_are_told_apart(namesakes, tmp_path, text, groups):
    study = manifest(tmp_path, text.format(here=tmp_path))
    table = build_cohort(namesakes, study).table
    assert table["slide"].to_pylist() == ["X", "X_2"]
    assert table["group"].to_pylist() == groups


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slide,group\nX.svs,1\n", "X.svs may be X or X_2: name the folder"),
        ("path,group\nmoved/X.svs,1\n", "X.svs may be X or X_2: name the folder"),
        ("path,group\na/X.svs,1\n./a/X.svs,1\n", "X.svs twice"),
    ],
)
def test_a_name_that_two_slides_have_is_given_to_neither(namesakes, tmp_path, text, words):
    with pytest.raises(ManifestError, match=words):
        build_cohort(namesakes, manifest(tmp_path, text))


def test_the_dictionary_names_the_manifest(output, tmp_path):
    build_cohort(output, manifest(tmp_path, "slide,patient\na.1,1\nb,2\nc,3\n"))
    entries = json.loads((output / "cohort_columns.json").read_text(encoding="utf-8"))
    assert entries[5]["name"] == "patient"
    assert "study.csv" in entries[5]["source"]


def test_slides_without_a_row_and_rows_without_a_slide_are_told(output, tmp_path, caplog):
    table = build_cohort(output, manifest(tmp_path, "slide,patient\na.1,1\nz,2\n")).table
    assert table["patient"].to_pylist() == ["1", "1", *[None] * 5]
    assert "study.csv has no row for b, c" in caplog.text
    assert "study.csv names slides without a result: z" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'slide'"),
        ("name,patient\na,1\n", "no column 'slide'; it has name, patient"),
        ("slide,patient\na.1,1\na.1,2\n", "names slide a.1 twice"),
        ("slide,patient\na.1,1\na.1.svs,2\n", "names slide a.1 twice"),
        ("slide,patient\na.1\n", "line 2 has 1 values, the header 2"),
        ("slide,patient\n\n\na.1\n", "line 4 has 1 values, the header 2"),
        ("slide,patient\n,1\n", "line 2 names no slide"),
        ("slide,patient\n" + "a" * 200_000 + ",1\n", "line 2: field larger"),
        ("slide,patient,patient\na.1,1,2\n", "a name of its own"),
        ("slide,region\na.1,1\n", "has a column 'region' of its own"),
    ],
)
def test_a_manifest_that_cannot_be_joined_is_told(output, tmp_path, text, words):
    with pytest.raises(ManifestError, match=words):
        build_cohort(output, manifest(tmp_path, text))
    assert not (output / "cohort.csv").exists()


def test_a_manifest_that_is_absent_or_no_text(tmp_path):
    with pytest.raises(ManifestError, match="no such file"):
        read_manifest(tmp_path / "absent.csv")
    with pytest.raises(ManifestError, match="UTF-8"):
        read_manifest(manifest(tmp_path, "slide,ö\n", "latin-1"))


def test_regions_of_an_earlier_run_are_not_mixed_in(output):
    shutil.copy(output / "a.1" / "nuclei.parquet", output / "b")
    with pytest.raises(ResultError, match="of other nuclei than those that are there now"):
        build_cohort(output)


@pytest.mark.parametrize("spoilt", ["regions.parquet", "regions_columns.json"])
def test_a_spoilt_file_is_told(output, spoilt):
    (output / "b" / spoilt).write_text("text")
    with pytest.raises(ResultError, match=f"{spoilt} cannot be read"):
        build_cohort(output)


def test_nothing_to_join(tmp_path):
    with pytest.raises(ResultError, match="no finished result"):
        build_cohort(tmp_path)


# --- command line ----------------------------------------------------------------------------


def test_the_commands_print_a_table_and_the_files(output, tmp_path, capsys):
    for arguments in (["regions", output / "b"], ["cohort", output]):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert not end.value.code
        printed = capsys.readouterr().out
        assert " slide " in printed
        assert "Tissue 1" not in printed  # of many slides they would be thousands of lines
        assert f"{arguments[0]}.csv" in printed
    assert (output / "cohort.parquet").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["regions", "{absent}"], "no such folder"),
        (["regions", "{slide}", "--annotations", "{absent}"], "no such file"),
        (["cohort", "{absent}"], "no finished result"),
        (["cohort", "{output}", "--manifest", "{absent}"], "no such file"),
    ],
)
def test_what_is_wrong_is_one_sentence(output, tmp_path, capsys, command, words):
    places = {"absent": tmp_path / "absent", "slide": output / "b", "output": output}
    with pytest.raises(SystemExit) as end:
        main([part.format(**places) for part in command])
    errors = capsys.readouterr().err
    assert end.value.code == 1
    assert words in errors
    assert "Traceback" not in errors


def test_a_name_in_brackets_is_no_markup(output, tmp_path, capsys):
    drawn = write_annotations_by_hand(
        tmp_path / "a.geojson", shapely.box(0, 0, 99, 99), names=["[red]core[/blue]"]
    )
    with pytest.raises(SystemExit) as end:
        main(["regions", str(output / "b"), "--annotations", str(drawn)])
    assert not end.value.code
    assert "[red]core[/blue]" in capsys.readouterr().out
