"""A damaged file: what can be read is read, what is lost is white, and it is said where."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.slides import CMU, noise, overwrite_tile, real_slide, write_leica
from wsi_engine.errors import SlideError
from wsi_engine.slide.frames import LevelBox, ModelBox, QuPathBox
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import UnreadableRegionError
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.resolution import with_resolution

WIDTH, HEIGHT = 1300, 1000


def write_damaged(path, tile_size=256, tile=(2, 1), level=0, width=WIDTH, height=HEIGHT):
    """Write noise at 0.25 µm, then destroy one tile of one level."""
    write_pyramid(path, noise(height, width), 0.25, tile_size=tile_size)
    overwrite_tile(path, level, *tile)
    return path


def destroy_finer_tiles(path, tile):
    """Destroy the tiles of level 0 that show what a tile of level 1 shows."""
    for column, row in itertools.product((0, 1), (0, 1)):
        overwrite_tile(path, 0, 2 * tile[0] + column, 2 * tile[1] + row)


def reader_of(slide, mpp):
    return GridReader(slide, make_grid(slide.info, mpp))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Tile (2, 1) of level 0, pixels 512..768 by 256..512, is destroyed."""
    return write_damaged(tmp_path_factory.mktemp("damaged") / "slide.tif")


def test_openslide_itself_fails_for_ever_after(damaged):
    # The reason for all of this. Should it pass one day, handles need no more replacing.
    with openslide.OpenSlide(damaged) as slide:
        slide.read_region((0, 0), 0, (50, 50))
        with pytest.raises(openslide.OpenSlideError):
            slide.read_region((600, 300), 0, (50, 50))
        with pytest.raises(openslide.OpenSlideError):
            slide.read_region((0, 0), 0, (50, 50))


def test_elsewhere_is_read_after_a_failure(damaged):
    image = noise(HEIGHT, WIDTH)
    with open_slide(damaged) as slide:
        for _ in range(3):
            with pytest.raises(UnreadableRegionError):
                slide.read(0, LevelBox(600, 300, 50, 50))
            region = slide.read(0, LevelBox(100, 200, 60, 50))
            np.testing.assert_array_equal(region, image[200:250, 100:160])


def test_a_passing_failure_is_tried_again_with_a_fresh_handle(tmp_path, monkeypatch):
    """A network drive that fails once poisons a handle, but loses nothing."""
    write_pyramid(tmp_path / "slide.tif", noise(300, 300), 0.25)
    healthy, poisoned = openslide.OpenSlide.read_region, []

    def read_region(handle, *arguments):
        if not poisoned:
            poisoned.append(handle)
        if handle in poisoned:
            raise openslide.OpenSlideError("the network is gone")
        return healthy(handle, *arguments)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", read_region)
    with open_slide(tmp_path / "slide.tif") as slide:
        region = slide.read(0, LevelBox(0, 0, 300, 300))
    np.testing.assert_array_equal(region, noise(300, 300))


def test_no_handle_is_left_open(damaged, monkeypatch):
    alive = set()
    opened, closed = openslide.OpenSlide.__init__, openslide.OpenSlide.close

    def open_and_count(handle, path):
        opened(handle, path)
        alive.add(handle)

    def close_and_count(handle):
        alive.discard(handle)
        closed(handle)

    monkeypatch.setattr(openslide.OpenSlide, "__init__", open_and_count)
    monkeypatch.setattr(openslide.OpenSlide, "close", close_and_count)
    with open_slide(damaged) as slide, ThreadPoolExecutor(4) as pool:
        boxes = [LevelBox(600, 300, 50, 50), LevelBox(0, 0, 50, 50)] * 20
        failures = [pool.submit(slide.read, 0, box).exception() for box in boxes]
        assert sum(failure is None for failure in failures) == 20
        # One for each thread, this one included.
        assert 1 <= len(alive) <= 5
    assert not alive


@pytest.mark.parametrize(
    ("mpp", "box", "white"),
    [
        # Boxes in model pixels; white is where the tile lies, in the pixels of the box.
        (0.25, ModelBox(0, 0, WIDTH, HEIGHT), (512, 256, 768, 512)),
        (0.25, ModelBox(600, 300, 80, 60), (0, 0, 80, 60)),
        (0.25, ModelBox(500, 240, 30, 30), (12, 16, 30, 30)),
        (0.25, ModelBox(767, 511, 30, 30), (0, 0, 1, 1)),
    ],
)
def test_only_the_damaged_tile_is_white(damaged, mpp, box, white):
    expected = noise(HEIGHT, WIDTH)[box.y : box.y_stop, box.x : box.x_stop].copy()
    left, top, right, bottom = white
    expected[top:bottom, left:right] = 255
    with open_slide(damaged) as slide:
        reader = reader_of(slide, mpp)
        np.testing.assert_array_equal(reader.read(box), expected)
        assert reader.unreadable == [QuPathBox(512, 256, 768, 512)]


