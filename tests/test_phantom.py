"""A phantom keeps its word: the truth is valid, and the pixels follow it."""

import numpy as np
import pytest
import shapely
from skimage.draw import polygon2mask

from wsi_engine.phantom import (
    Kind,
    PhantomNuclei,
    RepeatedBlock,
    lay_out_tissue,
    make_nuclei,
    render_tissue,
    scatter_nuclei,
)

MPP = 0.25
SHAPE = (768, 896)


def draw_field(seed, shape=SHAPE):
    rng = np.random.default_rng(seed)
    tissue = lay_out_tissue(shape, MPP, rng)
    nuclei = scatter_nuclei(tissue, rng)
    return tissue, nuclei, render_tissue(shape, nuclei, MPP, rng, tissue)


@pytest.fixture(scope="module")
def field():
    return draw_field(seed=3)


def red_od(image):
    """Optical density where haematoxylin absorbs and eosin hardly does."""
    return -np.log10(np.clip(image[..., 0], 1, None) / 243.0)


def mask_of(polygon, shape):
    """Pixels whose centre lies in a polygon that is given in pixel corners."""
    rings = [
        np.asarray(polygon.exterior.coords),
        *(np.asarray(r.coords) for r in polygon.interiors),
    ]
    masks = [polygon2mask(shape, ring[:, ::-1] - 0.5) for ring in rings]
    return masks[0] & ~np.any([np.zeros(shape, bool), *masks[1:]], axis=0)


