"""Grids of whole slide pixels: which slides have them, and that nothing is blurred there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.slides import CMU, MOSAIC, TCGA_CR, TCGA_V5, noise, real_slide, write_leica
from wsi_engine.errors import ResolutionError
from wsi_engine.slide.frames import Level0Box, ModelBox, Mpp
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import Level, SlideInfo
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.resolution import with_resolution
from wsi_engine.slide.whole_pixels import (
    LARGEST_MISFIT,
    make_measured_grid,
    make_model_grid,
    reason_for,
)

HEIGHT, WIDTH = 700, 900


def slide_of(x: float, y: float | None = None, levels: tuple[Level, ...] = ()) -> SlideInfo:
    """Facts of a slide whose pixels have a size in µm."""
    levels = levels or (Level(0, WIDTH, HEIGHT, 1.0),)
    box = Level0Box(0, 0, WIDTH, HEIGHT)
    return SlideInfo(Path("slide.svs"), "none", levels, box, Mpp(x, y or x), "by hand", None, 1, ())


MODEL_GRIDS = {
    # pixel size of the slide, of the model; slide pixels in one that the model sees
    "20x": (0.499, None, 0.5, (1, 1)),
    "40x": (0.2485, None, 0.5, (2, 2)),
    "40x of another scanner": (0.2527, None, 0.5, (2, 2)),
    "60x": (0.172, None, 0.5, (3, 3)),
    "80x": (0.1214, None, 0.5, (4, 4)),
    "5 % coarser": (0.525, None, 0.5, (1, 1)),
    "5 % finer": (0.2375, None, 0.5, (2, 2)),
    "more than 5 % coarser": (0.263, None, 0.5, None),
    "more than 5 % finer": (0.4531, None, 0.5, None),
    "nearly square": (0.2508, 0.2501, 0.5, (2, 2)),
    "one side off": (0.25, 0.264, 0.5, None),
    "twice as high as wide": (0.25, 0.5, 0.5, (2, 1)),
    "far from square": (0.25, 0.4, 0.5, None),
    "a model of 0.25 µm at 40x": (0.2485, None, 0.25, (1, 1)),
    "a model of 0.25 µm at 20x": (0.499, None, 0.25, None),
    "coarser than the model": (1.0, None, 0.5, None),
}


@pytest.mark.parametrize(("x", "y", "model_mpp", "pixels"), MODEL_GRIDS.values(), ids=MODEL_GRIDS)
def test_a_model_sees_whole_pixels_where_some_number_of_them_is_about_its_own(
    x: float, y: float | None, model_mpp: float, pixels: tuple[int, int] | None
):
    grid = make_model_grid(slide_of(x, y), model_mpp)
    assert grid.slide_pixels == pixels
    if pixels is None:
        assert grid.pixel == Mpp(model_mpp, model_mpp)
        assert reason_for(grid, model_mpp).startswith("resampled, as no whole number")
    else:
        assert (grid.scale_x, grid.scale_y) == pixels
        assert grid.pixel == Mpp(pixels[0] * x, pixels[1] * (y or x))
        assert grid.mpp == pytest.approx(grid.pixel.mean, rel=1e-12)
        assert abs(grid.mpp / model_mpp - 1) < LARGEST_MISFIT + 1e-6
        assert "so that none is blurred" in reason_for(grid, model_mpp)


MEASURED_GRIDS = {
    # pixel size of the slide; slide pixels in one that is measured
    "20x": (0.499, None, (1, 1)),
    "40x": (0.2485, None, (2, 2)),
    "a scanner of 0.4531 µm": (0.4531, None, (1, 1)),
    "a scanner of 0.2265 µm": (0.2265, None, (2, 2)),
    "as far from 0.5 µm as it gets": (0.36, None, (1, 1)),
    "as far to the other side": (0.35, None, (2, 2)),
    "coarse": (1.1, None, (1, 1)),
    "nearly square": (0.2508, 0.2501, (2, 2)),
    "far from square": (0.25, 0.4, None),
}


@pytest.mark.parametrize(("x", "y", "pixels"), MEASURED_GRIDS.values(), ids=MEASURED_GRIDS)
def test_nuclei_are_measured_on_whole_pixels_of_nearly_every_slide(
    x: float, y: float | None, pixels: tuple[int, int] | None
):
    grid = make_measured_grid(slide_of(x, y))
    assert grid.slide_pixels == pixels
    if pixels is None:
        assert grid.pixel == Mpp(0.5, 0.5)


@given(st.floats(0.05, 0.7), st.sampled_from([0.25, 0.5]))
def test_where_a_model_of_the_measured_size_sees_whole_pixels_these_are_measured(
    mpp: float, model_mpp: float
):
    """So they are read once."""
    info = slide_of(mpp)
    seen, measured = make_model_grid(info, model_mpp), make_measured_grid(info)
    assert (seen == measured) == (model_mpp == 0.5 and seen.slide_pixels is not None)


def test_a_slide_of_unknown_pixel_size_has_neither():
    info = replace(slide_of(0.5), mpp=None)
    for make in (make_measured_grid, lambda unknown: make_model_grid(unknown, 0.5)):
        with pytest.raises(ResolutionError, match="the pixel size is unknown"):
            make(info)


STATED = {
    # name of the slide; --mpp; slide pixels in one of 0.5 µm; level; what the file is stated to be
    "0.499 µm": (CMU, None, (1, 1), 0),
    "0.499 µm, stated to be 0.25": (CMU, 0.25, (2, 2), 0),
    "0.2485 µm": (TCGA_V5, None, (2, 2), 1),
    "0.2485 µm, stated to be 0.2265": (TCGA_V5, 0.2265, None, 1),
    "0.25 µm": (MOSAIC, None, (2, 2), 1),
    # OpenSlide could only interpolate in its level 1.
    "stated to be 0.2467 µm, odd sides": (TCGA_CR, 0.2467, (2, 2), 0),
}


@pytest.mark.parametrize(("name", "stated", "pixels", "level"), STATED.values(), ids=STATED)
def test_the_pixel_size_that_a_user_states_counts(
    name: str, stated: float | None, pixels: tuple[int, int] | None, level: int
):
    with open_slide(real_slide(name)) as slide:
        reader = GridReader(slide, make_model_grid(with_resolution(slide.info, stated), 0.5))
    assert reader.grid.slide_pixels == pixels
    assert reader.level.index == level


def means(image: np.ndarray, across: int, down: int) -> np.ndarray:
    """Means of boxes, rounded half up; what is left at the right and below is dropped."""
    height, width = image.shape[0] // down, image.shape[1] // across
    boxes = image[: height * down, : width * across].astype(int)
    return np.floor(boxes.reshape(height, down, width, across, 3).mean(axis=(1, 3)) + 0.5)


@pytest.mark.parametrize(
    ("mpp", "levels"),
    [(0.499, 1), (0.2485, 1), (0.2485, 3), (0.172, 3), (0.1214, 3), (0.1014, 2)],
)
def test_a_pixel_is_the_mean_of_whole_pixels(tmp_path: Path, mpp: float, levels: int):
    image = noise(HEIGHT, WIDTH)
    write_pyramid(tmp_path / "slide.tif", image, mpp, levels=levels)
    with open_slide(tmp_path / "slide.tif") as slide:
        reader = GridReader(slide, make_model_grid(slide.info, 0.5))
        read = reader.read(reader.grid.whole)
    assert reader.grid.slide_pixels is not None
    expected = means(image, *reader.grid.slide_pixels)
    assert read.shape == expected.shape
    # A level is the mean of the one before, rounded each time.
    assert np.abs(read - expected).max() <= (reader.level.index > 1)


def test_pixels_that_are_nearly_square_are_put_together_as_they_are(tmp_path: Path):
    image = noise(HEIGHT, WIDTH)
    write_pyramid(tmp_path / "slide.tif", image, Mpp(0.2508, 0.2501), levels=1)
    with open_slide(tmp_path / "slide.tif") as slide:
        grid = make_model_grid(slide.info, 0.5)
        read = GridReader(slide, grid).read(grid.whole)
    assert (grid.pixel.x, grid.pixel.y) == pytest.approx((0.5016, 0.5002), rel=1e-5)
    np.testing.assert_array_equal(read, means(image, 2, 2))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 0.25 µm whose level 1 OpenSlide can only address by interpolation."""
    path = tmp_path_factory.mktemp("odd") / "odd.tif"
    write_pyramid(path, noise(1101, 1301), 0.25)
    with openslide.OpenSlide(path) as slide:
        assert not slide.level_downsamples[1].is_integer()
    return path


