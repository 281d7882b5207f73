"""The same nucleus has the same values, bit for bit, whatever the tiles."""

from __future__ import annotations

import numpy as np
import pytest

import wsi_engine
from tests.support.slides import real_slide
from wsi_engine.nuclei.measure.groups import GROUPS

CASES = [("CMU-1-Small-Region.svs", "starconvex"), ("mosaic_tnbc.tif", "watershed")]


@pytest.mark.parametrize(("name", "model"), CASES)
def test_measurements_do_not_depend_on_the_tiles(
    name: str, model: str, capsys: pytest.CaptureFixture[str]
):
    tables = [
        wsi_engine.run(real_slide(name), model=model, tile_size=size, measure=tuple(GROUPS))
        .nuclei.arrow.to_pandas()
        .set_index("id")
        for size in (256, 1024)
    ]
    both = tables[0].join(tables[1], rsuffix=" again", how="inner")
    same = both[both["geometry"] == both["geometry again"]]
    columns = [c for c in tables[0] if tables[0][c].dtype == np.float32]
    values, again = same[columns].to_numpy(), same[[f"{c} again" for c in columns]].to_numpy()
    differ = ~((values == again) | (np.isnan(values) & np.isnan(again)))
    with capsys.disabled():
        print(f"\n{name}: {len(same)} of {len(both)} outlines, {differ.sum()} values differ")
    assert len(same) > 0.99 * max(len(table) for table in tables)
    assert len(columns) > 70
    assert not differ.any()
