"""Texture: Haralick's formulas written out, gradients of ramps, clumps that can be counted."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from skimage.feature import graycomatrix

from wsi_engine.nuclei.measure.groups import measurer_of
from wsi_engine.nuclei.measure.texture import DARKEST_OD, HARALICK, LEVELS
from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp
from wsi_engine.slide.stain_vectors import H_AND_E

SIDE = 40
GRID = ModelGrid(0.5, Mpp(0.5, 0.5), 0, 0, SIDE, SIDE)
WINDOW = ModelBox(0, 0, SIDE, SIDE)
DISC = shapely.Point(20, 20).buffer(14)
MEASURER = measurer_of(("texture",), H_AND_E)
NAMES = [column.name for column in MEASURER.columns]


def measure(rgb, *polygons):
    polygons = np.array(polygons or [DISC], object)
    values = MEASURER.measure(polygons, np.ones(len(polygons), bool), rgb, WINDOW, GRID)
    return dict(zip(NAMES, values.T, strict=True))


def haematoxylin_image(density):
    """An image of pure haematoxylin."""
    vector = np.array(H_AND_E.vectors[0])
    rgb = 255 * 10 ** -(density[..., None] * vector / np.linalg.norm(vector))
    return np.clip(np.rint(rgb), 1, 255).astype(np.uint8)


def haematoxylin_of(rgb):
    return sum(H_AND_E.table[0, c][rgb[..., c]] for c in range(3))


def haralick_by_the_book(p):
    """Haralick et al. 1973, formula by formula, on a matrix that sums to 1; entropies in bits."""
    levels = np.arange(1, len(p) + 1)
    i, j = np.meshgrid(levels, levels, indexing="ij")
    px, py = p.sum(axis=1), p.sum(axis=0)
    mean_x, mean_y = px @ levels, py @ levels
    sd_x, sd_y = np.sqrt(px @ (levels - mean_x) ** 2), np.sqrt(py @ (levels - mean_y) ** 2)
    sums = np.bincount((i + j).ravel(), p.ravel())
    differences = np.bincount(np.abs(i - j).ravel(), p.ravel())
    of_sum, of_difference = np.arange(len(sums)), np.arange(len(differences))

    def entropy(q, weight=None):
        q = np.ravel(q)
        weight = q if weight is None else np.ravel(weight)
        return -(weight[q > 0] * np.log2(q[q > 0])).sum()

    outer = np.outer(px, py)
    hxy, hxy1, hxy2 = entropy(p), entropy(outer, p), entropy(outer)
    return [
        (p**2).sum(),
        ((i - j) ** 2 * p).sum(),
        ((i * j * p).sum() - mean_x * mean_y) / (sd_x * sd_y),
        ((i - mean_x) ** 2 * p).sum(),
        (p / (1 + (i - j) ** 2)).sum(),
        of_sum @ sums,
        (of_sum - of_sum @ sums) ** 2 @ sums,
        entropy(sums),
        hxy,
        (of_difference - of_difference @ differences) ** 2 @ differences,
        entropy(differences),
        (hxy - hxy1) / max(entropy(px), entropy(py)),
        np.sqrt(1 - np.exp(-2 * (hxy2 - hxy))),
    ]


def expected_haralick(rgb, polygon):
    """Co-occurrence by scikit-image; level 0 stands for what is not in the nucleus."""
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = shapely.contains_xy(polygon, x + 0.5, y + 0.5)
    levels = np.clip(haematoxylin_of(rgb) * LEVELS / DARKEST_OD, 0, LEVELS - 1).astype(int) + 1
    image = np.where(inside, levels, 0).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    matrices = graycomatrix(image, [1], angles, LEVELS + 1, symmetric=True)[1:, 1:, 0]
    one = [haralick_by_the_book(m / m.sum()) for m in np.moveaxis(matrices, -1, 0).astype(float)]
    return np.mean(one, axis=0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.02, 0.2, 1.0])
def test_haralick_is_that_of_the_book_on_scikit_images_matrices(seed, spread):
    rng = np.random.default_rng(seed)
    rgb = haematoxylin_image(np.clip(rng.normal(0.7, spread, (SIDE, SIDE)), -0.2, 2))
    found = measure(rgb)
    values = [found[name][0] for name in NAMES[: len(HARALICK)]]
    assert values == pytest.approx(expected_haralick(rgb, DISC), rel=1e-5)


def test_what_is_even_has_no_texture():
    found = measure(np.full((SIDE, SIDE, 3), (120, 100, 180), np.uint8))
    expected = {"F0": 1, "F1": 0, "F3": 0, "F4": 1, "F6": 0, "F7": 0, "F8": 0, "F9": 0, "F10": 0}
    for name, (value,) in found.items():
        if "Haralick" in name and (key := name[name.index("(") + 1 : -1]) in expected:
            assert value == pytest.approx(expected[key]), name
    # A correlation of what does not vary is not defined.
    assert np.isnan(found["Hematoxylin: Haralick Correlation (F2)"][0])
    assert found["Hematoxylin: Gradient mean"][0] == 0
    assert found["Chromatin: Dark fraction"][0] == 0
    assert found["Chromatin: Dark clumps"][0] == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_the_gradient_of_a_ramp_is_its_slope_in_optical_density_per_micrometre(axis):
    steps = np.broadcast_to(np.linspace(0.2, 1.4, SIDE), (SIDE, SIDE))
    found = measure(haematoxylin_image(steps if axis else steps.T))
    slope = 1.2 / (SIDE - 1) / GRID.mpp
    assert found["Hematoxylin: Gradient mean"][0] == pytest.approx(slope, rel=0.02)
    assert found["Hematoxylin: Gradient Std.Dev."][0] < 0.25 * slope


def test_the_white_beyond_the_slide_is_no_gradient():
    rgb = np.full((SIDE, SIDE, 3), 255, np.uint8)
    rgb[10:, 10:] = (120, 100, 180)
    corner = shapely.box(0, 0, 6, 6)
    window = ModelBox(-10, -10, SIDE, SIDE)
    values = MEASURER.measure(np.array([corner], object), np.ones(1, bool), rgb, window, GRID)
    found = dict(zip(NAMES, values[0], strict=True))
    assert found["Hematoxylin: Gradient mean"] == 0


def test_dark_clumps_are_counted_and_a_single_pixel_is_none():
    density = np.full((SIDE, SIDE), 0.5)
    density[12:15, 15:18] = 1.2
    density[25:27, 20:24] = 1.2
    density[27, 24] = 1.2  # touches the second at a corner
    density[20, 12] = 1.2
    density[0:4, 0:4] = 1.5  # outside the nucleus
    found = measure(haematoxylin_image(density))
    pixels = sum(
        shapely.contains_xy(DISC, x + 0.5, y + 0.5) for x in range(SIDE) for y in range(SIDE)
    )
    assert found["Chromatin: Dark clumps"][0] == 2
    assert found["Chromatin: Dark fraction"][0] == pytest.approx((9 + 9 + 1) / pixels)


def test_texture_turns_with_the_image():
    rng = np.random.default_rng(5)
    rgb = rng.integers(60, 250, (SIDE, SIDE, 3), dtype=np.uint8)
    found, turned = measure(rgb), measure(np.ascontiguousarray(np.rot90(rgb)))
    for name in NAMES:
        assert turned[name] == pytest.approx(found[name], rel=1e-5), name


def test_nuclei_of_few_pixels():
    rgb = np.random.default_rng(1).integers(60, 250, (SIDE, SIDE, 3), dtype=np.uint8)
    found = measure(
        rgb,
        shapely.Polygon(),
        shapely.box(3, 3, 4, 4),
        shapely.box(0, 0, 2, 1),
        shapely.box(*[38] * 2, *[40] * 2),
    )
    haralick = np.array([found[name] for name in NAMES[: len(HARALICK)]])
    assert np.isnan(haralick[:, :2]).all()
    assert np.isfinite(haralick[0, 2:]).all()
    assert np.isnan(found["Chromatin: Dark clumps"][0])
    assert found["Chromatin: Dark clumps"][1] == 0
    assert np.isfinite(found["Hematoxylin: Gradient mean"][1:]).all()
