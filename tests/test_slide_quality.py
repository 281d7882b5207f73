"""Blur, pen and folds are found where they were made, and on clean slides none of them is."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from tests.support.artefacts import INKS, MPP, band, defocused, folded, generated_slide, penned
from tests.support.slides import CMU, MOSAIC, TCGA_CR, TCGA_V5, glass, real_slide
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.redness import is_red
from wsi_engine.slide.frames import LevelBox, ModelBox, ModelGrid, Mpp
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.quality import (
    Flag,
    Overview,
    assess_slide,
    focus,
    read_slide_overview,
    red_cells,
)
from wsi_engine.slide.quality.assess import tissue_flag
from wsi_engine.slide.quality.flag import level_of
from wsi_engine.slide.quality.focus import FIELD_PX, SHARPNESS, focus_flag, sharpness
from wsi_engine.slide.quality.folds import folds_flag
from wsi_engine.slide.quality.overview import raster
from wsi_engine.slide.quality.red_cells import red_cells_flag
from wsi_engine.slide.quality.stain import stain_flag
from wsi_engine.slide.resolution import with_resolution
from wsi_engine.slide.tissue import Mask, find_tissue

clean = functools.cache(generated_slide)


def assessed(path: Path, mpp: float | None = None) -> dict[str, Flag]:
    with open_slide(path) as slide:
        info = with_resolution(slide.info, mpp)
        area = shapely.union_all(find_tissue(slide, info).pieces)
        return {
            flag.name: flag
            for flag in assess_slide(slide, info, area, read_slide_overview(slide, info))
        }


def flags_of(image: np.ndarray, folder: Path) -> dict[str, Flag]:
    write_pyramid(folder / "slide.tif", image, MPP)
    return assessed(folder / "slide.tif")


def share_covered(flag: Flag, where: np.ndarray) -> float:
    """Share of a mask in full-resolution pixels that a flag's places cover."""
    covered = raster(shapely.union_all(flag.where), where.shape)
    return float((covered & where).sum() / where.sum())


# ---------------------------------------------------------------- clean slides


@pytest.mark.parametrize(
    ("name", "mpp"), [(CMU, None), (TCGA_CR, 0.2467), (TCGA_V5, None), (MOSAIC, None)]
)
def test_nothing_is_flagged_on_clean_real_slides(name: str, mpp: float | None):
    flags = assessed(real_slide(name), mpp)
    assert list(flags) == ["blur", "pen", "folds", "stain", "tissue"]
    assert {flag.level for flag in flags.values()} == {"ok"}
    assert [flags[name].value for name in ("blur", "pen", "folds")] == [0, 0, 0]
    assert not any(flag.where for flag in flags.values())


def test_nothing_is_flagged_on_clean_generated_tissue(tmp_path: Path):
    assert {flag.level for flag in flags_of(clean(), tmp_path).values()} == {"ok"}


# ---------------------------------------------------------------- blur


@pytest.mark.parametrize("sigma_um", [1.25, 2.0, 5.0])
def test_tissue_out_of_focus(tmp_path: Path, sigma_um: float):
    everywhere = np.ones(clean().shape[:2], bool)
    blur = flags_of(defocused(clean(), everywhere, sigma_um), tmp_path)["blur"]
    assert (blur.level, blur.value) == ("bad", 100.0)


