"""Who reads a slide: order, folders, and readers that fail."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import wsi_engine.slide.readers as readers_module
from tests.support.slides import noise
from wsi_engine.errors import SlideError
from wsi_engine.plugins import Plugins
from wsi_engine.slide.finding import find_slides
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.plain_image import PlainImage
from wsi_engine.slide.protocol import Slide
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.readers import Reader, find_reader, has_slide_suffix, reader_basis


def open_part(path: Path) -> Slide:
    return PlainImage(path / "0.png")


ANY = Reader(
    "any",
    lambda path: (path.is_dir() and path.name.endswith(".zarr")) or path.suffix == ".tif",
    open_part,
    frozenset({".any.bin"}),
    takes_folders=True,
)


@pytest.fixture
def registered(monkeypatch):
    """Register readers as those of another package."""

    def register(*readers: Reader) -> None:
        others = Plugins({r.name: r for r in readers}, {r.name: "theirs 2.1" for r in readers}, {})
        monkeypatch.setattr(readers_module, "_of_other_packages", lambda: others)
        readers_module._suffixes.cache_clear()

    yield register
    monkeypatch.undo()
    readers_module._suffixes.cache_clear()


def test_openslide_goes_first_and_plain_images_last(registered, tmp_path):
    write_pyramid(tmp_path / "tiled.tif", noise(600, 600), 0.25)
    tifffile.imwrite(tmp_path / "strips.tif", noise(60, 60), photometric="rgb")
    registered()
    assert find_reader(tmp_path / "strips.tif").name == "plain-image"
    registered(ANY)
    assert find_reader(tmp_path / "tiled.tif").name == "openslide"
    assert find_reader(tmp_path / "strips.tif").name == "any"


def test_a_result_rests_on_the_reader_of_another_package(registered, tmp_path):
    tifffile.imwrite(tmp_path / "strips.tif", noise(60, 60), photometric="rgb")
    assert reader_basis(tmp_path / "strips.tif") == {}
    registered(ANY)
    assert reader_basis(tmp_path / "strips.tif") == {"package of the reader": "theirs 2.1"}
    assert reader_basis(tmp_path / "absent.tif") == {}


def test_a_folder_of_a_format_is_one_slide_and_is_not_searched(registered, tmp_path):
    for name in ("a/b.zarr/0/c.png", "a/d.svs", "e.any.bin", "f.bin", ".g.zarr/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    registered(ANY)

    def found(*names: str) -> list[str]:
        slides = find_slides([str(tmp_path / name) for name in names])
        return [path.relative_to(tmp_path).as_posix() for path in slides]

    assert found("") == ["a/b.zarr", "a/d.svs", "e.any.bin"]
    assert found("a/b.zarr") == ["a/b.zarr"]
    assert found("a/*.zarr", "a") == ["a/b.zarr", "a/d.svs"]
    registered()
    assert found("") == ["a/b.zarr/0/c.png", "a/d.svs"]


@pytest.mark.skipif(os.name == "nt", reason="makes symbolic links")
def test_a_link_to_such_a_folder_is_the_same_slide(registered, tmp_path):
    (tmp_path / "real.zarr").mkdir()
    (tmp_path / "link.zarr").symlink_to(tmp_path / "real.zarr")
    registered(ANY)
    (only,) = find_slides([str(tmp_path)])
    assert only.name == "link.zarr"


def test_a_reader_that_fails_to_look_keeps_no_other_from_opening(registered, tmp_path, caplog):
    registered(replace(ANY, can_open=lambda path: 1 / 0))
    tifffile.imwrite(tmp_path / "strips.tif", noise(60, 60), photometric="rgb")
    with open_slide(tmp_path / "strips.tif") as slide:
        assert slide.info.vendor == "plain image"
    assert "reader 'any' failed to look at" in caplog.text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("size"), r"x\.zarr cannot be opened by the reader 'any' \(KeyError: 'size'\)"),
        (SlideError("x.zarr has no levels"), r"x\.zarr has no levels"),
    ],
)
def test_a_reader_that_fails_to_open_is_named(registered, tmp_path, error, words):
    def fail(path):
        raise error

    registered(replace(ANY, open=fail))
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(SlideError, match=words):
        open_slide(tmp_path / "x.zarr")


def test_a_folder_that_nobody_takes(registered, tmp_path):
    registered(ANY)
    (tmp_path / "slides").mkdir()
    with pytest.raises(SlideError, match="is not a file, nor a folder that a reader takes"):
        open_slide(tmp_path / "slides")


def test_a_folder_reads_as_its_reader_reads_it(registered, tmp_path):
    (tmp_path / "x.zarr").mkdir()
    Image.fromarray(noise(60, 60)).save(tmp_path / "x.zarr" / "0.png")
    registered(ANY)
    with open_slide(tmp_path / "x.zarr") as slide:
        np.testing.assert_array_equal(slide.read(0, LevelBox(0, 0, 60, 60)), noise(60, 60))


@pytest.mark.parametrize(
    ("name", "is_slide"),
    [("a.svs", True), ("A.NDPI", True), ("b.jpeg", True), ("c.txt", False), ("svs", False)],
)
def test_what_a_search_takes_for_a_slide(name, is_slide):
    assert has_slide_suffix(name) == is_slide