def test_damage_is_listed_once_and_from_top_to_bottom(tmp_path):
    path = write_damaged(tmp_path / "slide.tif", tile=(3, 2))
    overwrite_tile(path, 0, 4, 0)
    overwrite_tile(path, 0, 0, 2)
    with open_slide(path) as slide:
        reader = reader_of(slide, 0.25)
        assert reader.unreadable == []
        for _ in range(2):
            reader.read(reader.grid.extent)
        assert reader.unreadable == [
            QuPathBox(1024, 0, 1280, 256),
            QuPathBox(0, 512, 256, 768),
            QuPathBox(768, 512, 1024, 768),
        ]


def test_a_finer_level_stands_in_for_a_damaged_coarser_one(tmp_path):
    whole = tmp_path / "whole.tif"
    write_pyramid(whole, noise(1024, 1280), 0.25)
    path = write_damaged(tmp_path / "slide.tif", tile=(1, 0), level=1, height=1024, width=1280)
    with open_slide(path) as slide, open_slide(whole) as intact:
        reader, truth = reader_of(slide, 0.5), reader_of(intact, 0.5)
        difference = reader.read(reader.grid.extent).astype(int) - truth.read(truth.grid.extent)
        assert abs(difference).max() <= 1  # the mean of four pixels, rounded by another hand
        assert reader.unreadable == []


def test_what_no_finer_level_has_is_listed_in_full_resolution(tmp_path):
    path = write_damaged(tmp_path / "slide.tif", tile=(1, 0), level=1, height=1024, width=1280)
    overwrite_tile(path, 0, 2, 0)
    with open_slide(path) as slide:
        reader = reader_of(slide, 0.5)
        image = reader.read(reader.grid.extent)
        assert (image[:128, 256:384] == 255).all()
        assert (image == 255).all(axis=2).sum() == 128 * 128
        assert reader.unreadable == [QuPathBox(512, 0, 768, 256)]


def test_damage_is_the_same_for_readers_of_other_grids(tmp_path):
    path = write_damaged(tmp_path / "slide.tif", tile=(2, 1), height=1024, width=1280)
    with open_slide(path) as slide:
        fine, coarse = reader_of(slide, 0.25), reader_of(slide, 0.5)
        fine.read(fine.grid.extent)
        coarse.add_unreadable(fine.unreadable)
        assert coarse.unreadable == fine.unreadable == [QuPathBox(512, 256, 768, 512)]


def test_an_undamaged_slide_lists_nothing(tmp_path):
    write_pyramid(tmp_path / "slide.tif", noise(300, 300), 0.25)
    with open_slide(tmp_path / "slide.tif") as slide:
        reader = reader_of(slide, 0.5)
        reader.read(ModelBox(-50, -50, 300, 300))
        assert reader.unreadable == []


