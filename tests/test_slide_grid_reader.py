"""Reading the model grid: the right level, the right place, and one value per pixel."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.registration import phase_cross_correlation

from tests.support.slides import CMU, MOSAIC, TCGA_CR, TCGA_V5, dot_centre, dots, noise, real_slide
from wsi_engine.errors import ResolutionError
from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import (
    MIRROR_BAND_PX,
    GridReader,
    best_level,
    make_grid,
    mirrored,
)
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import Level
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.resolution import with_resolution


def open_reader(path, mpp=0.5, stated=None, level=None):
    slide = open_slide(path)
    reader = GridReader(slide, make_grid(with_resolution(slide.info, stated), mpp))
    if level is not None:
        reader.level = slide.info.levels[level]
    return reader


REAL = {
    # name of the case: file, stated mpp, level that 0.5 µm is read from
    "0.2485 µm": (TCGA_V5, None, 1),
    "0.25 µm": (MOSAIC, None, 1),
    "0.263 µm": (TCGA_V5, 0.263, 0),
    "0.499 µm": (CMU, None, 0),
    "0.2467 µm, odd sides": (TCGA_CR, 0.2467, 1),
}

BOXES = [
    # x, y, width, height in a window of 400 x 300 pixels
    (0, 0, 400, 300),
    (1, 0, 64, 64),
    (133, 77, 90, 41),
    (257, 199, 1, 1),
    (336, 236, 64, 64),
    (0, 150, 400, 1),
]


@pytest.mark.parametrize("case", REAL)
@pytest.mark.parametrize("corner", ["left", "middle", "bottom right"])
def test_any_box_is_the_same_part_of_a_larger_one(case, corner):
    name, stated, _ = REAL[case]
    reader = open_reader(real_slide(name), stated=stated)
    extent = reader.grid.extent
    x, y = {
        "left": (-150, extent.height // 2 - 100),
        "middle": (extent.width // 2 - 33, extent.height // 2 + 17),
        "bottom right": (extent.width - 250, extent.height - 200),
    }[corner]
    whole = reader.read(ModelBox(x, y, 400, 300))
    assert whole.shape == (300, 400, 3)
    assert np.ptp(whole) > 0 or corner != "middle"
    for left, top, width, height in BOXES:
        part = reader.read(ModelBox(x + left, y + top, width, height))
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


@pytest.mark.parametrize("mpp", [0.2485, 0.25, 0.263, 0.499])
def test_beyond_the_slide_it_is_mirrored(tmp_path, mpp):
    write_pyramid(tmp_path / "slide.tif", noise(301, 403), mpp)
    reader = open_reader(tmp_path / "slide.tif")
    whole = reader.read(reader.grid.whole)
    around = reader.read(reader.grid.whole.padded(60))
    np.testing.assert_array_equal(around, np.pad(whole, ((60, 60), (60, 60), (0, 0)), "symmetric"))
    part = reader.read(ModelBox(-40, 30, 77, 500))
    np.testing.assert_array_equal(part[: whole.shape[0] - 30], around[90:-60, 20:97])


@pytest.mark.parametrize(
    ("start", "count", "size", "expected"),
    [
        (2, 3, 9, [2, 3, 4]),
        (-3, 5, 9, [2, 1, 0, 0, 1]),
        (7, 5, 9, [7, 8, 8, 7, 6]),
        (-2, 6, 2, [1, 0, 0, 1, 1, 0]),
        (-3, 7, 1, [0] * 7),
        # A band deep, and back.
        (-MIRROR_BAND_PX - 2, 4, 5000, [510, 511, 511, 510]),
        (4998 + MIRROR_BAND_PX, 4, 5000, [4489, 4488, 4488, 4489]),
    ],
)
def test_places_beyond_the_border_stand_for_places_within(start, count, size, expected):
    assert mirrored(start, count, size).tolist() == expected


@given(st.integers(-3000, 9000), st.integers(1, 2000), st.integers(1, 6000))
def test_a_window_beyond_the_slide_reads_no_more_than_itself_and_the_band(start, count, size):
    places = mirrored(start, count, size)
    assert places.min() >= 0
    assert places.max() < size
    assert np.ptp(places) < max(count, MIRROR_BAND_PX)
    np.testing.assert_array_equal(
        places[count // 2 :], mirrored(start + count // 2, -(-count // 2), size)
    )


LEVELS = {
    "one": (1.0,),
    "twos": (1.0, 2.0, 4.0, 8.0, 16.0),
    "fours": (1.0, 4.0, 16.0),
    "rounded": (1.0, 2.0005, 4.003),
}


@pytest.mark.parametrize(
    ("levels", "slide_mpp", "model_mpp", "chosen"),
    [
        ("twos", 0.2485, 0.5, 1),
        ("twos", 0.25, 0.5, 1),
        # At 0.2527 level 1 has 0.5054 µm, 1 % coarser than asked for.
        ("twos", 0.2527, 0.5, 1),
        # Never the level of 0.526 µm: it has lost detail that the model needs.
        ("twos", 0.263, 0.5, 0),
        ("twos", 0.499, 0.5, 0),
        ("twos", 0.5, 0.5, 0),
        ("twos", 0.5, 0.25, 0),
        ("twos", 0.25, 1.0, 2),
        ("twos", 0.25, 3.9, 3),
        ("twos", 0.25, 8.0, 4),
        ("twos", 0.25, 100.0, 4),
        ("one", 0.25, 8.0, 0),
        ("fours", 0.25, 0.5, 0),
        ("fours", 0.25, 1.0, 1),
        ("rounded", 0.2467, 0.5, 1),
        ("rounded", 0.25, 0.5, 1),
        ("rounded", 0.25, 0.98, 1),
    ],
)
def test_the_coarsest_level_that_keeps_the_detail(levels, slide_mpp, model_mpp, chosen):
    pyramid = tuple(Level(k, 100, 100, down) for k, down in enumerate(LEVELS[levels]))
    assert best_level(pyramid, model_mpp / slide_mpp).index == chosen


@pytest.mark.parametrize("case", REAL)
def test_the_level_of_real_slides(case):
    name, stated, level = REAL[case]
    reader = open_reader(real_slide(name), stated=stated)
    assert reader.level.index == level


def test_a_slide_of_unknown_pixel_size_has_no_grid():
    with open_slide(real_slide(TCGA_CR)) as slide, pytest.raises(ResolutionError, match="unknown"):
        make_grid(slide.info, 0.5)


def test_full_resolution_is_handed_through(tmp_path):
    image = noise(300, 400)
    write_pyramid(tmp_path / "slide.tif", image, 0.25)
    reader = open_reader(tmp_path / "slide.tif", mpp=0.25)
    np.testing.assert_array_equal(reader.read(ModelBox(0, 0, 400, 300)), image)
    np.testing.assert_array_equal(reader.read(ModelBox(31, 57, 90, 80)), image[57:137, 31:121])


def test_half_resolution_from_either_level_is_the_same(tmp_path):
    write_pyramid(tmp_path / "slide.tif", noise(512, 768), 0.25)
    finer, coarser = (open_reader(tmp_path / "slide.tif", level=level) for level in (0, 1))
    box = ModelBox(10, 20, 300, 200)
    np.testing.assert_array_equal(finer.read(box), coarser.read(box))


@pytest.mark.parametrize("mpp", [0.2485, 0.25, 0.2527, 0.263, 0.499])
@pytest.mark.parametrize(("width", "height"), [(3008, 192), (3001, 201), (2999, 103)])
def test_nothing_drifts_along_a_slide(tmp_path, mpp, width, height):
    """A dot at a place in full resolution is read at that place, whatever level it comes from.

    The sides of the narrow slides are odd: OpenSlide takes level 1 for 2.005 and 2.01 times
    smaller, though its pixels are 2 x 2 of the finer ones. That would be 8 and 15 pixels at
    the right end.
    """
    places = np.column_stack([np.linspace(60.3, width - 60.6, 14), np.full(14, height / 2 + 0.2)])
    write_pyramid(tmp_path / "slide.tif", dots(height, width, places, sigma=4), mpp)
    reader = open_reader(tmp_path / "slide.tif")
    image = reader.read(reader.grid.extent)
    expected = reader.grid.from_qupath(places)
    reach = round(18 / reader.grid.scale_x)
    found = np.array([dot_centre(image, x, y, reach) for x, y in expected])
    # Half a full-resolution pixel is what OpenSlide's whole-numbered positions can be off by.
    allowed = 0.03 if width == 3008 or reader.level.index == 0 else 0.5 / reader.grid.scale_x
    assert np.abs(found - expected).max() < allowed


def test_levels_of_a_real_slide_lie_upon_each_other():
    # Level 1 of this one was halved from odd sides, too.
    fine, coarse = (
        open_reader(real_slide(TCGA_CR), stated=0.2467, level=level) for level in (0, 1)
    )
    for x, y in [(300, 800), (1900, 800), (1900, 1500)]:
        box = ModelBox(x, y, 256, 256)
        one, other = (reader.read(box).mean(axis=2) for reader in (fine, coarse))
        shift, _, _ = phase_cross_correlation(one, other, upsample_factor=20)
        assert np.abs(shift).max() <= 0.2


@pytest.fixture(scope="module")
def odd_slide(tmp_path_factory):
    """A slide whose level 1 OpenSlide can only address by interpolation."""
    path = tmp_path_factory.mktemp("odd") / "odd.tif"
    write_pyramid(path, noise(1101, 1301), 0.25)
    with openslide.OpenSlide(path) as slide:
        assert not slide.level_downsamples[1].is_integer()
    return path


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0.25, 0.5, 0.503, 1.0]),
    st.integers(-30, 500),
    st.integers(-30, 400),
    st.integers(1, 90),
    st.integers(1, 90),
)
def test_a_value_does_not_depend_on_the_box(odd_slide, mpp, x, y, width, height):
    reader = READERS.setdefault(mpp, open_reader(odd_slide, mpp))
    whole = WHOLE.setdefault(mpp, reader.read(ModelBox(-30, -30, 640, 540)))
    part = reader.read(ModelBox(x, y, width, height))
    np.testing.assert_array_equal(part, whole[y + 30 :, x + 30 :][:height, :width])


READERS, WHOLE = {}, {}


@pytest.mark.parametrize("case", ["0.2485 µm", "0.499 µm"])
def test_many_threads_read_the_same(case):
    name, stated, _ = REAL[case]
    reader = open_reader(real_slide(name), stated=stated)
    width, height = reader.grid.extent.width, reader.grid.extent.height
    rng = np.random.default_rng(3)
    boxes = [
        ModelBox(int(rng.integers(-50, width)), int(rng.integers(-50, height)), 200, 150)
        for _ in range(60)
    ]
    alone = [reader.read(box) for box in boxes]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(reader.read, boxes * 2))
    for one, other in zip(alone * 2, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pixels_that_are_not_square(tmp_path):
    """The grid is square in µm whatever the scanner's pixels are."""
    places = np.array([[100.0, 500.0], [700.0, 100.0], [700.0, 500.0]])
    write_pyramid(tmp_path / "slide.tif", dots(600, 800, places, sigma=6), 0.25)
    with open_slide(tmp_path / "slide.tif") as slide:
        info = replace(slide.info, mpp=replace(slide.info.mpp, y=0.4))
        reader = GridReader(slide, make_grid(info, 0.5))
        assert reader.level.index == 0
        assert (reader.grid.extent.width, reader.grid.extent.height) == (400, 480)
        image = reader.read(reader.grid.extent)
    for x, y in places * [0.25 / 0.5, 0.4 / 0.5]:
        assert dot_centre(image, x, y, reach=15) == pytest.approx((x, y), abs=0.05)
