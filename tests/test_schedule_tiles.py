"""Tiles: cores partition the slide, windows are all alike, an index never depends on the area."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_engine.schedule.tiles import TileGrid
from wsi_engine.slide.frames import ModelBox


@st.composite
def grids(draw):
    stride = draw(st.sampled_from([1, 2, 8, 16]))
    return TileGrid(
        extent=ModelBox(0, 0, draw(st.integers(1, 90)), draw(st.integers(1, 90))),
        core=stride * draw(st.integers(8 // stride or 1, 40)),
        halo=stride * draw(st.integers(0, 4)),
        stride=stride,
    )


@settings(deadline=None)
@given(grids())
def test_every_pixel_is_owned_by_exactly_one_tile(grid):
    owners = np.zeros((grid.extent.height, grid.extent.width), int)
    for tile in grid.tiles():
        owners[tile.core.y : tile.core.y_stop, tile.core.x : tile.core.x_stop] += 1
    assert (owners == 1).all()


@settings(deadline=None)
@given(grids(), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1))
def test_every_point_on_the_slide_is_owned_by_exactly_one_tile(grid, shares):
    """Also on the border between two cores, which belongs to the lower right."""
    points = np.array(shares) * 0.999 * [grid.extent.width, grid.extent.height]
    on_borders = np.floor(points / grid.core) * grid.core
    for where in (points, on_borders):
        assert (sum(tile.core.holds(where).astype(int) for tile in grid.tiles()) == 1).all()


@settings(deadline=None)
@given(grids())
def test_windows_are_cores_with_halo_of_one_size_at_multiples_of_the_stride(grid):
    for tile in grid.tiles():
        assert (tile.window.width, tile.window.height) == (grid.window_side, grid.window_side)
        assert tile.window == tile.core.padded(grid.halo)
        assert tile.window.x % grid.stride == 0
        assert tile.window.y % grid.stride == 0


@settings(deadline=None)
@given(grids())
def test_scan_order_is_row_by_row_and_indices_count_up(grid):
    tiles = list(grid.tiles())
    assert [tile.index for tile in tiles] == list(range(len(grid)))
    assert [(t.row, t.column) for t in tiles] == sorted((t.row, t.column) for t in tiles)
    assert all(tile == grid.tile(tile.row, tile.column) for tile in tiles)


@pytest.mark.parametrize(
    ("extent", "core", "rows", "columns"),
    [
        ((100, 100), 100, 1, 1),
        ((101, 100), 100, 1, 2),
        ((100, 101), 100, 2, 1),
        ((1, 1), 64, 1, 1),
        ((1024, 512), 256, 2, 4),
        ((1025, 511), 256, 2, 5),
    ],
)
def test_number_of_tiles(extent, core, rows, columns):
    grid = TileGrid(ModelBox(0, 0, *extent), core, 0)
    assert (grid.rows, grid.columns, len(grid)) == (rows, columns, rows * columns)


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        (shapely.box(10, 10, 20, 20), [0]),
        (shapely.box(60, 10, 70, 20), [0, 1]),
        (shapely.box(60, 60, 70, 70), [0, 1, 4, 5]),
        (shapely.Point(200, 100), [7]),
        (shapely.MultiPoint([(1, 1), (255, 191)]), [0, 11]),
        (shapely.LineString([(1, 70), (250, 70)]), [4, 5, 6, 7]),
        (shapely.box(0, 0, 256, 192).difference(shapely.box(60, 60, 200, 140)), None),
        (shapely.box(300, 300, 400, 400), []),
        (shapely.Polygon(), []),
    ],
    ids=lambda value: getattr(value, "geom_type", None),
)
def test_tiles_without_wanted_area_are_skipped_and_the_others_keep_their_index(area, expected):
    grid = TileGrid(ModelBox(0, 0, 256, 192), core=64, halo=16)
    tiles = list(grid.tiles(area))
    if expected is None:
        expected = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert [tile.index for tile in tiles] == expected
    assert tiles == [grid.tile(*divmod(index, 4)) for index in expected]


@settings(deadline=None)
@given(grids(), st.tuples(*[st.floats(-20, 170)] * 4))
def test_a_tile_is_skipped_only_where_its_core_does_not_touch_the_area(grid, corners):
    x0, y0, x1, y1 = corners
    area = shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    cores = {
        tile: shapely.box(tile.core.x, tile.core.y, tile.core.x_stop, tile.core.y_stop)
        for tile in grid.tiles()
    }
    assert list(grid.tiles(area)) == [t for t, core in cores.items() if core.intersects(area)]


@pytest.mark.parametrize(
    ("core", "halo", "stride"),
    [(100, 16, 16), (64, 10, 16), (0, 0, 1), (-64, 0, 1), (64, -16, 16)],
)
def test_sizes_that_do_not_suit_the_stride_are_refused(core, halo, stride):
    with pytest.raises(ValueError, match=f"core {core} and halo {halo} must be multiples"):
        TileGrid(ModelBox(0, 0, 100, 100), core, halo, stride)


@pytest.mark.parametrize(
    ("size", "window"),
    [
        ((60, 40), ModelBox(-16, -16, 96, 96)),  # 60 px are eight strides
        ((64, 64), ModelBox(-16, -16, 96, 96)),
        ((64, 65), ModelBox(-24, -24, 112, 112)),  # more than one tile
    ],
)
def test_the_only_tile_of_a_slide_reads_no_more_than_is_of_use(size, window):
    grid = TileGrid(ModelBox(0, 0, *size), core=64, halo=24, stride=8, context=16)
    first = next(grid.tiles())
    assert (first.core, first.window) == (ModelBox(0, 0, 64, 64), window)
    assert grid.window_side == window.width
    # As far as the halo, at most: what is told of more is of no use to any tile.
    far = TileGrid(ModelBox(0, 0, *size), core=64, halo=24, stride=8, context=80)
    assert far.window_side == 112