LAYOUTS = {
    # name: size of the file's tiles, size of the slide, damaged tile, level, model mpp
    "blocks are tiles": (256, (1280, 1024), (2, 1), 0, 0.25),
    "small tiles": (64, (640, 448), (4, 3), 0, 0.25),
    "tiles that are no power of two": (240, (1300, 1000), (2, 1), 0, 0.263),
    "a coarser level": (192, (1536, 1280), (1, 1), 1, 0.5),
    "a level that OpenSlide interpolates": (192, (1537, 1281), (1, 1), 1, 0.5),
}


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """Read every layout once, whole: name -> (slide, whole image of the model grid)."""
    folder, opened = tmp_path_factory.mktemp("layouts"), {}
    for number, (name, (tile_size, size, tile, level, mpp)) in enumerate(LAYOUTS.items()):
        path = folder / f"{number}.tif"
        write_damaged(path, tile_size, tile, level, *size)
        if level:
            destroy_finer_tiles(path, tile)
        slide = open_slide(path)
        reader = reader_of(slide, mpp)
        assert reader.level.index == level
        opened[name] = slide, reader.read(reader.grid.extent)
        assert len(reader.unreadable) > 0
    yield opened
    for slide, _ in opened.values():
        slide.close()


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_is_white_does_not_depend_on_the_boxes(layouts, name, data):
    slide, whole = layouts[name]
    tile_size, _, tile, level, mpp = LAYOUTS[name]
    scale = mpp / 0.25 / 2**level
    # Around the damage, where boxes that touch it and boxes that just do not are many.
    near = [int(tile[axis] * tile_size / scale) for axis in (0, 1)]
    reach = int(tile_size / scale)
    x = data.draw(st.integers(max(0, near[0] - reach // 2), near[0] + 3 * reach // 2))
    y = data.draw(st.integers(max(0, near[1] - reach // 2), near[1] + 3 * reach // 2))
    width, height = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    width, height = min(width, whole.shape[1] - x), min(height, whole.shape[0] - y)
    part = reader_of(slide, mpp).read(ModelBox(x, y, width, height))
    np.testing.assert_array_equal(part, whole[y : y + height, x : x + width])


def test_many_threads_meet_the_same_damage(damaged):
    boxes = [ModelBox(x, y, 200, 150) for x in range(0, 600, 70) for y in range(0, 450, 60)]
    with open_slide(damaged) as slide, ThreadPoolExecutor(8) as pool:
        reader = reader_of(slide, 0.263)
        alone = [reader.read(box) for box in boxes]
        again = reader_of(slide, 0.263)
        for one, other in zip(alone, pool.map(again.read, boxes), strict=True):
            np.testing.assert_array_equal(one, other)
        assert again.unreadable == reader.unreadable


def test_damage_on_a_slide_with_bounds_is_listed_as_qupath_counts(tmp_path):
    image = noise(512, 512)
    write_leica(tmp_path / "slide.scn", image, offset_px=(512, 256), mpp=0.25, margin_px=256)
    overwrite_tile(tmp_path / "slide.scn", 1, 2, 3)
    with open_slide(tmp_path / "slide.scn") as slide:
        reader = reader_of(slide, 0.25)
        got = reader.read(reader.grid.extent)
    lost = got[192:256, 128:192]
    assert (lost == 255).all()
    [box] = reader.unreadable
    # Leica's tiles are not aligned to the slide, so blocks of 256 are lost.
    assert box == QuPathBox(0, 0, 256, 256)
    np.testing.assert_array_equal(got[:, 256:], image[:, 256:])
    np.testing.assert_array_equal(got[256:], image[256:])


def test_damage_in_a_real_slide(tmp_path):
    """JPEG tiles of 240 pixels; libjpeg does not refuse every damage, so a header is hit."""
    path = tmp_path / CMU
    path.write_bytes(real_slide(CMU).read_bytes())
    overwrite_tile(path, 0, 4, 6)
    with open_slide(path) as slide, open_slide(real_slide(CMU)) as intact:
        reader, truth = reader_of(slide, 0.499), reader_of(intact, 0.499)
        box = ModelBox(900, 1380, 400, 400)
        expected = truth.read(box).copy()
        expected[1440 - 1380 : 1680 - 1380, 960 - 900 : 1200 - 900] = 255
        np.testing.assert_array_equal(reader.read(box), expected)
        assert reader.unreadable == [QuPathBox(960, 1440, 1200, 1680)]


@pytest.mark.parametrize("suffix", [".tif", ".svs"])
@pytest.mark.parametrize("share", [0.0, 0.00001, 0.0005, 0.05, 0.3, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.filterwarnings("error")
def test_a_truncated_slide_says_so_or_every_pixel_is_right_or_listed(tmp_path, suffix, share):
    whole = tmp_path / "whole.tif"
    write_pyramid(whole, noise(700, 900), 0.25)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    try:
        slide = open_slide(path)
    except SlideError as error:
        said = str(error)
    else:
        with slide:
            # Without its last levels OpenSlide refuses a TIFF, and Pillow reads the first: right,
            # but without a pixel size.
            reader = GridReader(slide, make_grid(with_resolution(slide.info, 0.25), 0.25))
            image, expected = reader.read(reader.grid.extent), noise(700, 900)
            for box in reader.unreadable:
                expected[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = 255
            np.testing.assert_array_equal(image, expected)
            return
    assert path.name in said
    assert "damaged" in said or "only part of one" in said or "Pillow" in said
