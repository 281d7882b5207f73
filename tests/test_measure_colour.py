"""Which pixels belong to a nucleus, and the stains in them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import separate_stains

from wsi_engine.config import make_settings
from wsi_engine.errors import SettingsError
from wsi_engine.nuclei.measure.colour import (
    STATISTICS,
    rgb_columns,
    stain_columns,
)
from wsi_engine.nuclei.measure.groups import measurer_of
from wsi_engine.nuclei.measure.outlines import Outlines
from wsi_engine.nuclei.measure.pixels import Field, PixelSets, cover, stain_amounts
from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp
from wsi_engine.slide.stain_vectors import (
    H_AND_E,
    H_DAB,
    choose_stains,
    estimate_stains,
    parse_stains,
)

SIDE = 64
GRID = ModelGrid(0.5, Mpp(0.5, 0.5), 0, 0, 10_000, 10_000)
WINDOW = ModelBox(0, 0, SIDE, SIDE)
HALF = ModelGrid(0.5, Mpp(0.25, 0.25), 0, 0, 20_000, 20_000)


def noise(seed=0, side=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def pixels(polygon, window=WINDOW, grid=GRID):
    """The pixels of one nucleus as (x, y) of the grid."""
    field = Field(np.zeros((window.height, window.width, 3), np.uint8), window, grid)
    index = cover(Outlines.of(np.array([polygon], object)), field).index
    return [(int(i % window.width) + window.x, int(i // window.width) + window.y) for i in index]


CENTRES = {
    "a pixel": (shapely.box(3, 2, 4, 3), [(3, 2)]),
    "around a centre": (shapely.box(3.4, 2.4, 3.6, 2.6), [(3, 2)]),
    "between centres": (shapely.box(3.6, 2.6, 4.4, 3.4), []),
    "the first two of a row": (shapely.box(3, 2, 5.4, 3), [(3, 2), (4, 2)]),
    "without its hole": (
        shapely.box(0, 0, 3, 3) - shapely.box(1, 1, 2, 2),
        [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2), (2, 2)],
    ),
    "of two parts": (
        shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(5, 0, 6, 1)]),
        [(0, 0), (5, 0)],
    ),
    "over the edge of the slide": (shapely.box(-2, -2, 1, 1), [(0, 0)]),
    "outside": (shapely.box(-9, -9, -4, -4), []),
    "nothing": (shapely.Polygon(), []),
}


@pytest.mark.parametrize(("polygon", "expected"), CENTRES.values(), ids=CENTRES)
def test_a_pixel_belongs_to_a_nucleus_when_its_centre_lies_inside(polygon, expected):
    assert pixels(polygon) == expected


@settings(deadline=None)  # the kernels compile in the first example
@given(
    st.lists(st.tuples(st.floats(2, 60), st.floats(2, 60)), min_size=3, max_size=12),
    st.integers(0, 30),
)
def test_pixels_are_those_of_geos(points, shift):
    polygon = shapely.MultiPoint(points).convex_hull
    if polygon.geom_type != "Polygon":
        return
    moved = shapely.transform(polygon, lambda xy: xy + shift)
    window = ModelBox(shift, shift, SIDE, SIDE)
    y, x = np.mgrid[shift : shift + SIDE, shift : shift + SIDE]
    inside = shapely.contains_xy(moved, x + 0.5, y + 0.5)
    near = shapely.dwithin(moved.boundary, shapely.points(x + 0.5, y + 0.5), 1e-9)
    found = np.zeros((SIDE, SIDE), bool)
    for column, row in pixels(moved, window):
        found[row - shift, column - shift] = True
    assert (found == inside)[~near].all()


def test_pixels_are_those_of_the_grid_whatever_the_size_of_a_slides_pixel():
    assert pixels(shapely.box(6, 4, 8, 6), grid=HALF) == [(3, 2)]


@pytest.mark.parametrize("stains", [H_AND_E, H_DAB], ids=lambda stains: stains.name)
def test_colour_deconvolution_is_that_of_scikit_image_with_qupaths_vectors(stains):
    rgb = np.clip(noise(), 1, None)  # scikit-image clips at another place
    pair = np.array(stains.vectors) / np.linalg.norm(stains.vectors, axis=1, keepdims=True)
    residual = np.cross(*pair)
    inverse = np.linalg.inv(np.vstack([pair, residual / np.linalg.norm(residual)]))
    # scikit-image scales optical density by log(1e-6) and has white at 1.
    expected = separate_stains(rgb / 255, inverse) * -np.log(1e-6) / np.log(10)
    clipped = -np.log10(rgb / 255) @ inverse  # and drops what is negative
    everything = PixelSets(np.arange(SIDE * SIDE), np.array([0, SIDE * SIDE]))
    found = stain_amounts(rgb, everything, stains).T.reshape(SIDE, SIDE, 2)
    np.testing.assert_allclose(found, clipped[..., :2], atol=1e-6)
    np.testing.assert_allclose(np.maximum(found, 0), expected[..., :2], atol=1e-6)


def test_white_has_no_stain_and_black_is_finite():
    for value, bound in ((255, 0.0), (0, 5.0)):
        rgb = np.full((1, 1, 3), value, np.uint8)
        found = stain_amounts(rgb, PixelSets(np.zeros(1, np.int64), np.array([0, 1])), H_AND_E)
        assert np.isfinite(found).all()
        assert (np.abs(found) <= bound).all()


def measured(group, polygons, rgb=None, stains=H_AND_E):
    measurer = measurer_of((group,), stains)
    polygons = np.array(polygons, object)
    values = measurer.measure(
        polygons, np.ones(len(polygons), bool), noise() if rgb is None else rgb, WINDOW, GRID
    )
    return {c.name: v for c, v in zip(measurer.columns, values.T, strict=True)}


def expected_statistics(values):
    return [values.mean(), np.median(values), values.min(), values.max(), values.std(ddof=1)]


def test_statistics_are_those_of_numpy_and_rgb_that_of_the_pixels():
    rgb = noise(3)
    found = measured("rgb", [shapely.box(5, 7, 18, 20)], rgb)
    for c, channel in enumerate(("Red", "Green", "Blue")):
        own = rgb[7:20, 5:18, c].astype(float)
        values = [found[f"{channel}: {statistic}"][0] for statistic in STATISTICS]
        assert values == pytest.approx(expected_statistics(own), rel=1e-6)


def test_stains_have_the_names_that_qupath_gives_them():
    names = [column.name for column in stain_columns(H_AND_E)]
    assert names[:5] == [
        "Hematoxylin: Mean",
        "Hematoxylin: Median",
        "Hematoxylin: Min",
        "Hematoxylin: Max",
        "Hematoxylin: Std.Dev.",
    ]
    assert names[5] == "Eosin: Mean"
    assert stain_columns(H_DAB)[5].name == "DAB: Mean"
    assert rgb_columns(H_AND_E)[0].name == "Red: Mean"


def test_a_pixel_belongs_to_each_of_the_nuclei_that_overlap_there():
    both = measured("colour", [shapely.box(0, 0, 9, 9), shapely.box(5, 5, 20, 20)])
    alone = measured("colour", [shapely.box(5, 5, 20, 20)])
    for name, values in both.items():
        assert values[1] == alone[name][0]


def test_what_has_no_pixels_has_no_values_and_one_pixel_has_no_deviation():
    found = measured("colour", [shapely.Polygon(), shapely.box(3, 3, 4, 4)])
    assert all(np.isnan(values[0]) for values in found.values())
    for name, values in found.items():
        assert np.isnan(values[1]) == name.endswith("Std.Dev."), name


def stained(first, second, count=200_000, seed=0):
    """Fields of tissue whose pixels are mixtures of two stains."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(2.0, 0.25, (count, 2)) * (rng.uniform(size=(count, 2)) < 0.6)
    density = amounts @ np.array([first, second])
    rgb = np.clip(np.rint(255 * 10**-density), 0, 255).astype(np.uint8)
    return rgb.reshape(1, count // 400, 400, 3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0.65111, 0.70119, 0.29049), (0.2159, 0.8012, 0.5581)),
        ((0.55, 0.75, 0.36), (0.10, 0.92, 0.38)),
    ],
    ids=["QuPath's", "another slide's"],
)
def test_the_stains_of_a_slide_are_found(first, second):
    found = estimate_stains(stained(first, second))
    assert found is not None
    for vector, truth in zip(found.vectors, (first, second), strict=True):
        cosine = np.dot(vector, truth) / np.linalg.norm(truth)
        assert np.degrees(np.arccos(min(cosine, 1))) < 4


