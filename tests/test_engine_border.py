"""At the border of a slide nuclei are found as within it, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

import wsi_engine
from wsi_engine.engine.tile_flow import on_slide
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.phantom import Kind, make_nuclei, render_tissue
from wsi_engine.schedule.tiles import TileGrid
from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp

MPP = 0.25
SIDE = 640
MODELS = ["starconvex", "watershed"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tile_size", [128, 1024])
def test_nuclei_that_the_border_cuts_are_found_once_and_end_there(
    tmp_path: Path, model: str, tile_size: int
):
    along = np.arange(80.0, SIDE - 40, 80)
    edges = [[(x, 6.0), (x, SIDE - 6.0), (6.0, x), (SIDE - 6.0, x)] for x in along]
    centres = np.array(edges).reshape(-1, 2)
    rng = np.random.default_rng(8)
    nuclei = make_nuclei(centres, MPP, rng, Kind.LYMPHOCYTE)
    image = render_tissue((SIDE, SIDE), nuclei, MPP, rng)
    Image.fromarray(image).save(tmp_path / "cut.png")
    slide = shapely.box(0, 0, SIDE, SIDE)
    truth = shapely.intersection(nuclei.polygons(), slide)

    found = wsi_engine.run(
        tmp_path / "cut.png", model=model, mpp=MPP, tissue=False, tile_size=tile_size
    ).nuclei.polygons

    assert shapely.covers(slide, found).all()
    matched = polygon_overlaps(truth, found).iou > 0.5
    assert matched.sum() >= 0.95 * len(truth)
    assert len(found) <= 1.05 * len(truth)


@pytest.mark.parametrize("grey", [90, 150, 210])
def test_an_empty_image_has_no_nuclei_at_its_border(tmp_path: Path, grey: int):
    """Beside white, a dark ground looks like a large nucleus."""
    grain = np.random.default_rng(2).integers(-5, 6, (301, 403, 3))
    ground = np.array([grey, grey - 10, grey + 10]) + grain
    Image.fromarray(ground.astype(np.uint8)).save(tmp_path / "empty.png")
    assert len(wsi_engine.run(tmp_path / "empty.png", mpp=MPP, tissue=False).nuclei) == 0


@pytest.mark.parametrize(
    ("slide_px", "step", "tile", "window", "first", "shape"),
    [
        # A core of 32 model pixels and a halo of 16; maps of 64 / step points.
        ((400, 400), 2, (1, 1), ModelBox(16, 16, 64, 64), 0, (32, 32)),
        ((400, 400), 2, (0, 0), ModelBox(0, 0, 48, 48), 8, (24, 24)),
        ((90, 400), 2, (0, 1), ModelBox(16, 0, 28, 48), 8, (24, 14)),  # 45 model pixels
        ((91, 400), 2, (0, 1), ModelBox(16, 0, 30, 48), 8, (24, 15)),
        ((91, 91), 1, (1, 1), ModelBox(16, 16, 29, 29), 0, (29, 29)),
        ((1, 1), 2, (0, 0), ModelBox(0, 0, 2, 2), 8, (1, 1)),
    ],
)
def test_decoders_see_what_lies_on_the_slide(slide_px, step, tile, window, first, shape):
    width, height = slide_px
    grid = ModelGrid(0.5, Mpp(0.25, 0.25), 0, 0, width, height)
    tiles = TileGrid(grid.extent, core=32, halo=16, stride=8)
    maps = np.arange((64 // step) ** 2 * 3).reshape(64 // step, 64 // step, 3)
    seen, part = on_slide(tiles.tile(*tile), maps, grid)
    assert seen.window == window
    assert seen.core == tiles.tile(*tile).core
    assert part.shape[:2] == shape
    top, left = (first if index == 0 else 0 for index in tile)
    np.testing.assert_array_equal(part[0, 0], maps[top, left])
