"""What could not be read of a slide is not searched, and nothing says that it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

import wsi_engine
from tests.support.runs import SETTINGS, write_small_slide
from tests.support.slides import overwrite_place, overwrite_tile
from wsi_engine.errors import SlideError
from wsi_engine.report.plausibility import damage_flag
from wsi_engine.results.finished import SlideResult


def _tiles(path: Path) -> list[tuple[int, int, int]]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        return [
            (level, column, row)
            for level, page in enumerate(tiff.pages)
            for row in range(-(-page.imagelength // page.tilelength))
            for column in range(-(-page.imagewidth // page.tilewidth))
        ]


def test_a_hole_is_not_searched_and_the_density_is_that_of_the_rest(tmp_path: Path):
    slide = write_small_slide(tmp_path / "small.tif")
    whole = wsi_engine.run(slide, tmp_path / "whole", **SETTINGS).record
    overwrite_place(slide, 1, 1, 1)
    result = wsi_engine.run(slide, tmp_path / "holed", **SETTINGS)
    boxes = [shapely.box(*box.model_dump().values()) for box in result.record.unreadable]
    pixel_mm2 = result.record.slide.mpp.x**2 / 1e6
    hole = shapely.union_all(boxes).area * pixel_mm2
    assert hole > 0
    area = result.record.nuclei.area_mm2
    assert whole.nuclei.area_mm2 - hole - 1e-5 <= area < whole.nuclei.area_mm2
    assert result.record.nuclei.density_per_mm2 == pytest.approx(result.count / area, rel=1e-3)
    finished = SlideResult(result.folder)
    assert finished.searched.area * pixel_mm2 == pytest.approx(area, rel=1e-3)
    assert damage_flag(finished).value == pytest.approx(hole, rel=1e-2)


@pytest.mark.parametrize("tissue", [True, False])
def test_a_slide_of_which_nothing_can_be_read_says_so(tmp_path: Path, tissue: bool):
    slide = write_small_slide(tmp_path / "small.tif")
    for tile in _tiles(slide):
        overwrite_tile(slide, *tile)
    with pytest.raises(SlideError, match="is damaged: nothing could be read"):
        wsi_engine.run(slide, tmp_path / "out", **SETTINGS | {"tissue": tissue})
    assert not np.any([path.name == "run.json" for path in tmp_path.rglob("*")])
