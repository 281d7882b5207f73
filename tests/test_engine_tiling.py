"""Tiling does not matter, nothing is lost or doubled where tiles meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import wsi_engine
from tests.support.slides import real_slide
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.phantom import Kind, make_nuclei, render_tissue
from wsi_engine.slide.pyramid import write_pyramid

ONE_TILE = 4096


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "mosaic_tnbc.tif"])
def test_tile_size_does_not_change_the_nuclei(name: str, capsys: pytest.CaptureFixture[str]):
    slide = real_slide(name)
    whole = wsi_engine.run(slide, model="watershed", tile_size=ONE_TILE).nuclei.polygons
    assert len(whole) > 1000
    for tile_size in (256, 512, 1024):
        tiled = wsi_engine.run(slide, model="watershed", tile_size=tile_size).nuclei.polygons
        iou = polygon_overlaps(whole, tiled).iou
        matched = int((iou > 0.99).sum())
        with capsys.disabled():
            print(
                f"\n{name}: core {tile_size}: {len(tiled)} nuclei, one tile: {len(whole)}, "
                f"{matched} pairs with IoU > 0.99"
            )
        # The classical method floods clumps, and a clump can outgrow any halo.
        assert abs(len(tiled) - len(whole)) <= 0.002 * len(whole)
        assert matched >= 0.998 * len(whole)


@pytest.mark.parametrize("model", ["watershed", "starconvex"])
@pytest.mark.parametrize("mpp", [0.25, 0.263, 0.5])
def test_nuclei_on_tile_borders_and_corners_come_back_one_to_one(
    tmp_path: Path, mpp: float, model: str
):
    core_px = 128
    step = core_px * 0.5 / mpp
    # Centres on every corner and in the middle of every border of the tiles, at 0.5 µm.
    on_grid = np.arange(1, 6) * step
    corners = np.stack(np.meshgrid(on_grid, on_grid), -1).reshape(-1, 2)
    centres = np.concatenate(
        [corners, corners + np.array([step / 2, 0]), corners + np.array([0, step / 2])]
    )
    rng = np.random.default_rng(3)
    nuclei = make_nuclei(centres, mpp, rng, Kind.LYMPHOCYTE)
    side = int(6.5 * step)
    slide = tmp_path / "borders.tif"
    write_pyramid(slide, render_tissue((side, side), nuclei, mpp, rng), mpp)

    def run(tile_size: int) -> np.ndarray:
        return wsi_engine.run(slide, model=model, tile_size=tile_size, tissue=False).nuclei.polygons

    found, whole = run(core_px), run(ONE_TILE // 4)
    assert len(found) == len(whole)
    iou = polygon_overlaps(nuclei.polygons(), found).iou
    matched = iou[iou > 0.5]
    assert len(matched) == len(centres)
    assert matched.mean() > 0.8
    if model == "watershed":  # the network also sees a nucleus in the phantom's stroma
        assert len(found) == len(centres)
