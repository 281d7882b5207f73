"""Contours through pixel centres become the outlines of the pixels that were meant."""

from __future__ import annotations

import doctest

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import measure

from wsi_engine.convert import contours
from wsi_engine.convert.contours import pixel_outlines, polygon_of
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.tracing import trace_labels


def contour_of(mask):
    """What HoVer-Net and CellViT write."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return found[0].reshape(-1, 2).astype(float)


def outline_of(mask):
    """What the engine writes for the same pixels."""
    xy, offsets, _ = trace_labels(mask.astype(np.int32))
    return polygons_from_rings(xy, offsets)[0]


def disc(radius, side=64):
    y, x = np.mgrid[:side, :side] - side // 2
    return x**2 + y**2 <= radius**2


@pytest.mark.parametrize(
    ("contour", "pixels"),
    [
        ([[3, 2]], ["#"]),
        ([[3, 2], [5, 2]], ["###"]),
        ([[3, 2], [3, 4]], ["#", "#", "#"]),
        ([[3, 2], [3, 3], [4, 3], [4, 2]], ["##", "##"]),
        ([[3, 2], [3, 4], [5, 4]], ["#..", "##.", "###"]),
        (
            [[3, 2], [4, 2], [4, 4], [4, 2], [6, 2]],
            ["####", ".#..", ".#.."],
        ),  # a spur, there and back
    ],
)
def test_contours_of_a_few_pixels(contour, pixels):
    mask = np.zeros((8, 8), bool)
    for row, text in enumerate(pixels):
        for column, sign in enumerate(text):
            mask[2 + row, 3 + column] = sign == "#"
    assert shapely.equals(pixel_outlines([np.array(contour, float)])[0], outline_of(mask))


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(bool, (14, 17), elements=st.booleans()), st.integers(-500, 500))
def test_any_blob_comes_out_as_if_the_engine_had_outlined_it(noise, x):
    parts = measure.label(noise, connectivity=1)
    if not parts.any():
        return
    blob = ndimage.binary_fill_holes(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))
    found = pixel_outlines([contour_of(blob) + np.array([x, 0])])[0]
    assert shapely.equals(
        found, shapely.transform(outline_of(blob), lambda xy: xy + np.array([x, 0]))
    )


@pytest.mark.parametrize("radius", [3, 5, 10, 20])
def test_the_area_is_that_of_the_pixels(radius):
    mask = disc(radius)
    contour = contour_of(mask)
    assert polygon_of(contour).area < 0.97 * mask.sum()  # the error that is mended
    outline = pixel_outlines([contour])[0]
    assert outline.area == mask.sum() - 0.5  # the four corners of a disc are cut
    assert (outline.centroid.x, outline.centroid.y) == pytest.approx((32.5, 32.5))


def test_many_contours_keep_their_order_on_several_canvases(monkeypatch):
    monkeypatch.setattr(contours, "CANVAS_PIXELS", 3000)
    shapes = [contour_of(disc(r)) + np.array([100 * r, 0]) for r in (9, 2, 14, 1, 7, 20, 3)]
    found = pixel_outlines(shapes)
    assert [round(shape.bounds[0]) for shape in found] == [
        int(shape[:, 0].min()) for shape in shapes
    ]
    assert shapely.is_valid(found).all()


def test_a_contour_larger_than_any_nucleus_is_moved_and_grown():
    square = np.array([[0, 0], [0, 1e6], [1e6, 1e6], [1e6, 0]])
    assert pixel_outlines([square])[0].bounds == (0, 0, 1e6 + 1, 1e6 + 1)


def test_a_contour_with_fractions_was_not_traced_through_pixel_centres():
    triangle = np.array([[0.25, 0], [5, 0], [5, 5]])
    assert shapely.equals(pixel_outlines([triangle])[0], shapely.Polygon(triangle))
    assert pixel_outlines([triangle[:2]])[0].is_empty


def test_no_contours():
    assert pixel_outlines([]).shape == (0,)


def test_examples():
    assert doctest.testmod(contours, extraglobs={"np": np}).failed == 0