@pytest.mark.parametrize(
    "fields",
    [
        np.full((2, 64, 64, 3), 255, np.uint8),
        np.full((2, 64, 64, 3), (120, 60, 140), np.uint8),
        np.zeros((1, 64, 64, 3), np.uint8),
    ],
    ids=["glass", "one colour", "black"],
)
def test_without_two_stains_there_is_no_estimate(fields):
    assert estimate_stains(fields) is None


# Stains of any kind

QUPATH_TEXT = (
    '{"Name" : "H-DAB default", "Stain 1" : "Hematoxylin", '
    '"Values 1" : "0.65111 0.70119 0.29049", "Stain 2" : "DAB", '
    '"Values 2" : "0.26917 0.56824 0.77759", "Background" : " 255 255 255"}'
)


@pytest.mark.parametrize(
    "text",
    [
        "Hematoxylin 0.65111 0.70119 0.29049, DAB 0.26917 0.56824 0.77759",
        "Hematoxylin: 1.30222 1.40238 .58098,DAB=0.26917 0.56824 0.77759",
        QUPATH_TEXT,
    ],
)
def test_stain_vectors_are_read_as_text_and_as_qupath_writes_them(text):
    stains = parse_stains(text)
    assert stains.channels == H_DAB.channels
    np.testing.assert_allclose(stains.vectors, H_DAB.vectors, atol=1e-5)
    np.testing.assert_allclose(stains.table, H_DAB.table, atol=1e-4)
    # As a setting it is spelt in one way.
    kept = make_settings(stains=text).stains
    assert kept == "Hematoxylin 0.65111 0.70119 0.29049, DAB 0.26917 0.56824 0.77759"
    assert choose_stains(kept, np.empty((0, 0, 0, 3), np.uint8)).channels == H_DAB.channels


