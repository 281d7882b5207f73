"""Tissue: found where it is, pale or dark; glass, dust, ink and black borders left out."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import wsi_engine.slide.tissue as tissue_module
from tests.support.slides import (
    CMU,
    MOSAIC,
    TCGA_CR,
    TCGA_V5,
    ellipse,
    glass,
    openslide_pixels,
    paint_tissue,
    real_slide,
)
from wsi_engine.closing import Closing
from wsi_engine.errors import ResolutionError
from wsi_engine.slide.frames import Level0Box, Mpp
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import Level, SlideInfo
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.resolution import with_resolution
from wsi_engine.slide.tissue import find_tissue, outline


def tissue_of(path, mpp=None):
    with open_slide(path) as slide:
        return find_tissue(slide, with_resolution(slide.info, mpp))


@functools.cache
def tissue_of_real(name, mpp=None):
    return tissue_of(real_slide(name), mpp)


def tissue_in(folder, image, mpp=1.0, levels=None):
    write_pyramid(folder / "slide.tif", image, mpp, levels=levels)
    return tissue_of(folder / "slide.tif")


def covered(tissue, mask):
    """Share of the pixels of a mask that lie in the tissue."""
    rows, columns = np.nonzero(mask)
    every = len(rows) // 50_000 + 1
    area = shapely.union_all(tissue.pieces)
    shapely.prepare(area)
    return float(shapely.contains_xy(area, columns[::every] + 0.5, rows[::every] + 0.5).mean())


# ---------------------------------------------------------------- real slides


@pytest.mark.parametrize(
    ("name", "mpp", "pieces", "least_mm2", "most_mm2"),
    [
        # Judged by eye on thumbnails with the outline drawn over them.
        (TCGA_V5, None, 3, 2.2, 2.35),
        (CMU, None, 1, 0.63, 0.70),
        (TCGA_CR, 0.2467, 1, 0.60, 0.65),
        (MOSAIC, None, 49, 0.69, 0.77),
    ],
)
def test_area_on_real_slides(name, mpp, pieces, least_mm2, most_mm2):
    tissue = tissue_of_real(name, mpp)
    assert least_mm2 < tissue.area_mm2 < most_mm2
    assert len(tissue.pieces) == pieces


@pytest.mark.parametrize(
    ("name", "mpp", "width", "inside", "outside"),
    [
        (
            TCGA_V5, None, 1200,
            # Mucosa, pale stroma, a gland at the border, the small pieces, the tail.
            [(700, 180), (640, 310), (1005, 135), (206, 284), (175, 400), (860, 605)],
            # Glass, and the rings that dust out of focus makes.
            [(100, 100), (300, 700), (142, 440), (287, 376), (1030, 535), (1024, 82), (700, 60)],
        ),
        (
            CMU, None, 898,
            # Epidermis, keratin, dermis, the thin strand.
            [(470, 250), (600, 500), (330, 800), (460, 1150), (670, 1100), (150, 435)],
            [(100, 700), (800, 800), (840, 60), (150, 100), (835, 888)],
        ),
        (
            TCGA_CR, 0.2467, 1200,
            [(150, 500), (400, 330), (880, 60), (1090, 700), (650, 800), (30, 560)],
            # Glass, dust, and the plain white that was never scanned.
            [(50, 50), (126, 180), (100, 750), (1150, 350), (300, 900), (50, 250), (1100, 250)],
        ),
    ],
)  # fmt: skip
def test_places_on_real_slides(name, mpp, width, inside, outside):
    """Places are given as they were read off a thumbnail of some width."""
    path = real_slide(name)
    with open_slide(path) as slide:
        scale = slide.info.width / width
    area = shapely.union_all(tissue_of_real(name, mpp).pieces)
    for x, y in inside:
        assert area.contains(shapely.Point(x * scale, y * scale)), (x, y)
    for x, y in outside:
        assert not area.contains(shapely.Point(x * scale, y * scale)), (x, y)


def test_hardly_a_nucleus_of_pale_tissue_is_lost():
    path = real_slide(MOSAIC)
    labels = np.load(path.with_name("mosaic_tnbc_labels.npz"))["labels"][::4, ::4]
    tissue = tissue_of_real(MOSAIC)
    rows, columns = np.nonzero(labels)
    area = shapely.union_all(tissue.pieces)
    shapely.prepare(area)
    hit = shapely.contains_xy(area, columns * 4 + 0.5, rows * 4 + 0.5)
    assert hit.mean() > 0.985
    fields = json.loads(path.with_name("mosaic_tnbc_tiles.json").read_text())
    boxes = [shapely.box(f["x"], f["y"], f["x"] + 512, f["y"] + 512) for f in fields]
    # The glass between the fields is left out, but for a margin around them.
    assert area.within(shapely.union_all(boxes).buffer(120))


@pytest.mark.parametrize("field", ["01_1", "01_5", "02_3", "03_1", "05_4", "08_4", "10_1", "11_1"])
def test_a_pale_field_that_shows_no_glass_is_all_tissue(tmp_path, field):
    """Its most frequent colour is the stroma's, and must not be taken for glass."""
    path = real_slide(MOSAIC)
    fields = json.loads(path.with_name("mosaic_tnbc_tiles.json").read_text())
    [place] = [f for f in fields if f["tile"] == f"{field}.png"]
    image = openslide_pixels(path, 0, place["x"], place["y"], 512, 512)
    tissue = tissue_in(tmp_path, np.ascontiguousarray(image), mpp=0.25)
    assert covered(tissue, np.ones((512, 512), bool)) > 0.95


