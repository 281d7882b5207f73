"""JPEG tiles that are decoded past OpenSlide: its pixels, its word on damage, and less time."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from tests.support.slides import CMU, TCGA_CR, TCGA_V5, openslide_pixels, real_slide
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.jpeg_tiles import find_jpeg_tiles
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import RGB, UnreadableRegionError

pytest.importorskip("simplejpeg", reason="decodes the tiles")

BOXES = {
    # slide, level: boxes
    (CMU, 0): [(0, 0, 240, 240), (517, 333, 700, 900), (1900, 2800, 320, 167), (2219, 2966, 1, 1)],
    (TCGA_V5, 0): [(5000, 5000, 1300, 600), (14300, 10500, 164, 124)],
    (TCGA_V5, 1): [(1000, 700, 1248, 1248), (7100, 5200, 132, 112)],
    (TCGA_V5, 4): [(0, 0, 904, 664)],
}


class Calls(list[Any]):
    """What OpenSlide was asked for."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    asked, read_region = Calls(), openslide.OpenSlide.read_region

    def noted(handle: openslide.OpenSlide, *arguments: Any) -> Any:
        asked.append(arguments)
        return read_region(handle, *arguments)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", noted)
    return asked


@pytest.mark.parametrize(("name", "level"), BOXES, ids=str)
def test_pixels_are_those_of_openslide_which_is_asked_for_one_tile_only(
    calls: Calls, name: str, level: int
):
    path = real_slide(name)
    expected = [openslide_pixels(path, level, *box) for box in BOXES[name, level]]
    calls.clear()
    with open_slide(path) as slide:
        for box, pixels in zip(BOXES[name, level], expected, strict=True):
            np.testing.assert_array_equal(slide.read(level, LevelBox(*box)), pixels)
        tile = slide.info.levels[level].tile_width
    assert [arguments[1:] for arguments in calls] == [(level, (tile, tile))]


def test_beyond_the_border_it_is_white(calls: Calls):
    with open_slide(real_slide(CMU)) as slide:
        around = slide.read(0, LevelBox(-300, 2900, 400, 500))
        inside = slide.read(0, LevelBox(0, 2900, 100, 67))
    np.testing.assert_array_equal(around[:67, 300:], inside)
    assert (around[:, :300] == 255).all()
    assert (around[67:] == 255).all()


def test_many_threads_read_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wsi_engine.slide.jpeg_tiles.DECODED_TILE_CACHE_BYTES", 1 << 20)
    rng = np.random.default_rng(0)
    boxes = [LevelBox(*rng.integers(0, 1700, 2).tolist(), 300, 200) for _ in range(40)]
    with open_slide(real_slide(CMU)) as slide:
        alone = [slide.read(0, box) for box in boxes]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda box: slide.read(0, box), boxes * 3))
    for one, other in zip(alone * 3, together, strict=True):
        np.testing.assert_array_equal(one, other)


