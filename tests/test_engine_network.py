"""The guarantees of the engine hold for the network that ships with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import wsi_engine
from tests.support.slides import real_slide
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.sample import SampleTruth

MODEL = "starconvex"


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "mosaic_tnbc.tif"])
def test_tile_size_does_not_change_the_nuclei(name: str, capsys: pytest.CaptureFixture[str]):
    slide = real_slide(name)
    large = wsi_engine.run(slide, model=MODEL, tile_size=1536).nuclei.polygons
    assert len(large) > 1000
    for tile_size in (256, 512, 1024):
        tiled = wsi_engine.run(slide, model=MODEL, tile_size=tile_size).nuclei.polygons
        matched = int((polygon_overlaps(large, tiled).iou >= 0.98).sum())
        with capsys.disabled():
            print(
                f"\n{name}: core {tile_size}: {len(tiled)} nuclei, core 1536: {len(large)}, "
                f"{matched} pairs with IoU >= 0.98"
            )
        assert abs(len(tiled) - len(large)) <= 0.001 * len(large)
        assert matched >= 0.999 * min(len(tiled), len(large))


def test_bytes_do_not_depend_on_workers(sample: SampleTruth, tmp_path: Path):
    outputs = []
    for workers in (1, 2, 4):
        result = wsi_engine.run(
            sample.slide_path, tmp_path, model=MODEL, tile_size=256, workers=workers
        )
        assert result.folder is not None
        outputs.append((result.folder / "nuclei.geojson.gz").read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]
