"""Runs on slides in OME-Zarr: the nuclei of the same pixels in a TIFF, damage, resume, folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
import shapely
import tifffile
from typer.testing import CliRunner

import wsi_engine
from tests.support.runs import SETTINGS, write_small_slide
from tests.support.zarrs import change_json, write_ome_zarr
from wsi_engine import run_archive
from wsi_engine.archive.cache import CacheSettings
from wsi_engine.cli.app import app
from wsi_engine.errors import EngineError
from wsi_engine.results.nucleus_table import read_nuclei


@pytest.fixture(scope="module")
def tiff(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_slide(tmp_path_factory.mktemp("slide") / "small.tif")


@pytest.fixture
def slide(tiff: Path, tmp_path: Path) -> Path:
    """The pixels of the TIFF, level by level."""
    return write_ome_zarr(
        tmp_path / "small.ome.zarr", tifffile.imread(tiff), levels=3, chunk=128, shard=256
    )


def outlines(folder: Path | None) -> np.ndarray:
    assert folder is not None
    return np.sort(shapely.to_wkb(read_nuclei(folder / "nuclei.parquet").polygons))


@pytest.mark.parametrize("tissue", [True, False])
def test_the_nuclei_are_those_of_the_same_pixels_in_a_tiff(tiff, slide, tmp_path, tissue):
    settings = SETTINGS | {"tissue": tissue}
    expected = outlines(wsi_engine.run(tiff, tmp_path / "tiff", **settings).folder)
    result = wsi_engine.run(slide, tmp_path / "zarr", **settings)
    np.testing.assert_array_equal(outlines(result.folder), expected)
    assert len(expected) > 100
    assert (result.record.slide.vendor, result.is_complete) == ("ome-zarr", True)
    assert (result.record.slide.mpp.x, result.record.slide.mpp_source) == (0.25, "OME-Zarr")


def test_a_level_that_is_lost_is_made_up_for_by_the_finer_one(tiff, slide, tmp_path):
    expected = outlines(wsi_engine.run(slide, tmp_path / "whole", **SETTINGS).folder)
    (slide / "1/c/0/1/1").unlink()
    result = wsi_engine.run(slide, tmp_path / "holed", **SETTINGS)
    assert result.is_complete
    np.testing.assert_array_equal(outlines(result.folder), expected)


@pytest.mark.parametrize("loss", ["removed", "spoilt"])
def test_what_is_lost_at_all_levels_is_told_and_not_searched(slide, tmp_path, loss):
    for chunk in (slide / "1/c/0/1/1", *(slide / "0/c/0").glob("[23]/[23]")):
        if loss == "removed":
            chunk.unlink()
        else:
            chunk.write_bytes(b"\xa5" * chunk.stat().st_size)
    result = wsi_engine.run(slide, tmp_path / "out", **SETTINGS)
    assert not result.is_complete
    boxes = [shapely.box(*box.model_dump().values()) for box in result.record.unreadable]
    lost = shapely.union_all(boxes)
    assert lost.equals(shapely.box(512, 512, 1024, 1024))
    nuclei = read_nuclei(result.folder / "nuclei.parquet").polygons
    assert len(nuclei) > 100
    assert not shapely.intersects(lost.buffer(-40), nuclei).any()


def test_a_result_is_that_of_the_folder_as_it_is(slide, tmp_path):
    first = wsi_engine.run(slide, tmp_path / "out", **SETTINGS)
    (tmp_path / "elsewhere").mkdir()
    moved = slide.rename(tmp_path / "elsewhere" / slide.name)
    assert wsi_engine.run(moved, tmp_path / "out", **SETTINGS).is_earlier
    chunk = moved / "0/c/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(EngineError, match="slide"):
        wsi_engine.run(moved, tmp_path / "out", **SETTINGS)
    assert first.count > 0


def test_a_folder_of_slides_and_what_lies_among_them(slide, tmp_path):
    slides = tmp_path / "slides"
    shutil.copytree(slide, slides / "deep" / "b.zarr")
    labels = Path(shutil.copytree(slide, slides / "labels.zarr"))
    change_json(
        labels / "zarr.json",
        lambda content: content["attributes"]["ome"].update({"image-label": {}}),
    )
    broken = Path(shutil.copytree(slide, slides / "broken.zarr"))
    (broken / "zarr.json").write_text("{")
    summary = run_archive([str(slides)], tmp_path / "out", **SETTINGS)
    found = {one.name: one.status for one in summary.outcomes}
    assert found == {"b": "done", "broken": "failed"}


def test_a_slide_that_is_a_folder_elsewhere(slide, tmp_path):
    system = fsspec.filesystem("memory")
    system.put(str(slide), "/far/small.ome.zarr", recursive=True)
    cache = CacheSettings(tmp_path / "cache")
    run_archive(["memory://far/small.ome.zarr"], tmp_path / "out", cache=cache, **SETTINGS)
    here = wsi_engine.run(slide, tmp_path / "here", **SETTINGS).folder
    found = tmp_path / "out" / "small.ome"
    assert (found / "nuclei.parquet").read_bytes() == (here / "nuclei.parquet").read_bytes()


def test_info_tells_what_is_known(slide):
    done = CliRunner().invoke(app, ["info", str(slide), "--json"])
    facts = json.loads(done.stdout)
    assert (facts["vendor"], facts["pixel_um"], facts["pixel_source"]) == (
        "ome-zarr", [0.25, 0.25], "OME-Zarr",
    )  # fmt: skip
    assert [level["downsample"] for level in facts["levels"]] == [1, 2, 4]
    assert facts["tissue"]["area_mm2"] > 0
