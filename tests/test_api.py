"""What a Python user calls."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pytest

import wsi_engine as we
from wsi_engine.sample import SampleTruth


def test_a_run_without_output_keeps_nothing_but_the_result(sample: SampleTruth):
    result = we.run(sample.slide_path, tile_size=512)
    assert result.folder is None
    assert result.is_complete
    assert result.count == len(result.nuclei) > 100
    assert isinstance(result.nuclei.arrow, pa.Table)
    assert pa.table(result.nuclei).num_rows == result.count


def test_the_table_as_geopandas(sample: SampleTruth):
    frame = we.run(sample.slide_path, tile_size=512).nuclei.to_geopandas()
    assert isinstance(frame, geopandas.GeoDataFrame)
    assert frame.geometry.is_valid.all()
    area_um2 = frame.geometry.area * sample.mpp**2
    np.testing.assert_allclose(frame["Area µm^2"], area_um2, rtol=1e-5)


def test_progress_counts_up_to_the_end(sample: SampleTruth):
    seen: list[we.Progress] = []
    result = we.run(sample.slide_path, tile_size=256, observe=seen.append)
    assert [p.stage for p in seen[:2]] == ["tissue", "calibration"]
    assert seen[-1].stage == "writing"
    tiles = [p.tiles for p in seen if p.stage == "nuclei"]
    assert tiles == list(range(result.record.tiles.count + 1))
    assert seen[-1].nuclei == result.count
    assert 0 < seen[-1].busy <= 1


def test_an_error_is_an_engine_error(tmp_path: Path):
    with pytest.raises(we.EngineError, match="no such file"):
        we.run(tmp_path / "absent.svs")


def test_a_setting_that_does_not_exist(sample: SampleTruth):
    with pytest.raises(we.EngineError, match="tilesize"):
        we.run(sample.slide_path, tilesize=256)
