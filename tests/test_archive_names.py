"""Names of results: any file name gives one, each slide has its own, and none ever changes."""

from __future__ import annotations

import json
import threading
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsi_engine
from tests.support.archives import write_slide
from wsi_engine.archive.inputs import list_slides
from wsi_engine.archive.names import MOST_BYTES, RESERVED, candidates, folder_name
from wsi_engine.archive.register import Register
from wsi_engine.errors import ResultError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("S12-345 A (HE)", "S12-345 A (HE)"),
        ("a.b", "a.b"),
        ("Präparat 7", "Präparat 7"),
        ("Pra\u0308parat", "Präparat"),
        ("切片", "切片"),
        ("it's", "it's"),
        ('say "no"', "say _no_"),
        ("two\nlines", "two_lines"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        (".hidden", "_.hidden"),
        ("ends in dots..", "ends in dots"),
        ("CON", "_CON"),
        ("nul.part", "_nul.part"),
        ("console", "console"),
        ("a:b", "a_b"),
        ("\udcff", "_"),
    ],
)
def test_any_text_gives_the_name_of_a_folder(text: str, name: str):
    assert folder_name(text) == name


@given(st.text(max_size=400))
def test_a_name_is_one_on_every_system(text: str):
    name = folder_name(text)
    assert 0 < len(name.encode()) <= MOST_BYTES
    assert PurePosixPath("out", name).parent == PurePosixPath("out")
    assert not name.startswith(".")
    assert not set(name) & set('<>:"/\\|?*\0\n\r')
    assert name.split(".")[0].casefold() not in RESERVED
    assert name == name.rstrip(". ")
    assert folder_name(name) == name


def test_long_names_that_begin_alike_stay_apart():
    assert folder_name("x" * 250 + "1") != folder_name("x" * 250 + "2")


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), min_size=1))
def test_every_path_ends_at_a_name_of_its_own(parts: list[str]):
    path = "/" + "/".join(parts)
    *_, last = candidates(path)
    *_, other = candidates(path + "x")
    assert last != other


def named(register: Register, *paths: Path) -> list[str]:
    return [job.name for job in register.enter(list_slides([str(path) for path in paths]))]


@pytest.fixture
def slides(tmp_path: Path) -> dict[str, Path]:
    places = ["p1/a", "p2/a", "p2/b", "x/p1/a", "p3/A"]
    return {
        place: write_slide(tmp_path / "in" / f"{place}.tif", seed)
        for seed, place in enumerate(places)
    }


def test_a_stem_that_is_one_of_a_kind_is_the_name(tmp_path: Path, slides):
    assert named(Register(tmp_path), slides["p1/a"], slides["p2/b"]) == ["a", "b"]


def test_equal_stems_get_as_many_folders_as_they_need(tmp_path: Path, slides):
    chosen = [slides[place] for place in ("p1/a", "p2/a", "p2/b", "x/p1/a")]
    assert named(Register(tmp_path), *chosen) == ["in-p1-a", "p2-a", "b", "x-p1-a"]


def test_names_that_differ_in_case_alone_are_equal(tmp_path: Path, slides):
    assert named(Register(tmp_path), slides["p1/a"], slides["p3/A"]) == ["p1-a", "p3-A"]


def test_a_name_never_changes_when_the_archive_grows(tmp_path: Path, slides):
    register = Register(tmp_path)
    assert named(register, slides["p2/a"]) == ["a"]
    assert named(register, *slides.values()) == ["in-p1-a", "a", "b", "x-p1-a", "p3-A"]
    assert named(register, slides["x/p1/a"], slides["p2/a"]) == ["x-p1-a", "a"]


def test_names_do_not_depend_on_the_order(tmp_path: Path, slides):
    forth = named(Register(tmp_path / "forth"), *slides.values())
    back = named(Register(tmp_path / "back"), *reversed(slides.values()))
    assert forth == back[::-1]


def test_a_slide_that_moved_keeps_its_result(tmp_path: Path, slides):
    output = tmp_path / "out"
    register = Register(output)
    old = slides["p1/a"]
    assert named(register, old) == ["a"]
    wsi_engine.run(old, output, model="watershed", tissue=False)
    old.rename(tmp_path / "in" / "a.tif")
    assert named(register, tmp_path / "in" / "a.tif") == ["a"]
    assert named(register, slides["p2/a"]) == ["p2-a"]


def test_the_result_of_a_single_run_is_that_slides(tmp_path: Path, slides):
    output = tmp_path / "out"
    wsi_engine.run(slides["p2/a"], output, model="watershed", tissue=False)
    assert named(Register(output), slides["p1/a"], slides["p2/a"]) == ["p1-a", "a"]


@pytest.mark.parametrize("file", ["summary.csv", "cohort.html", "cohort_columns.json"])
def test_names_of_files_beside_the_results_are_taken(tmp_path: Path, file: str):
    slide = write_slide(tmp_path / "in" / f"{file}.tif")
    assert named(Register(tmp_path), slide) == [f"in-{file}"]


def test_all_who_enter_at_once_see_the_same_names(tmp_path: Path, slides):
    seen: list[list[str]] = []

    def enter(paths: list[Path]) -> None:
        seen.append(sorted(zip(paths, named(Register(tmp_path), *paths), strict=True)))

    some, others = list(slides.values())[:3], list(slides.values())[2:]
    threads = [threading.Thread(target=enter, args=(paths,)) for paths in [some, others] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 6
    names = {path: name for rows in seen for path, name in rows}
    assert all(names[path] == name for rows in seen for path, name in rows)
    assert len(set(names.values())) == len(slides)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"slides": 1}',
        '{"slides": {"a": {}}}',
        '{"slides": {"../a": {"path": "/a", "facts": {}}}}',
        '{"slides": {"a": {"path": "/a", "facts": 3}}}',
    ],
)
def test_a_register_that_was_tampered_with_is_refused(tmp_path: Path, slides, content: str):
    register = Register(tmp_path)
    named(register, slides["p1/a"])
    register.path.write_text(content)
    with pytest.raises(ResultError, match=r"slides\.json"):
        named(register, slides["p2/a"])
    assert register.path.read_text() == content


def test_the_register_keeps_paths_of_any_encoding(tmp_path: Path):
    slide = write_slide(tmp_path / "in" / "caf\udce9.tif")
    register = Register(tmp_path)
    (name,) = named(register, slide)
    assert register.entries()[name]["path"] == str(slide)
    assert json.loads(register.path.read_text("ascii"))