def test_only_the_blurred_half_is_named(tmp_path: Path):
    left = np.zeros(clean().shape[:2], bool)
    left[:, : left.shape[1] // 2] = True
    blur = flags_of(defocused(clean(), left, 2.0), tmp_path)["blur"]
    assert blur.level == "bad"
    assert blur.value == pytest.approx(50, abs=12)
    # A field that the border cuts is half sharp.
    assert max(place.bounds[2] for place in blur.where) <= left.shape[1] / 2 + FIELD_PX
    assert all(place.is_valid for place in blur.where)


@pytest.mark.parametrize(
    ("name", "x", "y"), [(CMU, 1000, 1500), (TCGA_V5, 3500, 2500), (MOSAIC, 1500, 1000)]
)
def test_sharpness_falls_as_real_tissue_is_blurred(name: str, x: int, y: int):
    """Places in pixels of 0.5 µm."""
    with open_slide(real_slide(name)) as slide:
        reader = GridReader(slide, make_grid(slide.info, 0.5))
        field = reader.read(ModelBox(x, y, FIELD_PX, FIELD_PX))
    everywhere = np.ones(field.shape[:2], bool)
    values = [sharpness(defocused(field, everywhere, sigma)) for sigma in (0.75, 1.0, 1.5, 2, 3)]
    assert sharpness(field) > SHARPNESS > values[2]
    assert values == sorted(values, reverse=True)


def test_a_sharp_crop_at_40x_is_in_focus(tmp_path: Path):
    """Smooth chromatin in fibrous tissue: little fine detail, and edges that are steep."""
    field = real_slide("../nuclei/monuseg_train/images/TCGA-DK-A2I6-01A-01-TS1.jpg")
    image = np.asarray(Image.open(field).convert("RGB"))
    write_pyramid(tmp_path / "slide.tif", image, 0.25)
    assert assessed(tmp_path / "slide.tif")["blur"].level == "ok"
    everywhere = np.ones(image.shape[:2], bool)
    write_pyramid(tmp_path / "soft.tif", defocused(image, everywhere, 1.25, mpp=0.25), 0.25)
    assert assessed(tmp_path / "soft.tif")["blur"].level == "bad"


@pytest.mark.parametrize("module", [focus, red_cells])
def test_whole_pixels_of_the_slide_are_looked_at(monkeypatch, module):
    """Resampled from 0.499 to 0.5 µm, some fields would be sharp, some blurred, and their colours
    mixed with those of their surroundings."""
    fields = []

    def seen(field, *_):
        fields.append(field)
        return np.zeros(field.shape[:2]) if module is red_cells else 1.0

    monkeypatch.setattr(module, "sharpness" if module is focus else "lab_b", seen)
    with open_slide(real_slide(CMU)) as slide:
        width, height = slide.info.levels[0].width, slide.info.levels[0].height
        area = shapely.box(0, 0, width, height)
        if module is focus:
            focus_flag(slide, slide.info, area)
        else:
            places = np.random.default_rng(0).uniform(0, [width, height], (300, 2))
            red_cells_flag(slide, slide.info, places)
        pixels = slide.read(0, LevelBox(0, 0, width, height))
    there = [
        pixels[y : y + FIELD_PX, x : x + FIELD_PX]
        for y in range(0, height - FIELD_PX + 1, FIELD_PX)
        for x in range(0, width - FIELD_PX + 1, FIELD_PX)
    ]
    known = {part.tobytes() for part in there}
    assert len(fields) > 20
    assert sum(field.tobytes() in known for field in fields) >= min(len(there), 30)


def test_glass_is_not_out_of_focus():
    assert sharpness(glass(FIELD_PX, FIELD_PX)) > SHARPNESS
    assert sharpness(np.full((FIELD_PX, FIELD_PX, 3), 240, np.uint8)) == np.inf


def test_focus_of_coarse_pixels_is_not_judged(tmp_path: Path):
    write_pyramid(tmp_path / "slide.tif", clean()[::4, ::4], 2.0)
    blur = assessed(tmp_path / "slide.tif")["blur"]
    assert (blur.level, blur.value) == ("ok", None)


@pytest.mark.parametrize(
    "area",
    [shapely.Polygon(), shapely.box(140, 140, 330, 330), shapely.MultiPolygon(
        [shapely.box(x, y, x + 90, y + 90) for x in (0, 512) for y in (0, 512)])],
    ids=["nothing", "a small core", "islands"],
)  # fmt: skip
def test_focus_of_tissue_between_the_fields_is_not_judged(tmp_path: Path, area: shapely.Geometry):
    write_pyramid(tmp_path / "slide.tif", clean(), MPP)
    with open_slide(tmp_path / "slide.tif") as slide:
        blur = focus_flag(slide, slide.info, area)
    assert (blur.level, blur.value, blur.where) == ("look", None, ())
    assert "no field of 128 µm has its centre in tissue" in blur.sentence


# ---------------------------------------------------------------- pen


@pytest.mark.parametrize("ink", INKS)
def test_pen_beside_and_over_tissue(tmp_path: Path, ink: str):
    stroke = [(120.0, 60.0), (700.0, 60.0), (800.0, 200.0)]
    pen = flags_of(penned(clean(), stroke, ink), tmp_path)["pen"]
    assert pen.level != "ok"
    # 580 x 120 µm lie on glass; over tissue, ink is seen in part.
    assert 0.05 < pen.value < 0.10
    drawn = shapely.LineString(np.array(stroke) / MPP).buffer(75 / MPP, cap_style="square")
    assert all(drawn.contains(place) for place in pen.where)


def test_a_dot_of_pigment_is_no_pen(tmp_path: Path):
    dot = penned(clean(), [(500.0, 500.0), (530.0, 500.0)], "black", width_um=30)
    assert flags_of(dot, tmp_path)["pen"].level == "ok"


# ---------------------------------------------------------------- folds


@pytest.mark.parametrize("width_um", [40, 80])
def test_three_layers_of_tissue(tmp_path: Path, width_um: float):
    where = band(clean(), (500, 500), 350, width_um)
    folds = flags_of(folded(clean(), where), tmp_path)["folds"]
    assert folds.level == "bad"
    assert len(folds.where) == 1
    assert share_covered(folds, where) > 0.75
    assert folds.where[0].area < 1.6 * where.sum()


@functools.cache
def seen(name: str, mpp: float | None) -> tuple[Overview, Mask]:
    with open_slide(real_slide(name)) as slide:
        info = with_resolution(slide.info, mpp)
        overview = read_slide_overview(slide, info)
        pieces = find_tissue(slide, info).pieces
    return overview, overview.mask_of(shapely.union_all(pieces))


@pytest.mark.parametrize("width_um", [30, 60, 100])
@pytest.mark.parametrize(("name", "mpp"), [(TCGA_CR, 0.2467), (TCGA_V5, None)])
def test_real_tissue_that_lies_on_itself(name: str, mpp: float | None, width_um: float):
    overview, tissue = seen(name, mpp)
    y, x = ndimage.center_of_mass(tissue)
    pixel = overview.grid.mpp
    where = tissue & band(overview.rgb, (x * pixel, y * pixel), 400, width_um, mpp=pixel)
    image = folded(overview.rgb, where, mpp=pixel)
    folds = folds_flag(replace(overview, rgb=image), tissue)
    found = overview.mask_of(shapely.union_all(folds.where))
    assert (found & where).sum() > 0.9 * where.sum()
    near = ndimage.binary_dilation(where, iterations=round(20 / pixel))
    # Dark tissue that touches the fold is taken for part of it.
    assert (found & ~near).sum() < 0.001 * tissue.sum()


def test_dark_tissue_that_is_no_band_is_no_fold(tmp_path: Path):
    y, x = np.ogrid[: clean().shape[0], : clean().shape[1]]
    patch = (x - 1000) ** 2 + (y - 1000) ** 2 < 160**2
    assert flags_of(folded(clean(), patch), tmp_path)["folds"].level == "ok"


# ---------------------------------------------------------------- stain


def exchanged(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[..., ::-1])


def luma_as_red(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("YCbCr"))


def brown(image: np.ndarray) -> np.ndarray:
    """H-DAB: blue nuclei, half of them brown, on nearly nothing."""
    made = glass(*image.shape[:2])
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    for colour, shift in (((125, 135, 180), 0), ((140, 95, 60), 20)):
        made[((x + shift) % 40 - 10) ** 2 + ((y + shift) % 40 - 10) ** 2 < 80] = colour
    return made


@pytest.mark.parametrize("mistake", [exchanged, luma_as_red, lambda image: 255 - image, brown])
def test_colours_that_are_not_those_of_haematoxylin_and_eosin(tmp_path: Path, mistake):
    assert flags_of(clean(), tmp_path)["stain"].level == "ok"
    assert flags_of(mistake(clean()), tmp_path)["stain"].level == "bad"


def test_a_large_slide_that_is_all_tissue_is_doubted():
    assert tissue_flag(24.5, 25.0).level == "look"
    assert tissue_flag(0.25, 0.25).level == "ok"


# ---------------------------------------------------------------- red cells


def cells(colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw cells of 8 µm at 0.5 µm per pixel; return the image and their centres."""
    image = glass(512, 512)
    x, y = np.meshgrid(np.arange(16, 512, 32), np.arange(16, 512, 32))
    for cx, cy in zip(x.ravel(), y.ravel(), strict=True):
        rows, columns = np.ogrid[:512, :512]
        image[(columns - cx) ** 2 + (rows - cy) ** 2 < 64] = colour
    return image, np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)


@pytest.mark.parametrize(
    ("colour", "level", "value"), [((205, 70, 70), "bad", 100.0), ((95, 60, 130), "ok", 0.0)]
)
def test_red_cells(tmp_path: Path, colour: tuple[int, int, int], level: str, value: float):
    image, centres = cells(colour)
    write_pyramid(tmp_path / "slide.tif", image, 0.5)
    with open_slide(tmp_path / "slide.tif") as slide:
        red = red_cells_flag(slide, slide.info, centres)
    assert (red.level, red.value) == (level, value)


def test_brown_nuclei_are_not_taken_for_blood(tmp_path: Path):
    image, centres = cells((130, 85, 50))
    write_pyramid(tmp_path / "slide.tif", image, 0.5)
    with open_slide(tmp_path / "slide.tif") as slide:
        red = red_cells_flag(slide, slide.info, centres)
    assert red.level == "not checked"
    assert "DAB" in red.sentence


@pytest.mark.parametrize(("colour", "red"), [((205, 70, 70), True), ((95, 60, 130), False)])
def test_what_is_red_is_told_from_nuclei(colour: tuple[int, int, int], red: bool):
    image, centres = cells(colour)
    labels = np.zeros(image.shape[:2], np.int32)
    for k, (x, y) in enumerate(centres.astype(int), start=1):
        labels[y - 5 : y + 6, x - 5 : x + 6] = k
    found = Predictions.from_labels(labels)
    assert (is_red(found, image) == red).all()
    assert len(found.where(~is_red(found, image))) == (0 if red else len(centres))


# ---------------------------------------------------------------- amount, frames


@pytest.mark.parametrize(
    ("area", "level"), [(0.0, "bad"), (0.05, "look"), (0.1, "ok"), (200.0, "ok")]
)
def test_amount_of_tissue(area: float, level: str):
    assert tissue_flag(area, 400.0).level == level


@pytest.mark.parametrize(
    ("value", "level"), [(0, "ok"), (0.049, "ok"), (0.05, "look"), (0.25, "bad"), (1, "bad")]
)
def test_levels(value: float, level: str):
    assert level_of(value, 0.05, 0.25) == level


def test_a_large_slide_is_seen_coarsely(tmp_path: Path):
    write_pyramid(tmp_path / "wide.tif", np.tile(glass(256, 256), (1, 32, 1)), 2.0)
    with open_slide(tmp_path / "wide.tif") as slide:
        overview = read_slide_overview(slide, slide.info)
    assert max(overview.rgb.shape) <= 1200
    assert overview.grid.mpp == pytest.approx(2.0 * 8192 / 1200)


@given(st.lists(st.tuples(*[st.integers(0, 40)] * 4), min_size=1, max_size=5))
def test_a_raster_covers_the_area(corners: list[tuple[int, int, int, int]]):
    """Whole boxes are drawn to the pixel, also with holes and islands in holes."""
    area = shapely.Polygon()
    for a, b, c, d in corners:
        area = area.symmetric_difference(shapely.box(min(a, c), min(b, d), max(a, c), max(b, d)))
    area = area.buffer(0)
    rows, columns = np.mgrid[0:40, 0:40] + 0.5
    wanted = shapely.contains_xy(area, columns, rows)
    np.testing.assert_array_equal(raster(area, (40, 40)), wanted)


def test_anisotropic_pixels(tmp_path: Path):
    write_pyramid(tmp_path / "slide.tif", clean(), Mpp(0.5, 0.5))
    with open_slide(tmp_path / "slide.tif") as slide:
        info = replace(slide.info, mpp=Mpp(0.5, 1.0))
        overview = read_slide_overview(slide, info)
    height, width = overview.rgb.shape[:2]
    assert height == pytest.approx(2 * width, rel=0.01)


def test_a_stain_of_one_depth_says_nothing_of_what_is_dark(recwarn):
    shade = np.full((120, 120, 3), 240, np.uint8)
    shade[30:90, 30:90] = (150, 90, 160)
    grid = ModelGrid(1.0, Mpp(1.0, 1.0), 0, 0, 120, 120)
    assert stain_flag(Overview(shade, grid), shade[..., 1] < 200).level == "ok"
    assert not recwarn