# ---------------------------------------------------------------- what is tissue


@pytest.mark.parametrize(
    ("colour", "is_tissue"),
    [
        # Glass as scanners see it.
        ((255, 255, 255), False),
        ((243, 243, 243), False),
        ((246, 243, 243), False),
        ((241, 236, 239), False),
        ((224, 227, 232), False),
        # Shadow, dust, black.
        ((180, 180, 180), False),
        ((90, 92, 91), False),
        ((0, 0, 0), False),
        # Stroma from pale to dark, blood, nuclei, brown chromogen.
        ((230, 216, 226), True),
        ((225, 205, 215), True),
        ((228, 165, 200), True),
        ((200, 60, 90), True),
        ((120, 80, 150), True),
        ((60, 40, 90), True),
        ((130, 90, 60), True),
    ],
)
def test_colours(tmp_path, colour, is_tissue):
    image = glass(600, 800)
    patch = ellipse(image, (400, 300), (200, 150))
    image[patch] = np.clip(colour + (image[patch].astype(int) - 242), 0, 255)
    tissue = tissue_in(tmp_path, image)
    if is_tissue:
        assert covered(tissue, patch) > 0.99
        assert covered(tissue, ~ellipse(image, (400, 300), (240, 190))) == 0
    else:
        assert tissue.pieces == ()
        assert tissue.area_mm2 == 0


INK = {
    "blue": (35, 60, 165),
    "light blue": (60, 110, 200),
    "green": (20, 120, 70),
    "black": (25, 24, 28),
    "red": (222, 25, 40),
}


@pytest.mark.parametrize("ink", INK)
@pytest.mark.parametrize("mask_mpp", [1.0, 8.0], ids=["small slide", "large slide"])
def test_pen_strokes_are_left_out_and_tissue_stays(tmp_path, monkeypatch, ink, mask_mpp):
    """Strokes of half a millimetre beside and across tissue, on a slide of 3 mm."""
    monkeypatch.setattr(tissue_module, "FINEST_MASK_MPP", mask_mpp)
    image = glass(1000, 1500)
    inside = ellipse(image, (550, 500), (350, 300))
    paint_tissue(image, inside)
    y, x = np.ogrid[:1000, :1500]
    strokes = (abs(x - 1200) < 125) & (y > 100)
    strokes |= (abs(y - 100) < 80) & (x > 0)
    strokes |= (abs(x - y - 300) < 90) & (y > 550)
    # The border of ink is blurred, like that of everything.
    soft = ndimage.gaussian_filter(strokes.astype(np.float32), 1.5)[..., None]
    image = np.rint(image * (1 - soft) + np.float32(INK[ink]) * soft).astype(np.uint8)
    tissue = tissue_in(tmp_path, image, mpp=2.0)
    assert covered(tissue, strokes) < 0.01
    far = ndimage.distance_transform_edt(~strokes) * 2 > 70
    assert covered(tissue, inside & far) > 0.995
    around = ndimage.distance_transform_edt(~inside) * 2 > 70
    assert covered(tissue, around) == 0


@pytest.mark.parametrize("border", ["left", "frame", "grey"])
def test_black_borders_are_left_out_and_tissue_at_them_stays(tmp_path, border):
    image = glass(1200, 1600)
    inside = ellipse(image, (350, 600), (320, 400))
    paint_tissue(image, inside)
    dark = np.zeros(inside.shape, bool)
    dark[:, :90] = True
    if border == "frame":
        dark[:90], dark[-90:], dark[:, -90:] = True, True, True
    image[dark] = (70, 70, 70) if border == "grey" else (0, 0, 0)
    tissue = tissue_in(tmp_path, image)
    assert covered(tissue, inside & ~dark) > 0.97
    deep = ndimage.distance_transform_edt(dark) > 40
    assert covered(tissue, deep) == 0


