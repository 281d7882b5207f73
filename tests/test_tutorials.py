"""Whoever does what a tutorial says gets what it shows: each block of it is run, in its order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.programs import provide_programs
from tests.support.tutorials import blocks, follow

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    return provide_programs(tmp_path)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    folder = tmp_path / "desk"
    folder.mkdir()
    return folder


def test_pathologist(desk: Path, environment: Mapping[str, str]):
    follow(TUTORIALS / "pathologist.md", desk, environment)
    assert (desk / "results" / "slide" / "corrections.geojson.gz").exists()
    assert (desk / "results" / "next" / "classifier.json").exists()
    assert (desk / "results" / "cohort.html").exists()


def test_bioinformatician(desk: Path, environment: Mapping[str, str]):
    follow(TUTORIALS / "bioinformatician.md", desk, environment)
    assert (desk / "results" / "cohort.html").exists()
    assert (desk / "results" / "patient_1" / "exports" / "patient_1.h5ad").exists()


def test_developer(desk: Path, environment: Mapping[str, str]):
    follow(TUTORIALS / "developer.md", desk, environment)
    points = (desk / "results" / "scan" / "exports" / "scan.tsv").read_text(encoding="utf-8")
    assert len(points.splitlines()) > 100


def test_every_tutorial_is_followed():
    followed = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {page.stem for page in TUTORIALS.glob("*.md")} <= followed


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```bash\nfalse\n```\n", "page.md:1 ends with 1"),
        ("\n```bash\necho one\n```\n```text\ntwo\n```\n", "page.md:5 prints\none"),
        ("```java\nint x;\n```\n", "page.md:1 is neither run nor written: 'java'"),
    ],
)
def test_a_page_that_shows_what_is_not_so_is_told(tmp_path: Path, page: str, complaint: str):
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(AssertionError, match=complaint):
        follow(tmp_path / "page.md", tmp_path, {})


def test_blocks_of_notes_and_tabs_are_followed_too(tmp_path: Path):
    page = '=== "Tab"\n\n    ```python title="a/b.py"\n    if x:\n        y\n    ```\n'
    (tmp_path / "page.md").write_text(page)
    (block,) = blocks(tmp_path / "page.md")
    assert (block.file, block.text) == ("a/b.py", "if x:\n    y\n")
