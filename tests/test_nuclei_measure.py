"""Measurements: closed forms, pixels that are not square, and QuPath's own numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import shapely
from exports import shared_export
from shapely import affinity

from wsi_engine.nuclei.measure import SHAPE_COLUMNS, measure_shape
from wsi_engine.slide.frames import Mpp

SQUARE = shapely.box(0, 0, 10, 10)
BAR = shapely.box(0, 0, 40, 10)
DISC = shapely.Point(50, 50).buffer(20, quad_segs=500)
CROSS = shapely.union_all([shapely.box(0, 10, 30, 20), shapely.box(10, 0, 20, 30)])
RING = SQUARE.difference(shapely.box(4, 4, 6, 6))
SQUARE_IN_DIAMETER = math.hypot(10, 10)


def measure(*polygons, mpp=(1.0, 1.0)):
    return measure_shape(np.array(polygons, object), Mpp(*mpp))


def row(polygon, mpp=(1.0, 1.0)):
    return [float(column[0]) for column in measure(polygon, mpp=mpp).values()]


CLOSED_FORMS = {
    "square": (SQUARE, (1, 1), [100, 40, math.pi / 4, 1, SQUARE_IN_DIAMETER]),
    "in µm": (SQUARE, (0.25, 0.25), [6.25, 10, math.pi / 4, 1, SQUARE_IN_DIAMETER / 4]),
    "bar": (BAR, (1, 1), [400, 100, 4 * math.pi * 400 / 100**2, 1, math.hypot(40, 10)]),
    "bar at an angle": (
        affinity.rotate(BAR, 33),
        (0.5, 0.5),
        [100, 50, 4 * math.pi * 400 / 100**2, 1, math.hypot(40, 10) / 2],
    ),
    "disc": (DISC, (0.5, 0.5), [math.pi * 100, 2 * math.pi * 10, 1, 1, 20]),
    "cross": (
        CROSS,
        (1, 1),
        [500, 120, 4 * math.pi * 500 / 120**2, 500 / 700, math.hypot(30, 10)],
    ),
    # Holes count in area and length, but circularity is that of the exterior.
    "ring": (RING, (1, 1), [96, 48, math.pi / 4, 0.96, SQUARE_IN_DIAMETER]),
    "square in oblong pixels": (
        SQUARE,
        (0.5, 0.25),
        [12.5, 15, 4 * math.pi * 12.5 / 15**2, 1, math.hypot(5, 2.5)],
    ),
    "disc in oblong pixels": (
        affinity.scale(DISC, 1, 2),
        (0.5, 0.25),
        [math.pi * 100, 2 * math.pi * 10, 1, 1, 20],
    ),
}


@pytest.mark.parametrize(("polygon", "mpp", "expected"), CLOSED_FORMS.values(), ids=CLOSED_FORMS)
def test_closed_forms(polygon, mpp, expected):
    assert row(polygon, mpp) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("turn", range(0, 90, 15))
def test_shape_does_not_change_with_place_and_direction(turn):
    moved = affinity.translate(affinity.rotate(CROSS, turn), 51234.5, 8765.25)
    assert row(moved) == pytest.approx(row(CROSS), rel=1e-5)


def test_columns_are_named_as_in_qupath_and_float32():
    columns = measure(SQUARE, BAR, RING)
    assert list(columns) == list(SHAPE_COLUMNS)
    assert all(c.dtype == np.float32 and c.shape == (3,) for c in columns.values())


def test_no_nuclei_give_empty_columns():
    columns = measure_shape(np.empty(0, object), Mpp(0.25, 0.25))
    assert [(name, c.shape) for name, c in columns.items()] == [(n, (0,)) for n in SHAPE_COLUMNS]


def test_the_input_is_left_alone():
    polygons = np.array([SQUARE], object)
    measure_shape(polygons, Mpp(0.25, 0.5))
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
            values = {n: measured[prefix + n] for n in SHAPE_COLUMNS if prefix + n in measured}
            geometry = feature.get(member)
            if values and geometry and not geometry.get("isEllipse"):
                yield shapely.from_geojson(json.dumps(geometry)), values


def test_the_numbers_are_qupaths_own():
    compared = 0
    for polygon, values in qupath_measurements("08_cells_nucleus_geometry.geojson"):
        assert set(values) == set(SHAPE_COLUMNS)
        found = measure(polygon, mpp=(0.25, 0.25))
        for name, value in values.items():
            assert float(found[name][0]) == pytest.approx(value, rel=1e-5), name
            compared += 1
    assert compared == (5 + 6) * len(SHAPE_COLUMNS)