@pytest.mark.parametrize("value", ["white", "black", "glass", "grey noise"])
@pytest.mark.parametrize("shape", [(64, 64), (700, 900)])
def test_a_blank_slide_has_none(tmp_path, value, shape):
    image = {
        "white": np.full((*shape, 3), 255, np.uint8),
        "black": np.zeros((*shape, 3), np.uint8),
        "glass": glass(*shape),
        "grey noise": np.repeat(
            np.random.default_rng(0).integers(0, 256, (*shape, 1), dtype=np.uint8), 3, axis=2
        ),
    }[value]
    tissue = tissue_in(tmp_path, image)
    assert tissue.pieces == ()
    assert tissue.area_mm2 == 0


@pytest.mark.parametrize("tint", [(238, 230, 212), (228, 236, 240), (215, 215, 215)])
def test_tinted_glass_is_no_tissue(tmp_path, tint):
    image = glass(600, 800)
    image = np.rint(image * (np.array(tint) / image.reshape(-1, 3).mean(axis=0))).clip(0, 255)
    image = image.astype(np.uint8)
    inside = ellipse(image, (400, 300), (150, 120))
    paint_tissue(image, inside)
    tissue = tissue_in(tmp_path, image)
    assert covered(tissue, inside) > 0.99
    assert covered(tissue, ~ellipse(image, (400, 300), (190, 160))) < 0.01


def test_a_slide_full_of_tissue_is_all_tissue(tmp_path):
    image = glass(777, 1003)
    paint_tissue(image, np.ones((777, 1003), bool))
    tissue = tissue_in(tmp_path, image, mpp=0.5)
    [piece] = tissue.pieces
    assert piece.equals(shapely.box(0, 0, 1003, 777))
    assert tissue.area_mm2 == pytest.approx(1003 * 777 * 0.25e-6)


# ---------------------------------------------------------------- shape of the outline


@pytest.mark.parametrize(
    ("radius_um", "found"), [(8, False), (15, False), (40, True), (100, True), (300, True)]
)
def test_specks_are_dropped_and_small_pieces_kept(tmp_path, radius_um, found):
    image = glass(900, 1000)
    inside = ellipse(image, (500, 450), (radius_um, radius_um))
    image[inside] = (200, 120, 180)
    tissue = tissue_in(tmp_path, image)
    assert len(tissue.pieces) == found
    if found:
        assert covered(tissue, inside) > 0.97


@pytest.mark.parametrize(("radius_um", "filled"), [(30, True), (60, True), (150, False)])
def test_small_holes_are_filled_and_large_ones_kept(tmp_path, radius_um, filled):
    image = glass(900, 1000)
    hole = ellipse(image, (500, 450), (radius_um, radius_um))
    paint_tissue(image, ellipse(image, (500, 450), (400, 350)) & ~hole)
    [piece] = tissue_in(tmp_path, image).pieces
    assert len(piece.interiors) == (0 if filled else 1)
    assert piece.contains(shapely.Point(500, 450)) == filled


def test_area_is_measured_in_square_millimetres(tmp_path):
    image = glass(750, 1000)
    inside = ellipse(image, (500, 375), (400, 300))
    paint_tissue(image, inside)
    for mpp in (0.25, 0.5, 2.0):
        tissue = tissue_in(tmp_path, image, mpp)
        exact = inside.sum() * mpp**2
        assert tissue.area_mm2 * 1e6 == pytest.approx(exact, rel=0.03)


@pytest.fixture(scope="module")
def scattered():
    """Tissue in several pieces, one over the border of the slide, sides that nothing divides."""
    image = glass(555, 751)
    for centre, radii in [
        ((150, 150), (125, 100)),
        ((740, 545), (150, 125)),
        ((450, 125), (75, 110)),
        ((0, 450), (100, 60)),
    ]:
        paint_tissue(image, ellipse(image, centre, radii))
    return image


def test_pieces_are_valid_apart_inside_the_slide_and_in_order(tmp_path, scattered):
    pieces = tissue_in(tmp_path, scattered, mpp=1.3).pieces
    assert len(pieces) == 4
    slide = shapely.box(0, 0, 751, 555)
    for piece in pieces:
        assert piece.geom_type == "Polygon"
        assert piece.is_valid
        assert slide.covers(piece)
    assert shapely.MultiPolygon(pieces).is_valid
    tops = [piece.bounds[1] for piece in pieces]
    assert tops == sorted(tops)