def test_a_level_that_would_be_interpolated_is_not_read(odd: Path):
    with open_slide(odd) as slide:
        assert [level.is_exact for level in slide.info.levels[:2]] == [True, False]
        reader = GridReader(slide, make_model_grid(slide.info, 0.5))
        assert reader.level.index == 0
        np.testing.assert_array_equal(
            reader.read(reader.grid.whole), means(noise(1101, 1301), 2, 2)
        )


LEVELS = {
    # downsamples of the levels, slide pixels, QuPath's origin; the level that is read
    "halves": ((1.0, 2.0, 4.0), 2, 0, 1),
    "fours": ((1.0, 4.0, 16.0), 2, 0, 0),
    "a third": ((1.0, 2.0, 4.0), 3, 0, 0),
    "six": ((1.0, 2.0, 3.0, 4.0), 6, 0, 2),
    "not quite whole": ((1.0, 2.0003, 4.0006), 4, 0, 0),
    "an origin between pixels of the level": ((1.0, 2.0), 2, 31, 0),
    "an origin on pixels of the level": ((1.0, 2.0), 2, 32, 1),
}


@pytest.mark.parametrize(("downsamples", "count", "origin", "index"), LEVELS.values(), ids=LEVELS)
def test_a_level_is_read_if_its_pixels_make_those_of_the_grid(
    downsamples: tuple[float, ...], count: int, origin: int, index: int
):
    levels = tuple(Level(k, 999, 999, down) for k, down in enumerate(downsamples))
    info = replace(slide_of(0.5 / count, None, levels), bounds=Level0Box(origin, origin, 900, 700))

    class Slide:
        pass

    slide = Slide()
    slide.info = info  # type: ignore[attr-defined]
    reader = GridReader(slide, make_model_grid(info, 0.5))  # type: ignore[arg-type]
    assert reader.grid.slide_pixels == (count, count)
    assert reader.level.index == index


