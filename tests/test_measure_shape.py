"""Measurements: closed forms, pixels that are not square, and QuPath's own numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from shapely import affinity
from skimage.measure import label as measure_labels
from skimage.measure import regionprops

from tests.support.exports import shared_export
from wsi_engine.nuclei.measure.shape import COLUMNS, measure_shape
from wsi_engine.nuclei.measure.view import OutlineView
from wsi_engine.slide.frames import Mpp

SQUARE = shapely.box(0, 0, 10, 10)
BAR = shapely.box(0, 0, 40, 10)
DISC = shapely.Point(50, 50).buffer(20, quad_segs=500)
CROSS = shapely.union_all([shapely.box(0, 10, 30, 20), shapely.box(10, 0, 20, 30)])
RING = SQUARE.difference(shapely.box(4, 4, 6, 6))
SQUARE_IN_DIAMETER = math.hypot(10, 10)


LOBES = (2, 3, 4, 5, 6)
QUPATHS = [column.name for column in COLUMNS[:6]]
NAMES = [column.name for column in COLUMNS]


def measure(*polygons, mpp=(1.0, 1.0)):
    return measure_shape(OutlineView(np.array(polygons, object), Mpp(*mpp)))


def row(polygon, mpp=(1.0, 1.0), names=QUPATHS):
    columns = measure(polygon, mpp=mpp)
    return [float(columns[name][0]) for name in names]


CLOSED_FORMS = {
    "square": (SQUARE, (1, 1), [100, 40, math.pi / 4, 1, SQUARE_IN_DIAMETER, 10]),
    "in µm": (SQUARE, (0.25, 0.25), [6.25, 10, math.pi / 4, 1, SQUARE_IN_DIAMETER / 4, 2.5]),
    "bar": (BAR, (1, 1), [400, 100, 4 * math.pi * 400 / 100**2, 1, math.hypot(40, 10), 10]),
    "bar at an angle": (
        affinity.rotate(BAR, 33),
        (0.5, 0.5),
        [100, 50, 4 * math.pi * 400 / 100**2, 1, math.hypot(40, 10) / 2, 5],
    ),
    "disc": (DISC, (0.5, 0.5), [math.pi * 100, 2 * math.pi * 10, 1, 1, 20, 20]),
    "cross": (
        CROSS,
        (1, 1),
        [500, 120, 4 * math.pi * 500 / 120**2, 500 / 700, math.hypot(30, 10), 40 / math.sqrt(2)],
    ),
    "triangle": (
        shapely.Polygon([(0, 0), (30, 0), (0, 40)]),
        (1, 1),
        [600, 120, 4 * math.pi * 600 / 120**2, 1, 50, 2 * 600 / 50],
    ),
    # Holes count in area and length, but circularity is that of the exterior.
    "ring": (RING, (1, 1), [96, 48, math.pi / 4, 0.96, SQUARE_IN_DIAMETER, 10]),
    "square in oblong pixels": (
        SQUARE,
        (0.5, 0.25),
        [12.5, 15, 4 * math.pi * 12.5 / 15**2, 1, math.hypot(5, 2.5), 2.5],
    ),
    "disc in oblong pixels": (
        affinity.scale(DISC, 1, 2),
        (0.5, 0.25),
        [math.pi * 100, 2 * math.pi * 10, 1, 1, 20, 20],
    ),
    # QuPath has no circularity for several parts.
    "two squares": (
        shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 0, 4, 1)]),
        (1, 1),
        [2, 8, math.nan, 0.5, math.hypot(4, 1), 1],
    ),
    "nothing": (shapely.Polygon(), (1, 1), [math.nan] * 6),
}


@pytest.mark.parametrize(("polygon", "mpp", "expected"), CLOSED_FORMS.values(), ids=CLOSED_FORMS)
def test_closed_forms(polygon, mpp, expected):
    assert row(polygon, mpp) == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_shape_does_not_depend_on_where_a_ring_begins_or_how_it_turns():
    corners = list(CROSS.exterior.coords)[:-1]
    for ring in (corners[4:] + corners[:4], corners[::-1]):
        found = row(shapely.Polygon(ring), names=NAMES)
        assert found == pytest.approx(row(CROSS, names=NAMES), rel=2e-3, abs=2e-3, nan_ok=True)


SIZES = [name for name in NAMES if "µm" in name]
NUMBERS = [name for name in NAMES if "µm" not in name and not name.startswith("Orientation")]


@st.composite
def stars(draw):
    """Star-shaped polygons, as nuclei are, of 6 to 40 vertices."""
    count = draw(st.integers(6, 40))
    radii = draw(st.lists(st.floats(8, 20), min_size=count, max_size=count).map(np.array))
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return shapely.Polygon(np.column_stack([radii * np.cos(angle), radii * np.sin(angle)]))


@settings(deadline=None)  # the kernels compile in the first example
@given(stars(), st.floats(-180, 180), st.floats(0.5, 4), st.integers(0, 200_000))
def test_turning_scaling_and_moving(polygon, turn, factor, shift):
    moved = affinity.rotate(affinity.scale(polygon, factor, factor), turn, origin=(0, 0))
    moved = affinity.translate(moved, shift, shift / 2)
    before, after = measure(polygon), measure(moved)
    for name in NUMBERS:
        assert after[name] == pytest.approx(before[name], rel=2e-3, abs=2e-3), name
    for name in SIZES:
        power = 2 if name.endswith("^2") else 1
        assert after[name] == pytest.approx(before[name] * factor**power, rel=1e-5), name


@settings(deadline=None)
@given(stars())
def test_enclosing_circle_and_least_width_are_those_of_geos(polygon):
    found = measure(polygon)
    radius = shapely.minimum_bounding_radius(polygon)
    assert found["Max diameter µm"] == pytest.approx(2 * radius, rel=1e-6)
    hull = np.array(polygon.convex_hull.exterior.coords)
    sides = np.diff(hull, axis=0)
    sides = sides[np.linalg.norm(sides, axis=1) > 1e-9]
    normals = np.column_stack([-sides[:, 1], sides[:, 0]]) / np.linalg.norm(
        sides, axis=1, keepdims=True
    )
    widths = np.ptp(hull @ normals.T, axis=0)
    assert found["Min diameter µm"] == pytest.approx(widths.min(), rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_moments_are_those_of_scikit_image_on_the_same_pixels(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(60, 80)), 6)
    labels = measure_labels(noise > 0.02)
    region = max(regionprops(labels), key=lambda r: r.area)
    rows, columns = region.coords.T
    polygon = shapely.union_all(shapely.box(columns, rows, columns + 1, rows + 1))
    found = measure(polygon, mpp=(0.5, 0.5))
    # A pixel has a second moment of its own, 1/12, that regionprops leaves out.
    larger, smaller = np.array(region.inertia_tensor_eigvals) + 1 / 12
    assert found["Area µm^2"] == pytest.approx(region.area / 4)
    assert found["Major axis µm"] == pytest.approx(2 * math.sqrt(larger), rel=1e-5)
    assert found["Minor axis µm"] == pytest.approx(2 * math.sqrt(smaller), rel=1e-5)
    assert found["Eccentricity"] == pytest.approx(math.sqrt(1 - smaller / larger), rel=1e-5)
    assert found["Equivalent diameter µm"] == pytest.approx(
        region.equivalent_diameter_area / 2, rel=1e-5
    )
    # There the angle is from the vertical.
    angle = math.degrees(region.orientation) + 90
    assert math.remainder(found["Orientation °"][0] - angle, 180) == pytest.approx(0, abs=1e-3)
    # There the hull is one of pixels, so it is larger by its stairs.
    assert found["Solidity"] == pytest.approx(region.solidity, rel=0.06)


@pytest.mark.parametrize("turn", [0, 30, 90, 135, 179])
def test_orientation_is_anticlockwise_on_screen(turn):
    # y points down, so a turn that shapely calls anticlockwise is clockwise on screen.
    assert row(affinity.rotate(BAR, -turn), names=["Orientation °"]) == [pytest.approx(turn)]


def test_what_is_round_has_no_direction():
    columns = measure(SQUARE, CROSS)
    assert np.isnan(columns["Orientation °"]).all()
    assert columns["Eccentricity"] == pytest.approx(0, abs=1e-3)


def lobed(lobes, height):
    """A circle with waves along its border."""
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    radius = 20 * (1 + height * np.cos(lobes * angle))
    return shapely.Polygon(np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]))


@pytest.mark.parametrize("lobes", LOBES)
def test_a_fourier_descriptor_answers_to_its_own_number_of_lobes(lobes):
    names = [f"Fourier descriptor {n}" for n in LOBES]
    found = dict(zip(LOBES, row(lobed(lobes, 0.1), names=names), strict=True))
    # cos(lobes θ) is two terms of half its height each; walking at equal steps adds a little.
    assert found.pop(lobes) == pytest.approx(0.1 / math.sqrt(2), rel=0.25)
    assert max(found.values()) < 0.02


def test_fractal_dimension_grows_with_the_roughness_of_the_border():
    found = [row(lobed(16, height), names=["Fractal dimension"])[0] for height in (0, 0.05, 0.15)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(1, abs=0.015)
    assert found[2] > 1.1


def test_convexity_and_elongation():
    found = measure(CROSS, BAR)
    hull = 40 + 4 * math.hypot(10, 10)
    assert found["Convexity"] == pytest.approx([hull / 120, 1], rel=1e-6)
    assert found["Elongation"][1] == pytest.approx(1 - 10 / math.hypot(40, 10))


def test_columns_are_float32_and_those_that_are_described():
    measured = measure(SQUARE, BAR, RING)
    assert list(measured) == NAMES
    assert {values.dtype for values in measured.values()} == {np.dtype(np.float32)}
    assert {values.shape for values in measured.values()} == {(3,)}


def test_no_nuclei():
    assert {name: values.shape for name, values in measure().items()} == dict.fromkeys(NAMES, (0,))


def test_the_input_is_left_alone():
    polygons = np.array([SQUARE], object)
    measure_shape(OutlineView(polygons, Mpp(0.25, 0.5)))
    assert polygons[0].equals_exact(shapely.box(0, 0, 10, 10))


def qupath_measurements(name):
    """Outlines in a QuPath export with what QuPath measured on them.

    Ellipses are passed over: QuPath has closed forms for them, and does not scale their length.
    """
    document = json.loads(shared_export(name).read_text(encoding="utf-8"))
    for feature in document["features"]:
        measured = feature["properties"].get("measurements", {})
        for prefix, member in (
            ("Nucleus: ", "nucleusGeometry"),
            ("Cell: ", "geometry"),
            ("", "geometry"),
        ):
            values = {n: measured[prefix + n] for n in QUPATHS if prefix + n in measured}
            geometry = feature.get(member)
            if values and geometry and not geometry.get("isEllipse"):
                yield shapely.from_geojson(json.dumps(geometry)), values


def test_the_numbers_are_qupaths_own():
    compared = 0
    for polygon, values in qupath_measurements("08_cells_nucleus_geometry.geojson"):
        assert set(values) == set(QUPATHS)
        found = measure(polygon, mpp=(0.25, 0.25))
        for name, value in values.items():
            assert float(found[name][0]) == pytest.approx(value, rel=1e-5), name
            compared += 1
    assert compared == (5 + 6) * len(QUPATHS)
