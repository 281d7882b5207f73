"""Fixtures that several test files share."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import shapely
from hypothesis import settings

import wsi_engine
from tests.support.results import write_annotations_by_hand
from wsi_engine.sample import SampleTruth, write_sample

# SpatialData and TIAToolbox want other versions of dask: `make test-spatialdata` has its own
# environment, and napari there, too.
collect_ignore = [] if find_spec("spatialdata") else ["test_export_spatialdata.py"]
if not (find_spec("spatialdata") and find_spec("napari_ome_zarr")):
    collect_ignore.append("test_export_ome_zarr_viewers.py")
# Snakemake wants another version of packaging: `make test-snakemake` says where it is.
collect_ignore += [] if "SNAKEMAKE" in os.environ else ["test_workflow_snakemake.py"]

# The same examples on every machine; `--hypothesis-profile default` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleTruth:
    """The demo sample with a small generated field."""
    folder: Path = tmp_path_factory.mktemp("sample")
    return write_sample(folder / "sample.tif", seed=1, field_px=1024)


@pytest.fixture(scope="session")
def finished_run(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run on a part of the demo sample left."""
    folder: Path = tmp_path_factory.mktemp("finished")
    x, y = sample.field.x_min, sample.field.y_min
    area = shapely.box(x + 100, y + 100, x + 500, y + 500)
    roi = write_annotations_by_hand(folder / "drawn.geojson", area, classes=["Tumor"])
    settings = {"model": "watershed", "tile_size": 512, "roi": roi}
    found = wsi_engine.run(sample.slide_path, folder, **settings).folder
    assert found is not None
    return found
