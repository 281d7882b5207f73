"""Opening: any file gives a slide, or one sentence that says what is wrong with it."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from tests.support.slides import CMU, MOSAIC, TCGA_CR, TCGA_V5, noise, real_slide, write_aperio
from wsi_engine.errors import SlideError
from wsi_engine.slide import plain_image
from wsi_engine.slide.frames import Level0Box, LevelBox
from wsi_engine.slide.levels import true_downsample
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.openslide_slide import OpenSlideSlide
from wsi_engine.slide.pyramid import write_pyramid


@pytest.mark.parametrize(
    ("name", "vendor", "size", "downsamples", "mpp", "power", "associated"),
    [
        (CMU, "aperio", (2220, 2967), (1,), 0.499, 20, ("label", "macro", "thumbnail")),
        # OpenSlide says 2.0005, for the sides were odd.
        (TCGA_CR, "aperio", (4443, 3567), (1, 2), None, None, ("thumbnail",)),
        (TCGA_V5, "generic-tiff", (14464, 10624), (1, 2, 4, 8, 16), 0.2485, None, ()),
        (MOSAIC, "generic-tiff", (6400, 5632), (1, 2, 4, 8), 0.25, None, ()),
    ],
)
def test_what_real_slides_say_of_themselves(
    name, vendor, size, downsamples, mpp, power, associated
):
    with open_slide(real_slide(name)) as slide:
        info = slide.info
    assert info.path.name == name
    assert info.vendor == vendor
    assert (info.width, info.height) == size
    assert info.bounds == Level0Box(0, 0, *size)
    assert tuple(level.downsample for level in info.levels) == downsamples
    assert [level.index for level in info.levels] == list(range(len(downsamples)))
    assert (info.mpp and info.mpp.x) == (mpp and pytest.approx(mpp))
    assert (info.mpp and info.mpp.y) == (mpp and pytest.approx(mpp))
    assert info.objective_power == power
    assert info.associated_images == associated
    assert info.focal_planes == 1


@pytest.mark.parametrize(
    ("full", "level", "downsample"),
    [
        ((1000, 800), (500, 400), 2.0),
        # Halved, with the odd row and column dropped, or kept.
        ((1001, 801), (500, 400), 2.0),
        ((1001, 801), (501, 401), 2.0),
        ((3001, 201), (1500, 100), 2.0),
        ((100_003, 50_001), (25_000, 12_500), 4.0),
        ((100_003, 50_001), (6_250, 3_125), 16.0),
        # Not a rounded half: left as OpenSlide has it.
        ((1000, 800), (480, 384), 1000 / 480),
        ((1000, 800), (300, 240), 1000 / 300),
    ],
)
def test_downsample_of_a_level_whose_size_was_rounded(tmp_path, full, level, downsample):
    reported = (full[0] / level[0] + full[1] / level[1]) / 2
    assert true_downsample(full, level, reported) == pytest.approx(downsample, rel=1e-12)


@pytest.mark.parametrize("name", ["slide.svs", "slide.tif", "slide.ndpi", "slide.png", "slide"])
@pytest.mark.parametrize(
    "content", [b"", b"no image at all\n" * 200, b"II*\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
)
@pytest.mark.filterwarnings("error")
def test_what_is_not_a_slide(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SlideError, match=r"slide.* is (not a slide|damaged)") as caught:
        open_slide(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(SlideError, match=r"gone\.svs: no such file"):
        open_slide(tmp_path / "gone.svs")


def test_a_folder(tmp_path):
    (tmp_path / "slide.svs").mkdir()
    with pytest.raises(SlideError, match="is not a file"):
        open_slide(tmp_path / "slide.svs")


def test_a_path_may_be_a_string(tmp_path):
    write_pyramid(tmp_path / "schnitt ä µ.tif", noise(300, 300), 0.25)
    with open_slide(str(tmp_path / "schnitt ä µ.tif")) as slide:
        np.testing.assert_array_equal(slide.read(0, LevelBox(0, 0, 300, 300)), noise(300, 300))


def test_openslide_goes_before_pillow(tmp_path):
    """A tiled TIFF is a slide with a pixel size; Pillow would lose both levels and size."""
    write_pyramid(tmp_path / "tiled.tif", noise(600, 600), 0.25)
    tifffile.imwrite(tmp_path / "strips.tif", noise(60, 60), photometric="rgb")
    with open_slide(tmp_path / "tiled.tif") as slide:
        assert (slide.info.vendor, len(slide.info.levels)) == ("generic-tiff", 3)
    with open_slide(tmp_path / "strips.tif") as slide:
        assert (slide.info.vendor, len(slide.info.levels)) == ("plain image", 1)


def test_aperio_by_description(tmp_path):
    write_aperio(tmp_path / "slide.svs", noise(100, 130), mpp="0.2527", power="40")
    with open_slide(tmp_path / "slide.svs") as slide:
        assert slide.info.vendor == "aperio"
        assert slide.info.mpp.x == pytest.approx(0.2527)
        assert slide.info.objective_power == 40
        np.testing.assert_array_equal(slide.read(0, LevelBox(0, 0, 130, 100)), noise(100, 130))


def ramp():
    """Grey values 0 to 255 from left to right."""
    return np.tile(np.arange(256, dtype=np.uint8), (20, 1))


@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [
        ("ramp.png", "RGB", 0),
        ("ramp.tif", "RGB", 0),
        ("ramp.bmp", "RGB", 0),
        ("ramp.jpg", "RGB", 2),
        ("ramp.JPEG", "L", 2),
        ("ramp.png", "L", 0),
        ("ramp.tif", "L", 0),
        ("ramp.png", "P", 0),
        ("ramp.png", "RGBA", 0),
        ("ramp.png", "LA", 0),
        ("ramp.tif", "CMYK", 0),
    ],
)
def test_plain_images_of_any_kind_become_rgb(tmp_path, name, mode, tolerance):
    grey = Image.fromarray(ramp())
    if mode not in ("L", "P"):
        grey = grey.convert("RGB")
    grey.convert(mode).save(tmp_path / name)
    with open_slide(tmp_path / name) as slide:
        info = slide.info
        image = slide.read(0, LevelBox(0, 0, 256, 20))
    assert info.mpp is None
    assert info.bounds == Level0Box(0, 0, 256, 20)
    assert image.dtype == np.uint8
    difference = np.abs(image.astype(int) - ramp()[..., None])
    assert difference.max() <= tolerance


def test_sixteen_bits_of_colour_become_eight(tmp_path):
    deep = np.repeat(ramp().astype(np.uint16)[..., None] * 257, 3, axis=2)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    with open_slide(tmp_path / "deep.tif") as slide:
        image = slide.read(0, LevelBox(0, 0, 256, 20))
    np.testing.assert_array_equal(image, np.repeat(ramp()[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("deep.png", np.uint16),
        ("deep.tif", np.uint16),
        ("deep.tif", np.int32),
        ("deep.tif", np.float32),
    ],
)
def test_deep_grey_is_refused_and_not_cut_off_at_white(tmp_path, name, dtype):
    deep = ramp().astype(dtype) * 100
    if name == "deep.png":
        Image.fromarray(deep).save(tmp_path / name)
    else:
        tifffile.imwrite(tmp_path / name, deep)
    with pytest.raises(SlideError, match=r"deep\.\w+ is a grey image .* convert it to 8-bit RGB"):
        open_slide(tmp_path / name)


def test_transparency_is_white(tmp_path):
    pixels = np.zeros((4, 5, 4), np.uint8)
    pixels[..., 0] = 200
    pixels[1, :, 3], pixels[2, :, 3] = 255, 51
    Image.fromarray(pixels).save(tmp_path / "glass.png")
    with open_slide(tmp_path / "glass.png") as slide:
        image = slide.read(0, LevelBox(0, 0, 5, 4))
    assert image[:, 0].tolist() == [[255, 255, 255], [200, 0, 0], [244, 204, 204], [255, 255, 255]]


def test_a_palette_with_a_transparent_colour(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "palette.png", transparency=1)
    with open_slide(tmp_path / "palette.png") as slide:
        assert slide.read(0, LevelBox(0, 0, 2, 1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        (LevelBox(-3, -2, 6, 5), (slice(2, 5), slice(3, 6), slice(0, 3), slice(0, 3))),
        (LevelBox(10, 8, 30, 30), (slice(0, 12), slice(0, 20), slice(8, 20), slice(10, 30))),
        (LevelBox(-5, -5, 60, 60), (slice(5, 25), slice(5, 35), slice(0, 20), slice(0, 30))),
        (LevelBox(30, 0, 4, 4), None),
        (LevelBox(-9, -9, 4, 4), None),
    ],
)
def test_outside_a_plain_image_is_white(tmp_path, box, inside):
    image = noise(20, 30)
    Image.fromarray(image).save(tmp_path / "plain.png")
    expected = np.full((box.height, box.width, 3), 255, np.uint8)
    if inside:
        expected[inside[:2]] = image[inside[2:]]
    with open_slide(tmp_path / "plain.png") as slide:
        np.testing.assert_array_equal(slide.read(0, box), expected)


@pytest.mark.parametrize(("limit", "opens"), [(599, False), (600, True)])
def test_a_plain_image_too_large_to_hold(tmp_path, monkeypatch, limit, opens):
    monkeypatch.setattr(plain_image, "LARGEST_PLAIN_IMAGE_PX", limit)
    Image.fromarray(noise(20, 30)).save(tmp_path / "large.png")
    if opens:
        open_slide(tmp_path / "large.png").close()
    else:
        with pytest.raises(SlideError, match=r"large\.png .* convert it to a pyramidal TIFF"):
            open_slide(tmp_path / "large.png")


def test_what_pillow_calls_a_bomb_is_too_large_as_well(tmp_path, monkeypatch):
    assert plain_image.LARGEST_PLAIN_IMAGE_PX <= 2 * Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    Image.fromarray(noise(20, 30)).save(tmp_path / "bomb.png")
    with pytest.raises(SlideError, match=r"bomb\.png .* convert it to a pyramidal TIFF"):
        open_slide(tmp_path / "bomb.png")


@pytest.mark.filterwarnings("error")
def test_a_large_plain_image_is_no_reason_to_warn(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    Image.fromarray(noise(20, 30)).save(tmp_path / "large.png")
    open_slide(tmp_path / "large.png").close()


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.tif", "cut.bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_plain_image_is_damaged(tmp_path, name, share):
    Image.fromarray(noise(60, 60)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SlideError, match=r"cut\.\w+ is (damaged|not a slide)"):
        open_slide(tmp_path / name)


def test_a_slide_is_closed_when_the_last_read_has_ended(sample, monkeypatch):
    """OpenSlide 4.0.1 aborts the process where a handle is closed that is read through."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    read_region = openslide.OpenSlide.read_region

    def slow(*arguments: object) -> object:
        begun.set()
        go_on.wait(10)
        pixels = read_region(*arguments)
        ended.set()
        return pixels

    slide = OpenSlideSlide(sample.slide_path)
    monkeypatch.setattr(openslide.OpenSlide, "read_region", slow)
    with ThreadPoolExecutor(2) as threads:
        reading = threads.submit(slide.read, 0, LevelBox(0, 0, 64, 64))
        begun.wait(10)
        closing = threads.submit(slide.close)
        assert wait([closing], timeout=0.2).not_done
        go_on.set()
        closing.result(10)
        assert ended.is_set()
        assert reading.result(10).shape == (64, 64, 3)
    with pytest.raises(SlideError, match="was closed while it was read"):
        slide.read(0, LevelBox(0, 0, 64, 64))