def spoilt(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Spoil the data of a tile from some place on, its length kept."""
    at, bad = int(rng.integers(2, len(data))), bytearray(data)
    if kind == "a byte":
        bad[at] = int(rng.integers(256))
    elif kind == "some bytes":
        bad[at : at + 20] = rng.bytes(20)
    elif kind == "zeros":
        bad[at:] = bytes(len(data) - at)
    elif kind == "noise":
        bad[at:] = rng.bytes(len(data) - at)
    elif kind == "cut off":
        bad[at:] = b"\xff\xd9" + bytes(len(data))
    return bytes(bad[: len(data)])


def read(path: Path, box: LevelBox, *, past_openslide: bool) -> RGB | None:
    """Read a box of level 0; ``None`` where that fails."""
    with open_slide(path) as slide:
        assert slide._jpeg is not None  # type: ignore[attr-defined]
        if not past_openslide:
            slide._jpeg = None  # type: ignore[attr-defined]
        try:
            return slide.read(0, box)
        except UnreadableRegionError:
            return None


@pytest.mark.parametrize("kind", ["a byte", "some bytes", "zeros", "noise", "cut off"])
@pytest.mark.parametrize("name", [CMU, TCGA_V5])
def test_what_is_damaged_is_what_openslide_finds_damaged(tmp_path: Path, kind: str, name: str):
    """Pillow and imagecodecs show most of such tiles, half of them grey, and say nothing."""
    path, rng = tmp_path / name, np.random.default_rng(1)
    shutil.copy(real_slide(name), path)
    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages[0]
        offsets, counts, side = page.dataoffsets, page.databytecounts, page.tilewidth
        across, down = -(-page.imagewidth // side), page.imagelength // side
    failed = 0
    with path.open("r+b") as stream:
        for _ in range(12):
            column, row = int(rng.integers(across - 1)), int(rng.integers(down))
            index, box = row * across + column, LevelBox(column * side, row * side, side, side)
            stream.seek(offsets[index])
            data = stream.read(counts[index])
            stream.seek(offsets[index])
            stream.write(spoilt(data, kind, rng))
            stream.flush()
            by_openslide = read(path, box, past_openslide=False)
            here = read(path, box, past_openslide=True)
            failed += by_openslide is None
            assert (here is None) == (by_openslide is None)
            if here is not None:
                np.testing.assert_array_equal(here, by_openslide)
            stream.seek(offsets[index])
            stream.write(data)
    assert failed > 0


def test_only_the_damaged_tile_is_left_to_openslide(tmp_path: Path, calls: Calls):
    path = tmp_path / CMU
    shutil.copy(real_slide(CMU), path)
    with tifffile.TiffFile(path) as tiff:
        page: Any = tiff.pages[0]
        offset, count = page.dataoffsets[33], page.databytecounts[33]
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xa5" * count)
    column, row = 33 % 10, 33 // 10
    with open_slide(path) as slide, pytest.raises(UnreadableRegionError):
        slide.read(0, LevelBox(column * 240 - 100, row * 240 - 100, 400, 400))
    # One tile for the proof; the damaged one twice, the second time through a fresh handle.
    assert [arguments[0] for arguments in calls[1:]] == [(column * 240, row * 240)] * 2


def test_a_tile_that_the_file_leaves_out_is_what_openslide_shows(tmp_path: Path):
    path = tmp_path / CMU
    shutil.copy(real_slide(CMU), path)
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]  # type: ignore[union-attr]
        place = tag.valueoffset + 33 * tag.valuebytecount // tag.count
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(bytes(4))
    box = LevelBox(33 % 10 * 240, 33 // 10 * 240, 240, 240)
    here, by_openslide = (read(path, box, past_openslide=past) for past in (True, False))
    assert here is not None
    np.testing.assert_array_equal(here, by_openslide)


def test_a_decoder_with_other_pixels_is_not_used(monkeypatch: pytest.MonkeyPatch):
    """As for a file whose tags and tiles say different things of the colours."""
    import simplejpeg

    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: decode(*a, **k)[..., ::-1])
    with open_slide(real_slide(CMU)) as slide:
        pixels = slide.read(0, LevelBox(517, 333, 700, 900))
    expected = openslide_pixels(real_slide(CMU), 0, 517, 333, 700, 900)
    np.testing.assert_array_equal(pixels, expected)


def test_without_the_package_openslide_reads_the_same(monkeypatch: pytest.MonkeyPatch):
    with open_slide(real_slide(CMU)) as slide:
        expected = slide.read(0, LevelBox(517, 333, 700, 900))
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with open_slide(real_slide(CMU)) as slide:
        assert slide._jpeg is None  # type: ignore[attr-defined]
        np.testing.assert_array_equal(slide.read(0, LevelBox(517, 333, 700, 900)), expected)


def test_other_compressions_are_left_to_openslide(tmp_path: Path):
    tifffile.imwrite(
        tmp_path / "plain.tif", np.zeros((300, 300, 3), np.uint8), tile=(128, 128), metadata=None
    )
    for path in (real_slide(TCGA_CR), tmp_path / "plain.tif"):
        with open_slide(path) as slide:
            assert slide._jpeg is None  # type: ignore[attr-defined]


def test_a_level_that_openslide_interpolates_is_left_to_it(tmp_path: Path):
    pytest.importorskip("imagecodecs", reason="encodes the tiles")
    y, x = np.mgrid[:401, :601]
    image = np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "odd.tif") as tiff:
        for level in (0, 1):
            tiff.write(
                image[: 401 // 2**level, : 601 // 2**level], subfiletype=level, tile=(128, 128),
                compression="jpeg", photometric="ycbcr", metadata=None,
            )  # fmt: skip
    with open_slide(tmp_path / "odd.tif") as slide:
        assert [level.is_exact for level in slide.info.levels] == [True, False]
        assert list(slide._jpeg.pages) == [0]  # type: ignore[attr-defined]


def test_a_file_of_another_vendor_is_left_to_openslide():
    with open_slide(real_slide(CMU)) as slide:
        levels = slide.info.levels
    assert find_jpeg_tiles(real_slide(CMU), "ventana", levels) is None
