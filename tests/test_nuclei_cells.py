"""Cells: apart, around their nuclei, nearest to them, and whatever the tiling."""

from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nuclei_by_hand import disc, model_grid, nuclei_of, tile_grid
from wsi_engine.nuclei.cell_room import GAP_UM
from wsi_engine.nuclei.cell_stream import add_cells
from wsi_engine.nuclei.cells import expanded, reach_um
from wsi_engine.nuclei.polygons import simplified_on_grid
from wsi_engine.nuclei.seams import resolve_seams
from wsi_engine.slide.frames import Mpp

QUARTER = Mpp(0.25, 0.25)
FAR = (1e6, 1e6)
NOTHING_UM2 = 1e-3
"""What rounding to 0.01 px may let two cells share."""


def bean(x, y, length, width, bend, angle):
    """A nucleus, which is hollow on one side where it is bent; µm."""
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    across, along = width * np.cos(turn), length * np.sin(turn)
    across = across + bend * along**2 / length
    rotated = np.column_stack(
        [
            across * np.cos(angle) - along * np.sin(angle),
            across * np.sin(angle) + along * np.cos(angle),
        ]
    )
    return shapely.Polygon(np.add(rotated, (x, y)))


def on_pixels(shapes_um, mpp=QUARTER):
    """Outlines as a run has them, in QuPath pixels."""
    shapes = shapely.transform(np.array(shapes_um, object), lambda xy: xy / [mpp.x, mpp.y])
    return simplified_on_grid(shapes, 0.08 / mpp.mean)[0]


def tissue(count, side_um, seed, mpp=QUARTER):
    """Beans that lie at random in a square and do not overlap."""
    rng = np.random.default_rng(seed)
    shapes = on_pixels(
        [
            bean(*rng.uniform(6, side_um - 6, 2), *rng.uniform((2, 1.5, 0, 0), (5, 4, 1, 6.3)))
            for _ in range(count)
        ],
        mpp,
    )
    first, second = shapely.STRtree(shapes).query(shapes, "intersects")
    dropped = np.zeros(len(shapes), bool)
    for i, j in zip(first, second, strict=True):
        if i < j and not dropped[i]:
            dropped[j] = True
    return shapes[~dropped]


def shared_um2(cells, mpp=QUARTER):
    """Largest area that two of some polygons share."""
    first, second = shapely.STRtree(cells).query(cells, "intersects")
    once = first < second
    areas = shapely.area(shapely.intersection(cells[first[once]], cells[second[once]]))
    return areas.max(initial=0) * mpp.pixel_area_um2


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.sampled_from([20, 60, 150]),
    st.sampled_from([2.0, 5.0, 12.0]),
    st.sampled_from([QUARTER, Mpp(0.5, 0.5), Mpp(0.25, 0.3)]),
)
def test_cells_cover_their_nuclei_and_nothing_of_each_other(seed, count, distance, mpp):
    nuclei = tissue(count, 120, seed, mpp)
    cells = expanded(nuclei, distance, mpp, FAR)
    assert shapely.is_valid(cells).all()
    assert (shapely.get_type_id(cells) == shapely.GeometryType.POLYGON).all()
    assert shapely.covers(cells, nuclei).all()
    assert shared_um2(cells, mpp) < NOTHING_UM2
    points = shapely.get_coordinates(cells)
    np.testing.assert_array_equal(points, np.round(points, 2))


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([30, 120]))
def test_what_is_near_a_nucleus_and_nearest_to_it_is_its_cell(seed, count):
    nuclei = tissue(count, 120, seed)
    cells = expanded(nuclei, 5, QUARTER, FAR)
    places = shapely.points(np.random.default_rng(seed).uniform(0, 480, (4000, 2)))
    distances = 0.25 * shapely.distance(places[:, None], nuclei[None])
    order = np.argsort(distances, axis=1)
    nearest = distances[np.arange(len(places)), order[:, 0]]
    next_one = distances[np.arange(len(places)), order[:, 1]]
    inside = shapely.covers(cells[order[:, 0]], places)
    margin = GAP_UM + 0.1
    clearly = (nearest < 5 - margin) & (nearest < next_one - margin)
    assert clearly.sum() > 300
    # Rays from a hollow may leave a little of what is nearest to the nucleus to nobody.
    assert inside[clearly].mean() > 0.99
    assert not inside[(nearest > 5.05) | (nearest > next_one + 0.02)].any()


def test_alone_a_cell_is_all_within_the_distance():
    nucleus = on_pixels([shapely.Point(50, 50).buffer(4)])
    (cell,) = expanded(nucleus, 5, QUARTER, FAR)
    whole = nucleus[0].buffer(20, quad_segs=64)
    assert cell.area == pytest.approx(whole.area, rel=0.02)
    assert cell.within(whole.buffer(0.05))


def test_two_nuclei_share_out_the_space_at_their_outlines_and_not_at_their_centres():
    large, small = shapely.Point(20, 30).buffer(8), shapely.Point(33, 30).buffer(2)
    cells = expanded(on_pixels([large, small]), 5, QUARTER, FAR)
    # The outlines leave 28 to 31 µm between them; half way between the centres is 26.5 µm.
    axis = shapely.LineString([(0, 120), (400, 120)])
    left, right = (0.25 * shapely.bounds(axis.intersection(cell)) for cell in cells)
    assert left[2] == pytest.approx(29.5 - GAP_UM / 2, abs=0.05)
    assert right[0] == pytest.approx(29.5 + GAP_UM / 2, abs=0.05)


