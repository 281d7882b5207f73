"""What every method owes the engine: the same nuclei for every tiling, the same bytes always."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import wsi_engine
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.models.registry import available_models
from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.slide.pyramid import write_pyramid

MPP = 0.5
ONE_TILE = 1152
QUICK = {"tissue": False, "measure": (), "regions": False, "report": False, "compile": "never"}


def runs_without_download(name: str) -> bool:
    """Whether the package brings all that the method needs."""
    return available_models()[name].spec.embedded


METHODS = [name for name in available_models() if runs_without_download(name)]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated tissue with glands, stroma and crowds, wider than high, at 0.5 µm/px."""
    rng = np.random.default_rng(11)
    shape = (720, 1100)
    layout = lay_out_tissue(shape, MPP, rng)
    pixels = render_tissue(shape, scatter_nuclei(layout, rng), MPP, rng, layout)
    path = tmp_path_factory.mktemp("conformance") / "tissue.tif"
    write_pyramid(path, pixels, MPP)
    return path


def nuclei(slide: Path, **settings: object) -> np.ndarray:
    return wsi_engine.run(slide, **QUICK, **settings).nuclei.polygons


@pytest.mark.parametrize("name", METHODS)
def test_the_tiling_does_not_change_the_nuclei(slide: Path, name: str):
    whole = nuclei(slide, model=name, tile_size=ONE_TILE)
    assert len(whole) > 200
    for tile_size in (256, 512, 1024):
        tiled = nuclei(slide, model=name, tile_size=tile_size)
        # A clump can outgrow the halo; here that may be one nucleus of hundreds.
        assert abs(len(tiled) - len(whole)) <= max(1, 0.002 * len(whole))
        same = int((polygon_overlaps(whole, tiled).iou >= 0.98).sum())
        assert same >= len(whole) - max(2, 0.004 * len(whole))


@pytest.mark.parametrize("name", METHODS)
def test_workers_and_batches_do_not_change_a_byte(slide: Path, name: str, tmp_path: Path):
    written = {
        (workers, batch): _bytes(slide, tmp_path / f"{workers}-{batch}", name, workers, batch)
        for workers, batch in [(1, 1), (2, 4)]
    }
    assert len(set(written.values())) == 1


def _bytes(slide: Path, folder: Path, name: str, workers: int, batch: int) -> bytes:
    settings = {"model": name, "tile_size": 512, "workers": workers, "batch_size": batch}
    result = wsi_engine.run(slide, folder, **QUICK, **settings)
    assert result.folder is not None
    return (result.folder / "nuclei.geojson.gz").read_bytes()
