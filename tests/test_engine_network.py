"""The guarantees of the engine hold for the network that ships with it."""

from __future__ import annotations

from pathlib import Path

import pytest

import wsi_engine
from tests.support.slides import real_slide
from tests.test_starconvex import small_net
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.models.starconvex.model import save_weights
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


def test_weights_for_other_pixels_are_shown_those(sample: SampleTruth, tmp_path: Path):
    tiles = []
    for mpp in (0.5, 1.0):
        weights = tmp_path / f"{mpp}.safetensors"
        save_weights(weights, small_net(), mpp=mpp, threshold=0.9, max_overlap=0.3)
        settings = {"weights": weights, "tile_size": 256, "tissue": False, "report": False}
        record = wsi_engine.run(sample.slide_path, tmp_path / str(mpp), **settings).record
        assert record.model.mpp == mpp
        tiles.append(record.tiles.count)
    assert tiles[1] < tiles[0] / 2
