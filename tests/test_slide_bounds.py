"""Slides with bounds: QuPath shows the scanned area, and its corner is the origin."""

import numpy as np
import pytest

from tests.support.slides import ellipse, noise, openslide_pixels, paint_tissue, write_leica
from wsi_engine.slide.fields import sample_fields
from wsi_engine.slide.frames import Level0Box, LevelBox, ModelBox
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.tissue import find_tissue

OFFSET = (300, 200)
SIZE = (520, 400)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A Leica slide: noise of 520 x 400 pixels at (300, 200) of an otherwise empty slide."""
    path = tmp_path_factory.mktemp("bounds") / "scan.scn"
    write_leica(path, noise(SIZE[1], SIZE[0]), OFFSET, mpp=0.25)
    return path


def test_what_openslide_says_of_it(scan):
    with open_slide(scan) as slide:
        info = slide.info
    assert info.vendor == "leica"
    assert info.bounds == Level0Box(*OFFSET, *SIZE)
    assert (info.width, info.height) == (300 + 520 + 64, 200 + 400 + 64)
    assert (info.mpp.x, info.mpp.y) == (0.25, 0.25)
    assert info.objective_power == 40
    assert [level.downsample for level in info.levels] == [1, 2]
    # It may show a name: known, but never read.
    assert info.associated_images == ("macro",)


def test_a_slide_counts_from_openslides_origin(scan):
    with open_slide(scan) as slide:
        region = slide.read(0, LevelBox(OFFSET[0] - 10, OFFSET[1] - 10, 30, 30))
    # There is nothing around the scanned area: transparent, so white.
    assert (region[:10] == 255).all()
    assert (region[:, :10] == 255).all()
    np.testing.assert_array_equal(region[10:, 10:], noise(SIZE[1], SIZE[0])[:20, :20])


@pytest.mark.parametrize(("mpp", "level"), [(0.25, 0), (0.5, 1)])
def test_the_grid_begins_at_the_corner_of_the_bounds(scan, mpp, level):
    with open_slide(scan) as slide:
        grid = make_grid(slide.info, mpp)
        assert (grid.origin_x, grid.origin_y) == OFFSET
        assert (grid.extent.width, grid.extent.height) == (SIZE[0] >> level, SIZE[1] >> level)
        reader = GridReader(slide, grid)
        assert reader.level.index == level
        whole = reader.read(grid.extent)
        around = reader.read(grid.extent.padded(9))
    expected = openslide_pixels(
        scan, level, OFFSET[0] >> level, OFFSET[1] >> level, SIZE[0] >> level, SIZE[1] >> level
    )
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(around[9:-9, 9:-9], whole)
    # What lies on the glass beyond the bounds is not read, whatever it is.
    np.testing.assert_array_equal(around, np.pad(whole, ((9, 9), (9, 9), (0, 0)), "symmetric"))


@pytest.mark.parametrize("mpp", [0.263, 0.5, 0.503])
def test_the_grid_is_the_same_as_on_the_cropped_slide(tmp_path, mpp):
    """An offset changes nothing but the place on the glass."""
    image = noise(400, 520)
    images = []
    for offset in [(64, 64), (704, 320)]:
        path = tmp_path / f"{offset[0]}.scn"
        write_leica(path, image, offset)
        with open_slide(path) as slide:
            reader = GridReader(slide, make_grid(slide.info, mpp))
            images.append(reader.read(reader.grid.extent))
            part = reader.read(ModelBox(37, 41, 80, 60))
        np.testing.assert_array_equal(part, images[-1][41:101, 37:117])
    np.testing.assert_array_equal(*images)


def test_tissue_and_fields_lie_where_qupath_shows_them(tmp_path):
    image = np.full((1024, 1536, 3), 243, np.uint8)
    inside = ellipse(image, centre=(500, 400), radii=(350, 280))
    paint_tissue(image, inside)
    write_leica(tmp_path / "slide.scn", image, offset_px=(2048, 1024), mpp=0.5)
    with open_slide(tmp_path / "slide.scn") as slide:
        tissue = find_tissue(slide, slide.info)
        fields = sample_fields(
            GridReader(slide, make_grid(slide.info, 0.5)), tissue.pieces[0].buffer(-100)
        )
    [piece] = tissue.pieces
    assert (piece.centroid.x, piece.centroid.y) == pytest.approx((500, 400), abs=8)
    assert piece.area == pytest.approx(inside.sum(), rel=0.2)
    # Fields of tissue, not of the empty glass that lies at the same place from OpenSlide's corner.
    assert (fields.mean(axis=(1, 2, 3)) < 225).all()