def test_cells_end_with_the_slide():
    nuclei = on_pixels([shapely.Point(4, 5).buffer(3), shapely.box(40, 20, 50, 26)])
    cells = expanded(nuclei, 5, QUARTER, (200, 104))
    assert shapely.box(0, 0, 200, 104).covers(shapely.union_all(cells))
    assert tuple(cells[0].bounds[:2]) == (0, 0)


def test_nuclei_that_touch_share_a_border_and_those_that_overlap_only_the_overlap():
    halves = on_pixels([shapely.box(10, 10, 16, 18), shapely.box(16, 10, 22, 18)])
    cells = expanded(halves, 5, QUARTER, FAR)
    assert shapely.covers(cells, halves).all()
    assert shared_um2(cells) < 0.1
    overlapping = on_pixels([shapely.Point(20, 20).buffer(4), shapely.Point(25, 20).buffer(4)])
    cells = expanded(overlapping, 5, QUARTER, FAR)
    common = shapely.intersection(*overlapping).area / 16
    assert shapely.covers(cells, overlapping).all()
    assert shared_um2(cells) == pytest.approx(common, abs=0.1)
    twins = expanded(halves[[0, 0]], 5, QUARTER, FAR)
    assert shapely.equals(twins, halves[0]).all()


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([60, 200]))
def test_what_is_further_away_and_the_order_do_not_change_a_bit(seed, count):
    nuclei = tissue(count, 150, seed)
    whole = expanded(nuclei, 4, QUARTER, FAR)
    rng = np.random.default_rng(seed)
    mine = np.flatnonzero(rng.random(len(nuclei)) < 0.2)
    if len(mine) == 0:
        return
    near = shapely.distance(nuclei, shapely.union_all(nuclei[mine])) <= reach_um(4) / 0.25
    known = rng.permutation(np.flatnonzero(near))
    of = np.array([np.flatnonzero(known == k)[0] for k in mine])
    block = expanded(nuclei[known], 4, QUARTER, FAR, of)
    assert shapely.equals_identical(block, whole[mine]).all()


def tile_stream(points, grid):
    for tile in grid.tiles():
        mine = points[tile.core.holds(points)]
        seen = nuclei_of([disc(x, y, 9, anchor=(x, y)) for x, y in mine], tile)
        yield tile, seen


@pytest.mark.parametrize("core", [64, 100, 250])
def test_on_a_stream_every_tiling_gives_the_cells_of_the_whole(core):
    points = np.round(np.random.default_rng(4).uniform((15, 15), (785, 985), (400, 2)), 2)
    grid = tile_grid(-(-1000 // core), -(-800 // core), core)
    model = model_grid(grid)
    chunks = [*resolve_seams(tile_stream(points, grid), grid, model, 20, 0.99)]
    pairs = [*add_cells(iter(chunks), 5, grid, model, 20)]
    assert all(given is came for given, (came, _) in zip(chunks, pairs, strict=True))
    nuclei = np.concatenate([chunk.polygons for chunk, _ in pairs])
    cells = np.concatenate([cells for _, cells in pairs])
    assert len(cells) == len(points)
    size = (grid.extent.width, grid.extent.height)
    expected = expanded(nuclei, 5, Mpp(0.5, 0.5), size)
    assert shapely.equals_identical(cells, expected).all()


def test_no_nuclei_have_no_cells():
    assert len(expanded(np.empty(0, object), 5, QUARTER, FAR)) == 0
    grid = tile_grid(2, 2, 100)
    assert [*add_cells(iter([]), 5, grid, model_grid(grid), 20)] == []


@pytest.mark.parametrize("rows", [20, 60])
def test_what_waits_for_its_cell_is_a_band_however_high_the_slide(rows):
    grid = tile_grid(rows, 4, 250)
    waiting, most = 0, 0

    def chunks():
        nonlocal waiting, most
        rng = np.random.default_rng(5)
        for tile in grid.tiles():
            points = np.round(np.add((tile.core.x, tile.core.y), rng.uniform(0, 250, (20, 2))), 2)
            nuclei = nuclei_of([disc(x, y, 5, anchor=(x, y)) for x, y in points], tile)
            waiting += len(nuclei)
            most = max(most, waiting)
            yield nuclei

    total = 0
    for nuclei, cells in add_cells(chunks(), 5, grid, model_grid(grid), 20):
        assert len(nuclei) == len(cells)
        waiting -= len(nuclei)
        total += len(nuclei)
    assert total == rows * 4 * 20
    assert most <= 4 * 4 * 20


def test_time_grows_with_the_number_of_nuclei_and_no_faster():
    """Sixteen times the nuclei at the same density; twice as slow each would still be linear."""
    small, large = tissue(400, 200, 1), tissue(6400, 800, 1)

    def seconds(nuclei):
        start = time.process_time()
        expanded(nuclei, 5, QUARTER, FAR)
        return (time.process_time() - start) / len(nuclei)

    seconds(small)
    assert seconds(large) < 3 * min(seconds(small) for _ in range(3))
