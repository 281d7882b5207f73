"""Coordinate frames: every conversion has an inverse, and boxes share no point and lose none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp

sizes = st.integers(1, 400_000)
pixel_sizes = st.floats(0.05, 2.0)
coordinates = st.floats(-1e6, 1e6)


@st.composite
def grids(draw):
    return ModelGrid(
        mpp=draw(st.floats(0.1, 10.0)),
        slide_mpp=Mpp(draw(pixel_sizes), draw(pixel_sizes)),
        origin_x=draw(st.integers(0, 100_000)),
        origin_y=draw(st.integers(0, 100_000)),
        slide_width=draw(sizes),
        slide_height=draw(sizes),
    )


def grid(mpp=0.5, slide_mpp=0.25, width=1000, height=800, slide_mpp_y=None, origin=(0, 0)):
    return ModelGrid(mpp, Mpp(slide_mpp, slide_mpp_y or slide_mpp), *origin, width, height)


@settings(deadline=None)
@given(grids(), st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=20))
def test_model_and_qupath_pixels_are_inverse(grid, points):
    points = np.array(points)
    for there, back in (
        (grid.to_qupath, grid.from_qupath),
        (grid.from_qupath, grid.to_qupath),
    ):
        np.testing.assert_allclose(back(there(points)), points, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    ("slide_mpp", "model_mpp", "model_point", "qupath_point"),
    [
        # The corner of the slide is the corner of the grid, at any scale.
        ((0.25, 0.25), 0.5, (0, 0), (0, 0)),
        ((0.25, 0.25), 0.5, (100, 50), (200, 100)),
        ((0.25, 0.50), 0.5, (100, 50), (200, 50)),
        ((0.50, 0.50), 0.25, (100, 50), (50, 25)),
        ((0.2527, 0.2527), 0.5, (1000, 10), (1978.630787, 19.78630787)),
        ((0.263, 0.263), 0.5, (26.3, -2.63), (50, -5)),
    ],
)
def test_scale_is_the_ratio_of_pixel_sizes(slide_mpp, model_mpp, model_point, qupath_point):
    grid = ModelGrid(model_mpp, Mpp(*slide_mpp), 0, 0, 5000, 4000)
    np.testing.assert_allclose(grid.to_qupath(np.array(model_point, float)), qupath_point)


def test_conversions_keep_the_shape_of_what_they_get():
    polygons = np.zeros((7, 32, 2))
    assert grid().to_qupath(polygons).shape == polygons.shape
    assert grid().from_qupath(polygons).shape == polygons.shape


def test_the_origin_of_the_bounds_does_not_move_the_grid():
    # Both frames begin at the bounds; only level-0 pixels do not.
    points = np.array([[3.0, 2.0]])
    moved = grid(origin=(1234, 567))
    np.testing.assert_array_equal(moved.to_qupath(points), grid().to_qupath(points))
    assert moved.extent == grid().extent


@settings(deadline=None)
@given(grids())
def test_extent_is_the_smallest_that_covers_the_slide(grid):
    corner = grid.box_to_qupath(grid.extent)
    assert (corner.x_min, corner.y_min) == (0, 0)
    for side, scale, size in (
        (grid.extent.width, grid.scale_x, grid.slide_width),
        (grid.extent.height, grid.scale_y, grid.slide_height),
    ):
        # Up to the rounding of a division: 30 / (0.3 / 0.1) is a little more than 10.
        assert side * scale >= size * (1 - 1e-12)
        assert (side - 1) * scale < size * (1 + 1e-12)


@pytest.mark.parametrize(
    ("slide_mpp", "size", "extent"),
    [
        (0.25, (1000, 800), (500, 400)),
        (0.25, (1001, 799), (501, 400)),
        (0.5, (1, 1), (1, 1)),
        (0.2485, (14464, 10624), (7189, 5281)),
        (0.499, (2220, 2967), (2216, 2962)),
    ],
)
def test_extent_at_half_a_micrometre(slide_mpp, size, extent):
    box = grid(slide_mpp=slide_mpp, width=size[0], height=size[1]).extent
    assert (box.x, box.y, box.width, box.height) == (0, 0, *extent)


@settings(deadline=None)
@given(grids(), st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 99), st.integers(0, 99))
def test_a_box_converts_as_its_corners_do(grid, x, y, width, height):
    box = grid.box_to_qupath(ModelBox(x, y, width, height))
    corners = grid.to_qupath(np.array([[x, y], [x + width, y + height]], float))
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == tuple(corners.ravel())


@pytest.mark.parametrize(
    ("point", "held"),
    [
        ((10, 20), True),
        ((29.999999, 49.999999), True),
        ((30, 20), False),
        ((10, 50), False),
        ((9.999999, 20), False),
        ((10, 19.999999), False),
        ((math.nan, 20), False),
    ],
)
def test_a_box_is_half_open(point, held):
    box = ModelBox(10, 20, 20, 30)
    assert (box.x_stop, box.y_stop) == (30, 50)
    assert box.holds(np.array([point], float)).tolist() == [held]


@settings(deadline=None)
@given(
    st.integers(20, 60),
    st.lists(st.tuples(st.floats(-99, 200), st.floats(-99, 200)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(-5, 10), st.integers(-5, 10)), max_size=9),
)
def test_every_point_has_exactly_one_owner(side, anywhere, corners):
    corners = [(side * column, side * row) for column, row in corners]
    points = np.array(anywhere + corners, float)
    owners = sum(
        ModelBox(column * side, row * side, side, side).holds(points).astype(int)
        for row in range(-5, 11)
        for column in range(-5, 11)
    )
    assert owners.tolist() == [1] * len(points)


@settings(deadline=None)
@given(st.integers(-99, 99), st.integers(-99, 99), st.integers(0, 99), st.integers(0, 99))
def test_padding_grows_every_side_and_can_be_taken_back(x, y, width, height):
    box = ModelBox(x, y, width, height)
    padded = box.padded(7)
    assert (padded.x, padded.x_stop) == (x - 7, x + width + 7)
    assert (padded.y, padded.y_stop) == (y - 7, y + height + 7)
    assert padded.padded(-7) == box


def test_pixels_that_are_not_square():
    mpp = Mpp(0.2, 0.45)
    assert mpp.pixel_area_um2 == pytest.approx(0.09)
    assert mpp.mean == pytest.approx(0.3)
