"""A written pyramid is what OpenSlide reads: size, pixel size, levels, pixels."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import openslide
import pytest

from wsi_engine.errors import OutputError, ResolutionError, SettingsError
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.pyramid import write_pyramid


def noise(height, width):
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def halved(image):
    height, width = (side // 2 for side in image.shape[:2])
    blocks = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
    return np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def read_level(slide, level):
    region = slide.read_region((0, 0), level, slide.level_dimensions[level])
    return np.asarray(region)[..., :3]


class Rows:
    """An image that is only ever asked for bands, top to bottom."""

    def __init__(self, image):
        self.image = image
        self.height, self.width = image.shape[:2]
        self.bands = []

    def rows(self, start, stop):
        self.bands.append((start, stop))
        return self.image[start:stop]


@pytest.mark.parametrize(
    ("height", "width", "levels"),
    [
        (100, 80, [(80, 100)]),
        (256, 256, [(256, 256)]),
        (257, 256, [(256, 257), (128, 128)]),
        (600, 800, [(800, 600), (400, 300), (200, 150)]),
        (769, 513, [(513, 769), (256, 384), (128, 192)]),
        # The last row of tiles holds a single row, which no coarser level keeps.
        (1025, 300, [(300, 1025), (150, 512), (75, 256)]),
        # A strip cannot be halved further than to one row.
        (3, 2000, [(2000, 3), (1000, 1)]),
    ],
)
def test_every_level_is_the_mean_of_the_one_before(tmp_path, height, width, levels):
    image = noise(height, width)
    write_pyramid(tmp_path / "slide.tif", image, mpp=0.25)
    with openslide.OpenSlide(tmp_path / "slide.tif") as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert list(slide.level_dimensions) == levels
        for level in range(slide.level_count):
            np.testing.assert_array_equal(read_level(slide, level), image)
            image = halved(image)


@pytest.mark.parametrize(
    ("mpp", "expected"),
    [
        (0.25, (0.25, 0.25)),
        (0.2527, (0.2527, 0.2527)),
        (1.0, (1.0, 1.0)),
        (Mpp(0.25, 0.26), (0.25, 0.26)),
    ],
)
def test_openslide_reports_the_pixel_size(tmp_path, mpp, expected):
    write_pyramid(tmp_path / "slide.tif", noise(300, 300), mpp)
    with openslide.OpenSlide(tmp_path / "slide.tif") as slide:
        reported = [float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
    assert reported == pytest.approx(expected, rel=1e-6)


def test_number_of_levels_and_tile_size_can_be_chosen(tmp_path):
    write_pyramid(tmp_path / "slide.tif", noise(300, 500), 0.5, tile_size=64, levels=2)
    with openslide.OpenSlide(tmp_path / "slide.tif") as slide:
        assert slide.level_count == 2
        assert slide.properties["openslide.level[1].tile-width"] == "64"


@pytest.mark.parametrize("height", [255, 256, 700, 1025])
def test_bands_give_the_same_bytes_as_the_whole_image(tmp_path, height):
    image = noise(height, 300)
    write_pyramid(tmp_path / "whole.tif", image, 0.25)
    rows = Rows(image)
    write_pyramid(tmp_path / "bands.tif", rows, 0.25)
    assert (tmp_path / "bands.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert [start for start, _ in rows.bands] == list(range(0, height, 256))
    assert max(stop - start for start, stop in rows.bands) <= 256


def test_memory_does_not_grow_with_the_slide(tmp_path):
    class Endless:
        height, width = 24_000, 512

        def rows(self, start, stop):
            return np.full((stop - start, self.width, 3), start % 251, np.uint8)

    tracemalloc.start()
    try:
        write_pyramid(tmp_path / "slide.tif", Endless(), 0.25)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The image would take 35 MiB, a band of it 0.4 MiB.
    assert peak < 6 * 2**20


def test_imagecodecs_is_neither_needed_nor_used(tmp_path):
    image = noise(300, 300)
    write_pyramid(tmp_path / "here.tif", image, 0.25)
    np.save(tmp_path / "image.npy", image)
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "import numpy, pathlib\n"
        "from wsi_engine.slide.pyramid import write_pyramid\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "write_pyramid(folder / 'there.tif', numpy.load(folder / 'image.npy'), 0.25)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert (tmp_path / "there.tif").read_bytes() == (tmp_path / "here.tif").read_bytes()


def test_a_failure_leaves_the_old_slide_and_nothing_else(tmp_path):
    class Broken(Rows):
        def rows(self, start, stop):
            if start:
                raise RuntimeError("scanner unplugged")
            return super().rows(start, stop)

    path = tmp_path / "slide.tif"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="unplugged"):
        write_pyramid(path, Broken(noise(600, 300)), 0.25)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"mpp": 0.0}, ResolutionError),
        ({"mpp": float("nan")}, ResolutionError),
        ({"mpp": 0.25, "tile_size": 100}, SettingsError),
        ({"mpp": 0.25, "levels": 0}, SettingsError),
        ({"mpp": 0.25, "levels": 12}, SettingsError),
        ({"mpp": 0.25, "source": noise(0, 300)}, SettingsError),
        ({"mpp": 0.25, "source": noise(300, 300).astype(np.float32)}, SettingsError),
        ({"mpp": 0.25, "path": Path("no") / "such" / "folder.tif"}, OutputError),
    ],
)
def test_what_cannot_work_is_said(tmp_path, arguments, error):
    given = {"path": tmp_path / "slide.tif", "source": noise(300, 300), **arguments}
    with pytest.raises(error):
        write_pyramid(**given)
    assert not list(tmp_path.iterdir())
