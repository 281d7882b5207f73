"""Tiled TIFFs that OpenSlide reads badly or not at all."""

from __future__ import annotations

import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from tests.support.slides import noise, openslide_pixels
from wsi_engine.errors import SlideError
from wsi_engine.slide import tiff_slide
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import UnreadableRegionError
from wsi_engine.slide.readers import find_reader, reader_basis

QUARTER_UM = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
WIDTH, HEIGHT = 700, 500


def smooth(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Colours that JPEG keeps well, with detail in each channel."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 7 + y / (9 + k)) * 90 + 128 for k in range(3)]
    return np.stack(waves, axis=2).astype(np.uint8)


def write_pyramid_in_subifds(path: Path, image: np.ndarray, levels: int = 3, **how) -> None:
    how = {"photometric": "rgb", "tile": (128, 128)} | QUARTER_UM | how
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(image, subifds=levels - 1, metadata=None, **how)
        for level in range(1, levels):
            half = image[:: 2**level, :: 2**level]
            tiff.write(half, subfiletype=1, metadata=None, **how)


def codec(name: str) -> None:
    if name not in ("none", "adobe_deflate"):
        pytest.importorskip("imagecodecs", reason="encodes the tiles")


def test_all_levels_of_a_pyramid_in_subifds_are_seen(tmp_path: Path):
    path = tmp_path / "slide.ome.tif"
    write_pyramid_in_subifds(path, noise(HEIGHT, WIDTH), compression="adobe_deflate")
    with openslide.OpenSlide(path) as bare:
        assert bare.level_count == 1  # should this fail one day, the reader is not needed
    with open_slide(path) as slide:
        assert [(level.width, level.height) for level in slide.info.levels] == [
            (700, 500),
            (350, 250),
            (175, 125),
        ]
        assert [level.downsample for level in slide.info.levels] == [1.0, 2.0, 4.0]
        assert slide.info.mpp is not None
        assert slide.info.mpp.x == pytest.approx(0.25)
        for level in range(3):
            step = 2**level
            box = LevelBox(-5, 3, 120, 200)
            pixels = slide.read(level, box)
            full = noise(HEIGHT, WIDTH)[::step, ::step]
            inside = full[3:203, :115]
            np.testing.assert_array_equal(pixels[: len(inside), 5:], inside)
            assert (pixels[:, :5] == 255).all()
            assert (pixels[len(inside) :] == 255).all()
    assert reader_basis(path) == {"reader": "tiff"}


@pytest.mark.parametrize(
    ("compression", "how"),
    [
        ("none", {}),
        ("adobe_deflate", {"predictor": True}),
        ("lzw", {}),
        ("zstd", {}),
        ("jpeg", {}),
        ("jpeg", {"subsampling": (1, 1)}),
        ("jpeg", {"subsampling": (2, 1)}),
        ("jpeg", {"compressionargs": {"outcolorspace": "rgb"}}),
    ],
)
def test_the_pixels_are_those_of_openslide(tmp_path: Path, compression: str, how):
    codec(compression)
    path = tmp_path / "slide.tif"
    write_pyramid_in_subifds(path, smooth(), 2, compression=compression, **how)
    expected = openslide_pixels(path, 0, 0, 0, WIDTH, HEIGHT)
    with open_slide(path) as slide:
        assert len(slide.info.levels) == 2
        np.testing.assert_array_equal(slide.read(0, LevelBox(0, 0, WIDTH, HEIGHT)), expected)


@pytest.mark.parametrize("compression", ["webp", "jpegxl", "png", "lzma", "lerc", "jpeg2000"])
def test_a_lossless_compression_that_openslide_lacks_is_read(tmp_path: Path, compression: str):
    codec(compression)
    path = tmp_path / "slide.tif"
    image = noise(300, 400)
    how = {"photometric": "rgb", "tile": (128, 128), "metadata": None} | QUARTER_UM
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, compression=compression, **how)
        tiff.write(image[::2, ::2], compression=compression, subfiletype=1, **how)
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(path)
    with open_slide(path) as slide:
        assert [level.downsample for level in slide.info.levels] == [1.0, 2.0]
        np.testing.assert_array_equal(slide.read(0, LevelBox(0, 0, 400, 300)), image)
        np.testing.assert_array_equal(slide.read(1, LevelBox(0, 0, 200, 150)), image[::2, ::2])


