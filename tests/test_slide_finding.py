"""What a search takes for slides, and what lies beside them and is none."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from PIL import Image

import wsi_engine
from tests.support.archives import SETTINGS, write_slide
from wsi_engine.archive.inputs import list_slides
from wsi_engine.errors import SlideError
from wsi_engine.results.layout import RECORD
from wsi_engine.slide.beside_slides import is_associated
from wsi_engine.slide.finding import find_slides


def touch(top: Path, *names: str) -> None:
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(top: Path) -> list[str]:
    return [
        path.relative_to(top).as_posix() for path in find_slides([str(top)], closed_by=(RECORD,))
    ]


@pytest.mark.parametrize(
    ("beside", "slides"),
    [
        (["case1_label.png", "case1_macro.jpg", "case1_thumbnail.jpg"], ["case1.svs"]),
        (["case1.png", "IMG_0001.JPG", "photo of the block.bmp"], ["case1.svs"]),
        (["case1-label.tif", "Macro case1.tiff", "case1_labels.ome.tif"], ["case1.svs"]),
        (["thumbs/case1.jpg", "Labels/case1.tif", "masks/1.png"], ["case1.svs"]),
        (["case2.tif", "more/case3.tiff"], ["case1.svs", "case2.tif", "more/case3.tiff"]),
        # Fields in a folder of their own are slides.
        (["fields/a.png", "fields/b.jpg"], ["case1.svs", "fields/a.png", "fields/b.jpg"]),
        # An earlier result, and an archive of them.
        (["results/case1/run.json", "results/case1/thumbnail.jpg"], ["case1.svs"]),
        (["results/case1/run.json", "results/case1/exports/overlay.tif"], ["case1.svs"]),
        # What QuPath keeps of a project.
        (["project.qpproj", "data/1/thumbnail.jpg", "data/2/server.tif"], ["case1.svs"]),
        (["p/project.qpproj", "p/data/1/x.jpg", "p/case2.tif"], ["case1.svs", "p/case2.tif"]),
    ],
)  # fmt: skip
def test_what_lies_beside_a_slide(tmp_path: Path, beside: list[str], slides: list[str]):
    touch(tmp_path, "case1.svs", *beside)
    assert found(tmp_path) == slides


def test_pictures_are_slides_where_nothing_else_is_but_not_those_named_labels(tmp_path: Path):
    touch(tmp_path, "a.png", "b.jpg", "a_label.png", "a_mask.png", "macro.jpg")
    assert found(tmp_path) == ["a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("case1_label.png", True),
        ("label_case1.png", True),
        ("LABEL.JPG", True),
        ("slidelabel 7.png", True),
        ("case1 overview2.jpg", True),
        ("case-thumb.jpeg", True),
        ("labels.ome.tif", True),
        ("case1.png", False),
        ("labelled.png", False),
        ("relabel.png", False),
        ("macrophage.tif", False),
        ("unmasked.tif", False),
    ],
)
def test_names_of_images_that_belong_to_slides(name: str, is_one: bool):
    assert is_associated(name) == is_one


def test_left_out_pictures_are_told(tmp_path: Path, caplog):
    touch(tmp_path, "case1.svs", "case1_label.png", "x.jpg")
    found(tmp_path)
    assert "2 pictures are taken for labels or the like" in caplog.text
    assert "case1_label" not in caplog.text


def test_a_folder_of_labels_alone_holds_no_slide(tmp_path: Path):
    touch(tmp_path, "a_label.png")
    with pytest.raises(SlideError, match="no slide in"):
        found(tmp_path)


def test_a_file_that_is_named_is_taken_and_a_pattern_leaves_labels_out(tmp_path: Path):
    touch(tmp_path, "a.svs", "a_label.png", "field.png")
    assert len(find_slides([str(tmp_path / "a_label.png")])) == 1
    names = [path.name for path in find_slides([str(tmp_path / "*")])]
    assert names == ["a.svs", "field.png"]


def test_labels_on_another_file_system_are_no_slides():
    memory = fsspec.filesystem("memory")
    for name in ("a.svs", "a_label.png", "b/x.jpg", "out/a/run.json", "out/a/e/overlay.tif"):
        memory.pipe_file(f"/hospital/{name}", b"")
    listed = [slide.path.rpartition("hospital/")[2] for slide in list_slides(["memory://hospital"])]
    assert listed == ["a.svs", "b/x.jpg"]


def test_no_label_reaches_a_result(tmp_path: Path):
    write_slide(tmp_path / "in" / "case1.tif")
    Image.new("RGB", (300, 200), (250, 245, 200)).save(tmp_path / "in" / "case1_label.png")
    output = tmp_path / "in" / "results"
    first = wsi_engine.run_archive([tmp_path / "in"], output, mpp=0.25, **SETTINGS)
    again = wsi_engine.run_archive([tmp_path / "in"], tmp_path / "out", mpp=0.25, **SETTINGS)
    for summary in (first, again):
        assert [outcome.name for outcome in summary.outcomes] == ["case1"]
