"""A slide of several files is one slide, whichever of them is named."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import wsi_engine
from tests.support.archives import SETTINGS
from tests.support.dicom import SEGMENTATION, write_dicom, write_dicom_slide
from tests.support.slides import noise
from wsi_engine.errors import SlideChangedError, SlideError
from wsi_engine.slide.dicom_header import read_header
from wsi_engine.slide.finding import find_slides
from wsi_engine.slide.fingerprint import FileWatch, fingerprint
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.slide_files import main_file, slide_files

NAMES = ["label.dcm", "level0.dcm", "level1.dcm", "overview.dcm"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dicom_slide(tmp_path / "slide", noise(300, 400))
    return tmp_path / "slide"


def edit(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_openslide_opens_what_the_tests_write(folder: Path):
    with open_slide(folder / "level0.dcm") as slide:
        assert slide.info.vendor == "dicom"
        assert [(level.width, level.height) for level in slide.info.levels] == [
            (400, 300),
            (200, 150),
        ]
        assert slide.info.mpp is not None
        assert slide.info.mpp.x == pytest.approx(0.5)
        pixels = slide.read(0, LevelBox(0, 0, 400, 300))
    np.testing.assert_array_equal(pixels, noise(300, 400))


def test_a_header_is_read_past_sequences_of_undefined_length(folder: Path):
    header = read_header(folder / "level1.dcm")
    assert header is not None
    assert header.is_whole_slide
    assert (header.series, header.sop_instance) == ("1.2.3.4", "1.2.3.4.3")
    assert (header.flavor, header.photometric) == ("VOLUME", "RGB")
    assert (header.columns, header.rows, header.focal_planes) == (200, 150, 1)


@pytest.mark.parametrize("length", [0, 100, 132, 140, 160, 300, 500, 700])
def test_a_header_that_is_cut_off_is_none_or_less_but_no_error(folder: Path, length: int):
    cut = folder / "cut.dcm"
    cut.write_bytes((folder / "level0.dcm").read_bytes()[:length])
    header = read_header(cut)
    assert header is None or header.columns in (0, 400)


@pytest.mark.parametrize("name", NAMES)
def test_whichever_file_is_named_the_slide_is_the_same(folder: Path, name: str):
    assert main_file(folder / name) == folder / "level0.dcm"
    assert fingerprint(folder / name) == fingerprint(folder / "level0.dcm")
    assert find_slides([str(folder / name)]) == [folder / "level0.dcm"]


def test_names_of_files_do_not_count_but_their_uids_do(folder: Path):
    first = fingerprint(folder / "level0.dcm")
    for number, name in enumerate(NAMES):
        (folder / name).rename(folder / f"{9 - number}.dcm")
    assert fingerprint(folder / "9.dcm") == first
    assert main_file(folder / "9.dcm") == folder / "8.dcm"


@pytest.mark.parametrize("named", NAMES)
@pytest.mark.parametrize("changed", NAMES)
def test_a_change_in_any_file_is_seen(folder: Path, named: str, changed: str):
    first, watch = fingerprint(folder / named), FileWatch(folder / named)
    time.sleep(0.02)
    edit(folder / changed)
    assert fingerprint(folder / named) != first
    with pytest.raises(SlideChangedError):
        watch.check(now=True)


def test_a_folder_search_finds_each_series_once_and_no_other_objects(folder: Path):
    write_dicom_slide(folder / "other", noise(100, 100), series="1.2.3.5")
    for file in (folder / "other").iterdir():
        file.rename(folder / f"other_{file.name}")
    image = noise(64, 64)
    write_dicom(folder / "seg.dcm", image, series="1.7", instance="1.7.1", sop_class=SEGMENTATION)
    write_dicom(folder / "alone.dcm", image, series="1.8", instance="1.8.1", flavor="LABEL")
    assert [path.name for path in find_slides([str(folder)])] == ["level0.dcm", "other_level0.dcm"]
    assert len(find_slides([str(folder / name) for name in NAMES])) == 1


def test_a_run_gives_one_result_with_the_same_ids(folder: Path, tmp_path: Path):
    results = {
        name: wsi_engine.run(folder / name, tmp_path / "out", **SETTINGS)
        for name in ("label.dcm", "level0.dcm")
    }
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["level0"]
    assert results["level0.dcm"].is_earlier
    summary = wsi_engine.run_archive([folder], tmp_path / "many", **SETTINGS)
    assert [outcome.name for outcome in summary.outcomes] == ["level0"]


# --- other formats ----------------------------------------------------------------------------


def mirax(folder: Path) -> Path:
    for name in ("Slidedat.ini", "Data0000.dat", "Index.dat"):
        (folder / "case").mkdir(exist_ok=True)
        (folder / "case" / name).write_bytes(name.encode() * 100)
    (folder / "case.mrxs").write_bytes(b"\xff\xd8\xff\xd9")
    return folder / "case.mrxs"


def vms(folder: Path) -> Path:
    for name in ("case-0-0.jpg", "case-macro.jpg", "case_map2.jpg"):
        (folder / name).write_bytes(name.encode() * 100)
    index = "[Virtual Microscope Specimen]\nImageFile=case-0-0.jpg\nMacroImage=case-macro.jpg\n"
    (folder / "case.vms").write_text(index + "MapFile=case_map2.jpg\n")
    return folder / "case.vms"


def folder_of(name: str, beside: str):
    """A slide of a format that other packages read, with its pixels in a folder."""

    def write(folder: Path) -> Path:
        (folder / beside / "stack1").mkdir(parents=True)
        for part in ("stack1/frame_t.ets", "0001.tif", "index.xml"):
            (folder / beside / part).write_bytes(part.encode() * 100)
        (folder / name).write_bytes(b"II*\0")
        return folder / name

    return write


FOLDERS = [folder_of("case.i2syntax", "case"), folder_of("case.VSI", "_case_")]


@pytest.mark.parametrize("write", FOLDERS)
def test_a_search_does_not_look_for_slides_in_the_folder_of_one(tmp_path: Path, write):
    write(tmp_path)
    (tmp_path / "other.svs").write_bytes(b"II*\0")
    assert [path.name for path in find_slides([str(tmp_path)])] == ["other.svs"]


@pytest.mark.parametrize("write", [mirax, vms, *FOLDERS])
def test_each_file_of_a_slide_counts(tmp_path: Path, write):
    main = write(tmp_path)
    files = slide_files(main)
    assert len(files) == 4
    for file in files[1:]:
        first, watch = fingerprint(main), FileWatch(main)
        time.sleep(0.02)
        edit(file.path, 0)
        assert fingerprint(main) != first
        with pytest.raises(SlideChangedError):
            watch.check(now=True)


@pytest.mark.parametrize("write", [mirax, vms])
def test_a_search_finds_a_slide_of_several_files_once(tmp_path: Path, write):
    main = write(tmp_path)
    assert [path.name for path in find_slides([str(tmp_path)])] == [main.name]


def test_a_slide_of_several_files_keeps_its_fingerprint_under_another_name(tmp_path: Path):
    main = mirax(tmp_path)
    first = fingerprint(main)
    main.rename(tmp_path / "other.mrxs")
    (tmp_path / "case").rename(tmp_path / "other")
    assert fingerprint(tmp_path / "other.mrxs") == first


# --- what OpenSlide does not read of a series ---------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": {"grey": True}}, r"label\.dcm \(LABEL\) is MONOCHROME2.*move that file out"),
        ({"level0": {"focal_planes": 2}}, r"level0\.dcm has 2 focal planes"),
        ({"level1": {"grey": True}}, r"level1\.dcm \(VOLUME\) is MONOCHROME2.*convert the series"),
    ],
)
def test_a_sound_series_that_openslide_refuses_is_not_damaged(tmp_path: Path, changes, words):
    write_dicom_slide(tmp_path, noise(300, 400), **changes)
    with pytest.raises(SlideError, match=rf"level0\.dcm is not supported: {words}"):
        open_slide(tmp_path / "level0.dcm")


def test_a_second_focal_plane_in_a_file_of_its_own(folder: Path):
    write_dicom(folder / "plane.dcm", noise(300, 400), series="1.2.3.4", instance="1.2.3.4.9")
    with pytest.raises(
        SlideError, match=r"not supported: level0\.dcm and plane\.dcm .* same level"
    ):
        open_slide(folder / "level0.dcm")


def test_an_object_beside_a_slide_that_is_named(folder: Path):
    image = noise(64, 64)
    write_dicom(folder / "seg.dcm", image, series="1.7", instance="1.7.1", sop_class=SEGMENTATION)
    with pytest.raises(SlideError, match=r"seg\.dcm is not supported: .* of another kind"):
        open_slide(folder / "seg.dcm")