def test_without_imagecodecs_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch):
    codec("webp")
    path = tmp_path / "slide.tif"
    how = {"photometric": "rgb", "tile": (128, 128), "metadata": None}
    tifffile.imwrite(path, noise(200, 200), compression="webp", **how)

    def missing(*_):
        raise ValueError("<COMPRESSION.WEBP: 50001> requires the 'imagecodecs' package")

    monkeypatch.setattr(tiff_slide.TiledPage, "_decode_other", missing)
    with pytest.raises(SlideError, match=r"compressed with WEBP.*pip install imagecodecs"):
        open_slide(path)


def test_many_threads_read_the_same_pixels_and_hold_few(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tiff_slide, "DECODED_TILE_CACHE_BYTES", 4 * 128 * 128 * 3)
    path = tmp_path / "slide.tif"
    image = noise(HEIGHT, WIDTH)
    write_pyramid_in_subifds(path, image, compression="adobe_deflate")
    boxes = [LevelBox(x, y, 150, 130) for x in range(0, 700, 90) for y in range(0, 500, 70)]
    start = threading.Barrier(4)
    with open_slide(path) as slide, ThreadPoolExecutor(4) as pool:

        def read_all(_):
            start.wait()
            return [slide.read(0, box) for box in boxes]

        for found in pool.map(read_all, range(4)):
            for box, pixels in zip(boxes, found, strict=True):
                expected = image[box.y : box.y + 130, box.x : box.x + 150]
                height, width = expected.shape[:2]
                np.testing.assert_array_equal(pixels[:height, :width], expected)
        assert len(slide._tiles) <= 4