def test_the_grid_begins_at_qupaths_origin(tmp_path: Path):
    image = noise(512, 768)
    path = tmp_path / "bounded.scn"
    write_leica(path, image, offset_px=(1001, 513), mpp=0.248)
    with open_slide(path) as slide:
        reader = GridReader(slide, make_model_grid(slide.info, 0.5))
        assert reader.level.index == 0
        np.testing.assert_array_equal(reader.read(reader.grid.whole), means(image, 2, 2))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0.5, 1.0]),
    st.integers(-30, 500),
    st.integers(-30, 400),
    st.integers(1, 90),
    st.integers(1, 90),
)
def test_a_value_does_not_depend_on_the_box(
    odd: Path, mpp: float, x: int, y: int, width: int, height: int
):
    with open_slide(odd) as slide:
        reader = GridReader(slide, make_model_grid(slide.info, mpp))
        whole = WHOLE.setdefault(mpp, reader.read(ModelBox(-30, -30, 640, 540)))
        part = reader.read(ModelBox(x, y, width, height))
    np.testing.assert_array_equal(part, whole[y + 30 :, x + 30 :][:height, :width])


WHOLE: dict[float, np.ndarray] = {}


@pytest.mark.parametrize("mpp", [0.2485, 0.499])
def test_beyond_the_slide_it_is_mirrored(tmp_path: Path, mpp: float):
    write_pyramid(tmp_path / "slide.tif", noise(301, 403), mpp)
    with open_slide(tmp_path / "slide.tif") as slide:
        reader = GridReader(slide, make_model_grid(slide.info, 0.5))
        whole = reader.read(reader.grid.whole)
        around = reader.read(reader.grid.whole.padded(60))
    np.testing.assert_array_equal(around, np.pad(whole, ((60, 60), (60, 60), (0, 0)), "symmetric"))


def test_finer_pixels_are_put_together_on_a_grid_fixed_to_the_slide(tmp_path: Path):
    """However fine the pixels of a model: what is measured begins at the slide's corner."""
    image = noise(128, 128)
    write_pyramid(tmp_path / "slide.tif", image, 0.25, levels=1)
    with open_slide(tmp_path / "slide.tif") as slide:
        reader = GridReader(slide, make_measured_grid(slide.info))
        whole = reader.read(reader.grid.whole)
        part = reader.read(ModelBox(4, 3, 60, 61))
    assert reader.grid.mpp == 0.5
    assert whole.shape == (64, 64, 3)
    assert whole[3, 5, 1] == np.floor(image[6:8, 10:12, 1].mean() + 0.5)
    assert (part == whole[3:, 4:]).all()