def overlaps(polygons):
    """Pairs that overlap, with the shared part of the smaller."""
    left, right = shapely.STRtree(polygons).query(polygons, "intersects")
    left, right = left[left < right], right[left < right]
    shared = shapely.area(shapely.intersection(polygons[left], polygons[right]))
    return (
        left,
        right,
        shared / np.minimum(shapely.area(polygons[left]), shapely.area(polygons[right])),
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_outlines_are_valid_and_of_natural_size(kind):
    nuclei = make_nuclei(np.full((3000, 2), 50.0), MPP, np.random.default_rng(0), kind)
    polygons = nuclei.polygons()
    assert shapely.is_valid(polygons).all()
    assert shapely.contains_xy(polygons, 50.0, 50.0).all()
    radius_um = np.sqrt(shapely.area(polygons) / np.pi) * MPP
    low, high = {
        Kind.EPITHELIAL: (2.7, 5.9),
        Kind.LYMPHOCYTE: (2.4, 3.8),
        Kind.SPINDLE: (1.9, 5.0),
    }[kind]
    assert radius_um.min() > low
    assert radius_um.max() < high


def test_nuclei_keep_their_size_in_um_at_any_pixel_size():
    fine, coarse = (
        make_nuclei([(0, 0)], mpp, np.random.default_rng(0)).outlines()[0] for mpp in (0.25, 0.5)
    )
    np.testing.assert_allclose(fine, coarse * 2)


@pytest.mark.parametrize("mpp", [0.25, 0.5])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_nucleus_is_drawn_where_its_outline_says(kind, mpp):
    # The corner of four tiles, a tile border, and halfway between pixels.
    centers = [(128, 128), (256, 60.5), (60.25, 200.75), (200, 200)]
    rng = np.random.default_rng(5)
    nuclei = make_nuclei(centers, mpp, rng, kind)
    density = red_od(render_tissue((256, 320), nuclei, mpp, rng))
    for polygon in nuclei.polygons():
        truth = mask_of(polygon, density.shape)
        near = mask_of(polygon.buffer(2.5 / mpp), density.shape)
        outside = near & ~mask_of(polygon.buffer(0.7 / mpp), density.shape)
        threshold = (density[truth].mean() + density[outside].mean()) / 2
        assert density[truth].mean() > density[outside].mean() + 0.12
        seen = near & (density > threshold)
        iou = (seen & truth).sum() / (seen | truth).sum()
        assert iou > 0.75


def test_outlines_are_pixel_corners_to_a_tenth_of_a_pixel():
    rng = np.random.default_rng(4)
    x, y = np.meshgrid(np.arange(10) * 48 + 40.0, np.arange(10) * 48 + 40.0)
    centers = np.stack([x.ravel(), y.ravel()], axis=1) + rng.random((100, 2))
    nuclei = make_nuclei(centers, MPP, rng, Kind.LYMPHOCYTE)
    density = red_od(render_tissue((512, 512), nuclei, MPP, rng))
    shifts, growth = [], []
    for polygon in nuclei.polygons():
        near = mask_of(polygon.buffer(6), density.shape)
        seen = near & (density > (density[near].max() * 0.8 + density[near].min()) / 2)
        rows, columns = np.nonzero(seen)
        true_x, true_y = polygon.centroid.coords[0]
        shifts.append((columns.mean() + 0.5 - true_x, rows.mean() + 0.5 - true_y))
        growth.append(np.sqrt(seen.sum() / polygon.area))
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.1
    assert np.mean(growth) == pytest.approx(1.0, abs=0.06)


def test_light_is_multiplied_where_nuclei_overlap():
    rng = np.random.default_rng(1)
    nuclei = make_nuclei([(60, 64), (78, 64)], MPP, rng, angle=0.0)
    density = red_od(render_tissue((128, 128), nuclei, MPP, rng, sensor_noise=0.0))
    left, right = nuclei.polygons()
    both, only_left, only_right = (
        density[mask_of(part.buffer(-2), density.shape)].mean()
        for part in (left & right, left - right, right - left)
    )
    assert both > max(only_left, only_right) + 0.15


def test_what_reaches_over_the_edge_is_cut_off():
    rng = np.random.default_rng(0)
    nuclei = make_nuclei([(0, 0), (64, 30), (-500, 40), (30, 900)], MPP, rng)
    density = red_od(render_tissue((64, 64), nuclei, MPP, rng))
    assert density[:6, :6].mean() > density[50:, :6].mean() + 0.12
    assert density[27:33, -6:].mean() > density[50:, :6].mean() + 0.12


def test_no_nuclei_give_plain_tissue():
    rng = np.random.default_rng(0)
    none = make_nuclei(np.empty((0, 2)), MPP, rng)
    assert len(none.polygons()) == 0
    assert render_tissue((96, 64), none, MPP, rng).shape == (96, 64, 3)


def test_a_tissue_of_another_size_is_refused():
    rng = np.random.default_rng(0)
    tissue = lay_out_tissue((64, 64), MPP, rng)
    with pytest.raises(ValueError, match="laid out for"):
        render_tissue((64, 65), make_nuclei([(9, 9)], MPP, rng), MPP, rng, tissue)


def test_scattered_nuclei_lie_inside_the_field(field):
    _, nuclei, image = field
    assert image.shape == (*SHAPE, 3)
    outlines = nuclei.outlines()
    assert outlines.min() >= 0
    assert (outlines.max(axis=(0, 1)) <= SHAPE[::-1]).all()
    per_mm2 = len(nuclei) / (SHAPE[0] * SHAPE[1] * MPP**2 * 1e-6)
    assert 3_500 < per_mm2 < 7_000


def test_scattered_nuclei_keep_to_their_tissue(field):
    tissue, nuclei, _ = field
    depth = tissue.sample(tissue.depth_um, nuclei.shapes.center_px)
    assert (depth[nuclei.kind == Kind.EPITHELIAL] > 0).all()
    assert (depth[nuclei.kind == Kind.SPINDLE] < 0).all()
    assert set(nuclei.kind) == set(Kind)


@pytest.mark.parametrize("seed", range(4))
def test_ten_to_twenty_percent_touch_and_share_less_than_a_quarter(seed):
    rng = np.random.default_rng(seed)
    nuclei = scatter_nuclei(lay_out_tissue((1024, 1024), MPP, rng), rng)
    polygons = nuclei.polygons()
    assert shapely.is_valid(polygons).all()
    near = shapely.STRtree(polygons).query(polygons, "dwithin", 0.5)
    touching = np.unique(near[0][near[0] != near[1]])
    assert 0.10 <= len(touching) / len(nuclei) <= 0.20
    _, _, shared = overlaps(polygons)
    assert len(shared) > 0
    assert shared.max() < 0.25
    assert (shared > 0.05).any()


def test_nuclei_can_all_be_kept_apart():
    rng = np.random.default_rng(0)
    nuclei = scatter_nuclei(lay_out_tissue((512, 512), MPP, rng), rng, touching_share=0.0)
    polygons = nuclei.polygons()
    left, right = shapely.STRtree(polygons).query(polygons, "dwithin", 0.3 / MPP)
    assert (left == right).all()


def test_nuclei_are_darker_than_the_ring_around_them(field):
    _, nuclei, image = field
    density = red_od(image)
    polygons = nuclei.polygons()
    anything = np.zeros(SHAPE, bool)
    masks = [mask_of(polygon, SHAPE) for polygon in polygons]
    for mask in masks:
        anything |= mask
    excess = []
    for polygon, mask in zip(polygons, masks, strict=True):
        ring = mask_of(polygon.buffer(6), SHAPE) & ~mask_of(polygon.buffer(2), SHAPE) & ~anything
        excess.append(density[mask].mean() - density[ring].mean())
    assert min(excess) > 0.05
    assert np.median(excess) > 0.2


def test_one_seed_gives_one_image():
    small = (256, 256)
    _, nuclei, image = draw_field(11, small)
    _, same_nuclei, same_image = draw_field(11, small)
    _, _, other_image = draw_field(12, small)
    np.testing.assert_array_equal(nuclei.outlines(), same_nuclei.outlines())
    np.testing.assert_array_equal(image, same_image)
    assert (image != other_image).mean() > 0.5


def test_a_repeated_block_is_the_block_laid_side_by_side(field):
    _, nuclei, image = field
    phantom = RepeatedBlock(image, nuclei, down=3, across=2)
    whole = np.tile(image, (3, 2, 1))
    assert (phantom.height, phantom.width) == whole.shape[:2]
    for start, stop in [(0, 10), (760, 780), (700, 2000), (2300, 2304)]:
        np.testing.assert_array_equal(phantom.rows(start, stop), whole[start:stop])
    np.testing.assert_allclose(
        phantom.outlines(2, 1) - nuclei.outlines(),
        np.broadcast_to([896, 1536], (len(nuclei), 48, 2)),
    )


def test_a_repeated_block_shows_no_seam():
    rng = np.random.default_rng(2)
    none = make_nuclei(np.empty((0, 2)), MPP, rng)
    image = render_tissue((200, 240), none, MPP, rng, sensor_noise=0.0).astype(float)
    across = np.abs(np.diff(image, axis=1)).mean()
    down = np.abs(np.diff(image, axis=0)).mean()
    assert np.abs(image[:, 0] - image[:, -1]).mean() < 1.5 * across
    assert np.abs(image[0] - image[-1]).mean() < 1.5 * down


def test_taking_and_joining_keep_the_order():
    rng = np.random.default_rng(0)
    nuclei = make_nuclei(rng.uniform(0, 99, (5, 2)), MPP, rng)
    again = PhantomNuclei.joined([nuclei.take(np.array([0, 1])), nuclei.take(np.arange(5) > 1)])
    np.testing.assert_array_equal(again.outlines(), nuclei.outlines())