def overwrite(path: Path, level: int, index: int, data: bytes | None) -> None:
    """Destroy a tile, or say that there is none."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        page = tiff.pages[0] if level == 0 else tiff.pages[0].pages[level - 1]
        if data is None:
            counts = list(page.databytecounts)
            counts[index] = 0
            page.tags["TileByteCounts"].overwrite(counts)
            return
        tiff.filehandle.seek(page.dataoffsets[index])
        tiff.filehandle.write(data)


@pytest.mark.parametrize("level", [0, 1])
def test_a_damaged_tile_is_unreadable_and_others_are_not(tmp_path: Path, level: int):
    path = tmp_path / "slide.tif"
    image = noise(HEIGHT, WIDTH)
    write_pyramid_in_subifds(path, image, compression="adobe_deflate")
    overwrite(path, level, 0, b"\xa5" * 100)
    with open_slide(path) as slide:
        with pytest.raises(UnreadableRegionError):
            slide.read(level, LevelBox(10, 10, 20, 20))
        pixels = slide.read(level, LevelBox(128, 128, 50, 50))
    step = 2**level
    np.testing.assert_array_equal(pixels, image[::step, ::step][128:178, 128:178])


def test_a_tile_that_was_left_out_is_white(tmp_path: Path):
    path = tmp_path / "slide.tif"
    write_pyramid_in_subifds(path, noise(HEIGHT, WIDTH), compression="adobe_deflate")
    overwrite(path, 0, 1, None)
    with open_slide(path) as slide:
        assert (slide.read(0, LevelBox(128, 0, 128, 128)) == 255).all()


def test_a_file_that_ends_early_is_unreadable_there(tmp_path: Path):
    path = tmp_path / "slide.tif"
    write_pyramid_in_subifds(path, noise(HEIGHT, WIDTH), 2, compression="none")
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tag = tiff.pages[0].tags["TileOffsets"]
        tag.overwrite([*tag.value[:-1], 1 << 40])
    with open_slide(path) as slide, pytest.raises(UnreadableRegionError, match="behind"):
        slide.read(0, LevelBox(690, 490, 5, 5))


# --- whose files they are -----------------------------------------------------------------------


def test_openslide_keeps_what_it_reads_well(tmp_path: Path):
    how = {"photometric": "rgb", "tile": (128, 128), "metadata": None}
    tifffile.imwrite(tmp_path / "flat.tif", noise(200, 200), **how)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as tiff:
        tiff.write(noise(200, 200), **how)
        tiff.write(noise(100, 100), subfiletype=1, **how)
    aperio = {**how, "description": "Aperio Image Library v0|MPP = 0.25"}
    with tifffile.TiffWriter(tmp_path / "aperio.svs") as tiff:
        tiff.write(noise(200, 200), subifds=1, **aperio)
        tiff.write(noise(100, 100), **how)
    for name in ("flat.tif", "pages.tif", "aperio.svs"):
        assert find_reader(tmp_path / name).name == "openslide", name


def test_a_macro_among_the_subifds_is_no_level(tmp_path: Path):
    how = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
    with tifffile.TiffWriter(tmp_path / "slide.tif") as tiff:
        tiff.write(noise(400, 600), subifds=2, **how)
        tiff.write(noise(200, 300), subfiletype=1, **how)
        tiff.write(noise(190, 90), subfiletype=1, **how)
    with open_slide(tmp_path / "slide.tif") as slide:
        assert [(level.width, level.height) for level in slide.info.levels] == [
            (600, 400),
            (300, 200),
        ]


# --- pixel size ---------------------------------------------------------------------------------


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" SizeX="700" SizeY="500" {}/></Image></OME>'
)


@pytest.mark.parametrize(
    ("sizes", "mpp"),
    [
        ('PhysicalSizeX="0.3" PhysicalSizeY="0.4"', (0.3, 0.4)),
        ('PhysicalSizeX="300" PhysicalSizeXUnit="nm" PhysicalSizeY="0.0004" '
         'PhysicalSizeYUnit="mm"', (0.3, 0.4)),
        ('PhysicalSizeX="0.3"', None),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1" '
         'PhysicalSizeYUnit="pixel"', None),
        ('PhysicalSizeX="many" PhysicalSizeY="many"', None),
        ("", None),
    ],
)  # fmt: skip
def test_pixel_size_in_ome_xml_where_no_tag_has_it(tmp_path: Path, sizes: str, mpp):
    path = tmp_path / "slide.ome.tif"
    no_size = {"resolution": (72, 72), "resolutionunit": "INCH"}
    xml = OME.format(sizes)
    how = {"photometric": "rgb", "tile": (128, 128), "metadata": None, **no_size}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(noise(HEIGHT, WIDTH), subifds=1, description=xml.encode(), **how)
        tiff.write(noise(HEIGHT // 2, WIDTH // 2), subfiletype=1, **how)
    with open_slide(path) as slide:
        found = slide.info.mpp
    assert (found and (found.x, found.y)) == (mpp and pytest.approx(mpp))


@pytest.mark.parametrize(
    ("name", "how", "mpp"),
    [
        ("tags.tif", {"metadata": None, **QUARTER_UM}, 0.25),
        ("print.tif", {"metadata": None, "resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ("none.tif", {"metadata": None}, None),
        ("imagej.tif", {"imagej": True, "resolution": (4.0, 4.0),
                        "metadata": {"unit": "micron", "axes": "YXS"}}, 0.25),
        ("size.ome.tif", {"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 0.25,
                                                    "PhysicalSizeY": 0.25}}, 0.25),
    ],
)  # fmt: skip
def test_pixel_size_of_an_image_without_tiles(tmp_path: Path, name: str, how, mpp):
    tifffile.imwrite(tmp_path / name, noise(60, 80), photometric="rgb", **how)
    with open_slide(tmp_path / name) as slide:
        assert slide.info.vendor == "plain image"
        assert (slide.info.mpp and slide.info.mpp.x) == (mpp and pytest.approx(mpp))


# --- not supported ------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(SlideError, match=f"{path.name} is not supported: ") as caught:
        open_slide(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint32, np.float32])
def test_labels_and_measurements_are_no_colours(tmp_path: Path, dtype):
    path = tmp_path / "values.tif"
    values = np.zeros((200, 200), dtype)
    tifffile.imwrite(path, values, photometric="minisblack", tile=(64, 64), metadata=None)
    assert np.dtype(dtype).name in refused(path)


def test_planes_of_grey_are_no_colours(tmp_path: Path):
    path = tmp_path / "planes.tif"
    planes = np.moveaxis(noise(200, 200), 2, 0)
    tifffile.imwrite(path, planes, photometric="minisblack", tile=(64, 64), metadata=None)
    assert "3 grey planes" in refused(path)


@pytest.mark.parametrize(("factor", "is_read"), [(1, False), (16, False), (257, True)])
def test_twelve_bits_in_sixteen_would_be_black(tmp_path: Path, factor: int, is_read: bool):
    path = tmp_path / "deep.tif"
    deep = noise(200, 200).astype(np.uint16) * factor
    tifffile.imwrite(path, deep, photometric="rgb", tile=(64, 64), metadata=None)
    if is_read:
        with open_slide(path) as slide:
            pixels = slide.read(0, LevelBox(0, 0, 200, 200))
        np.testing.assert_array_equal(pixels, noise(200, 200))
    else:
        assert "16 bits wide" in refused(path)


def test_aperios_jpeg_2000_in_a_file_that_is_not_aperios(tmp_path: Path):
    path = tmp_path / "slide.tif"
    how = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
    tifffile.imwrite(path, noise(128, 128), compression="none", **how)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tag = tiff.pages[0].tags["Compression"]
        tiff.filehandle.seek(tag.valueoffset)
        tiff.filehandle.write(struct.pack("<H", 33005))
    assert "vips tiffsave" in refused(path)
