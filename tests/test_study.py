"""Study tables as spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_engine.errors import ManifestError
from wsi_engine.study import read_study

TEXT = "slide;group;Größe\r\ncase1;A;1,5\r\ncase2;B;2,5\r\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.replace(";", "\t").encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        f"sep=;\r\n{TEXT}".encode(),
        f"sep=|\r\n{TEXT}".replace(";", "|").encode(),
        TEXT.replace("\r\n", ";;\r\n").encode(),
        TEXT.replace("\r\n", "\r").encode(),
        TEXT.replace("case2", " ; ;\r\ncase2").encode(),
    ],
    ids=[
        *("plain", "BOM", "UTF-16", "UTF-16 BE", "sep=;", "sep=|", "empty columns", "old Mac"),
        "a row of blanks",
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, content: bytes):
    path = tmp_path / "study.csv"
    path.write_bytes(content)
    study = read_study(path)
    assert study.columns == ("slide", "group", "Größe")
    assert [row for _, row in study.rows] == [
        {"slide": "case1", "group": "A", "Größe": "1,5"},
        {"slide": "case2", "group": "B", "Größe": "2,5"},
    ]


def test_commas_within_the_header_do_not_separate_where_semicolons_do(tmp_path: Path):
    path = tmp_path / "study.csv"
    path.write_text("slide;group, arm, site;x\ncase1;a;b\n")
    study = read_study(path)
    assert study.columns == ("slide", "group, arm, site", "x")
    assert study.rows[0][1] == {"slide": "case1", "group, arm, site": "a", "x": "b"}


@pytest.mark.parametrize(
    "content",
    [TEXT.encode("cp1252"), b"PK\x03\x04" + bytes(200)],
    ids=["code page of Windows", "workbook"],
)
def test_what_cannot_be_read_is_answered_with_how_to_save_it(tmp_path: Path, content: bytes):
    path = tmp_path / "study.csv"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match="save it as CSV UTF-8"):
        read_study(path)


def test_a_nameless_column_that_holds_something_is_refused(tmp_path: Path):
    path = tmp_path / "study.csv"
    path.write_text("slide;group;\ncase1;A;x\n")
    with pytest.raises(ManifestError, match="each column needs a name of its own"):
        read_study(path)