def test_the_same_every_time(tmp_path, scattered):
    assert tissue_in(tmp_path, scattered) == tissue_of(tmp_path / "slide.tif")


def agreement(one, other):
    """Intersection over union of two tissues."""
    one, other = shapely.union_all(one.pieces), shapely.union_all(other.pieces)
    return one.intersection(other).area / one.union(other).area


def test_the_pyramid_makes_no_difference(tmp_path, scattered):
    alone = tissue_in(tmp_path, scattered, mpp=0.25, levels=1)
    pyramid = tissue_in(tmp_path, scattered, mpp=0.25, levels=4)
    assert agreement(alone, pyramid) > 0.99


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_slide_has_its_tissue_turned(tmp_path, scattered, turns):
    upright = tissue_in(tmp_path, scattered)
    turned = tissue_in(tmp_path, np.ascontiguousarray(np.rot90(scattered, -turns)))
    height, width = scattered.shape[:2]

    def back(points):
        x, y = points.T
        return np.column_stack(
            {1: (y, height - x), 2: (width - x, height - y), 3: (width - y, x)}[turns]
        )

    restored = [shapely.transform(piece, back) for piece in turned.pieces]
    assert agreement(upright, type(upright)(tuple(restored), 0, 0)) > 0.98


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 2), st.integers(0, 2**32)
)
def test_any_mask_has_a_valid_outline(height, width, share, blur, seed):
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).random((height, width)), blur)
    mask = mask > np.quantile(mask, share)
    area = outline(mask)
    assert area.is_valid
    # Corners are cut and steps are smoothed, by half a pixel.
    pixels = [shapely.box(x, y, x + 1, y + 1) for y, x in np.argwhere(mask)]
    assert area.difference(shapely.union_all(pixels).buffer(1.01)).area == pytest.approx(0)


def test_a_slide_of_unknown_pixel_size(tmp_path):
    with open_slide(real_slide(TCGA_CR)) as slide, pytest.raises(ResolutionError, match="unknown"):
        find_tissue(slide, slide.info)


def test_the_mask_of_a_large_slide_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(tissue_module, "LARGEST_MASK_SIDE_PX", 300)
    image = glass(900, 1200)
    inside = ellipse(image, (600, 450), (300, 250))
    paint_tissue(image, inside)
    sides = []
    overview = tissue_module.read_overview

    def observed(reader):
        mask = overview(reader)
        sides.extend(mask.shape[:2])
        return mask

    monkeypatch.setattr(tissue_module, "read_overview", observed)
    tissue = tissue_in(tmp_path, image)
    assert max(sides) == 300
    assert covered(tissue, inside) > 0.98


class _Gradient(Closing):
    """A slide of one level that is made as it is read, and remembers the largest read in bytes."""

    def __init__(self, width: int, height: int) -> None:
        level = Level(0, width, height, 1.0, 256, 256)
        bounds = Level0Box(0, 0, width, height)
        self.info = SlideInfo(
            Path("wide.tif"), "drawn", (level,), bounds, Mpp(0.25, 0.25), "drawn", None, 1, ()
        )
        self.largest_read = 0

    def read(self, level, box):
        rows, columns = np.ogrid[box.y : box.y + box.height, box.x : box.x + box.width]
        grey = (rows * 7 + columns * 3) // 64 % 251
        pixels = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
        self.largest_read = max(self.largest_read, pixels.nbytes)
        return pixels

    def close(self):
        pass


@pytest.mark.parametrize(
    ("width", "height"), [(60_000, 500), (500, 60_000), (6_000, 5_000), (900, 700)]
)
def test_what_is_held_of_a_level_is_bounded_whatever_its_sides(monkeypatch, width, height):
    slide = _Gradient(width, height)
    grid = make_grid(slide.info, 0.25 * max(width, height) / 1000)
    whole = GridReader(slide, grid).read(grid.extent)
    assert slide.largest_read > 1_800_000
    slide.largest_read = 0
    monkeypatch.setattr(tissue_module, "LARGEST_READ_BYTES", 400_000)
    np.testing.assert_array_equal(tissue_module.read_overview(GridReader(slide, grid)), whole)
    # Averages at the border of a square need up to two more pixels, and the last one is whole.
    assert slide.largest_read < 1.6 * 400_000