def test_names_of_stains_may_have_blanks_and_digits():
    stains = parse_stains("Fast Red 4 0.2 0.8 0.5, Methyl-Green 0.9 0.3 0.3")
    assert stains.channels == ("Fast Red 4", "Methyl-Green")


@pytest.mark.parametrize("text", ["hdab", "H-DAB", "HDAB"])
def test_h_dab_may_be_spelt_without_the_dash(text):
    assert make_settings(stains=text).stains == "H-DAB"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A 1 2, B 3 4 5", "give two stains as Hematoxylin"),
        ("A 1 2 3", "give two stains as"),
        ("A 1 2 3, B 1 2 3", "these two stains are one"),
        ("A 0 0 0, B 1 2 3", "a length above 0"),
        ("A 1 2 3, A 3 2 1", "names without a colon that differ"),
        ("A: B 1 2 3, C 3 2 1", "names without a colon that differ"),
        ("A 1 2 1e999, C 3 2 1", "a length above 0"),
        ("A 1 2 3, " + "B" * 2000, "too long"),
        (QUPATH_TEXT.replace("255 255 255", "250 250 250"), "background must be 255 255 255"),
        (QUPATH_TEXT.replace('DAB"', "DAB"), "another value"),
        ('{"Values 1": 3}', "give two stains as"),
    ],
)
def test_text_that_is_no_two_stains_is_refused(text, said):
    with pytest.raises(SettingsError, match=r"^stains = .*: give .*" + said):
        make_settings(stains=text)


def test_stains_that_are_given_are_measured_under_their_names():
    given = measured("colour", [shapely.box(0, 0, 20, 20)], stains=parse_stains(QUPATH_TEXT))
    known = measured("colour", [shapely.box(0, 0, 20, 20)], stains=H_DAB)
    assert given.keys() == known.keys()
    for name, values in known.items():
        np.testing.assert_allclose(given[name], values, atol=1e-4)


def test_the_second_stain_that_is_estimated_is_dab_where_it_is_brown():
    found = estimate_stains(skimage.data.immunohistochemistry()[None])
    assert (found.name, found.channels) == ("H-DAB estimated", ("Hematoxylin", "DAB"))
    angles = [
        np.degrees(np.arccos(np.dot(*pair)))
        for pair in zip(found.vectors, H_DAB.vectors, strict=True)
    ]
    assert max(angles) < 8
    assert estimate_stains(stained(*H_AND_E.vectors)).name == "H&E estimated"
    assert estimate_stains(stained(*H_DAB.vectors)).name == "H-DAB estimated"
