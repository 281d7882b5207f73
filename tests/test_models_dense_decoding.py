"""From drawn maps to nuclei: what each dense method makes of a truth that one knows.

The maps are the method's own targets, as a network that has learnt everything would answer.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tests.support.dense_maps import MARGIN_PX, as_maps, ious, label_discs
from wsi_engine.evaluation import images
from wsi_engine.models.dense import cnn_watershed, contour_aware, fcn, label_geometry, unet
from wsi_engine.models.dense.cnn_watershed import eroded_conditionally
from wsi_engine.models.dense.label_geometry import UNKNOWN, across_border, depth_in_nuclei
from wsi_engine.models.dense.method import DenseMethod
from wsi_engine.models.registry import DENSE

SIDE = 96
LONELY = ((24, 26, 5), (66.5, 30.25, 9), (40, 70, 13))
TOUCHING = ((40, 40, 9), (56.5, 40, 9), (68, 52, 9))
CORNERED = ((40, 40, 9), (56.5, 40, 9), (48, 55, 9))

METHODS = pytest.mark.parametrize("method", DENSE, ids=lambda method: method.spec.name)


def answers(method: DenseMethod, labels: np.ndarray) -> np.ndarray:
    """The maps of a network that has learnt its targets by heart."""
    learnt = method.targets(labels, margin_px=MARGIN_PX).maps
    if method.decode is unet.decode:
        return as_maps(learnt[..., -2:])
    return as_maps(learnt)


@METHODS
class TestDecoders:
    @pytest.mark.parametrize("discs", [LONELY, TOUCHING], ids=["lonely", "touching"])
    def test_what_was_drawn_comes_back(self, method, discs):
        labels = label_discs(SIDE, *discs)
        found = method.decode(answers(method, labels), 0.5)
        assert len(found) == len(discs)
        assert ious(found, labels).min() > 0.85
        by_x = found.anchors[np.argsort(found.anchors[:, 0])]
        assert by_x == pytest.approx(np.array(sorted(discs))[:, :2], abs=1.0)

    def test_three_around_a_gap_are_three(self, method):
        found = method.decode(answers(method, label_discs(SIDE, *CORNERED)), 0.5)
        if method is cnn_watershed.METHOD:  # erosion takes the middle of the clump for one more
            assert len(found) == 4
        else:
            assert len(found) == 3

    def test_a_border_runs_where_it_was_drawn_to_a_fraction_of_a_pixel(self, method):
        labels = label_discs(SIDE, (48.3, 47.6, 10))
        found = method.decode(answers(method, labels), 0.5)
        radii = np.hypot(*(found.xy - [48.3, 47.6]).T)
        assert radii.mean() == pytest.approx(10, abs=0.15)
        assert np.abs(radii - 10).max() < 0.7

    def test_nothing_comes_from_nothing(self, method):
        maps = answers(method, label_discs(SIDE))
        found = method.decode(maps, 0.5)
        assert len(found) == 0
        assert found.xy.shape == (0, 2)

    def test_specks_and_blots_are_dropped(self, method):
        labels = label_discs(2 * SIDE, (20, 20, 1.8), (120, 120, 40), (40, 90, 8))
        found = method.decode(answers(method, labels), 0.5)
        assert found.anchors == pytest.approx(np.array([[40, 90]]), abs=0.5)

    def test_a_hole_of_a_few_pixels_is_part_of_the_nucleus(self, method):
        labels = label_discs(SIDE, (48, 48, 12))
        maps = answers(method, labels)
        whole = ious(method.decode(maps, 0.5), labels)
        maps[46:48, 52:54] = 0
        pierced = method.decode(maps, 0.5)
        assert len(pierced) == 1
        assert ious(pierced, labels) == pytest.approx(whole, abs=0.03)

    def test_scores_are_the_certainty_of_the_foreground(self, method):
        maps = answers(method, label_discs(SIDE, *LONELY))
        sure = method.decode(maps, 0.2).scores
        unsure = method.decode((maps * 0.6).astype(np.uint8), 0.2).scores
        assert sure.dtype == np.float32
        assert (sure > 0.8).all()
        assert unsure == pytest.approx(0.6 * sure, abs=0.05)

    def test_a_higher_level_makes_smaller_nuclei(self, method):
        labels = label_discs(SIDE, (48, 48, 12))
        # A network that is unsure at the border: the truth, blurred.
        maps = answers(method, labels).astype(float)
        for axis in (0, 1):
            maps = sum(np.roll(maps, k, axis) for k in range(-2, 3)) / 5
        extents = [
            np.ptp(method.decode(maps.astype(np.uint8), level).xy[:, 0]) for level in (0.3, 0.7)
        ]
        assert extents[0] > extents[1] + 1

    def test_a_part_of_the_maps_gives_the_same_nuclei(self, method):
        """Away from the cut: what lies farther than the stated reach has no say."""
        rng = np.random.default_rng(5)
        discs = [(*rng.uniform(10, 390, 2), rng.uniform(4, 10)) for _ in range(300)]
        maps = answers(method, label_discs(400, *discs))
        noisy = np.clip(maps + rng.normal(0, 25, maps.shape), 0, 255).astype(np.uint8)
        reach = method.spec.receptive_radius_px - method.network_radius_px
        margin = reach + method.spec.largest_object_px
        whole, part = method.decode(noisy, 0.5), method.decode(noisy[40:360, 56:376], 0.5)

        def inner(found, shift):
            anchors = found.anchors + shift
            low, high = [56 + margin, 40 + margin], [376 - margin, 360 - margin]
            held = (anchors > low) & (anchors < high)
            return {tuple(np.round(anchor, 6)) for anchor in anchors[held.all(axis=1)]}

        expected = inner(whole, (0, 0))
        assert len(expected) > 10
        assert inner(part, (56, 40)) == expected


def test_only_erosion_under_a_condition_keeps_the_small_beside_the_large():
    rows, columns = np.mgrid[:80, :120] + 0.5
    mask = np.hypot(rows - 40, columns - 40) < 16
    mask |= np.hypot(rows - 40, columns - 62) < 9  # grown together
    mask |= np.hypot(rows - 15, columns - 100) < 4  # small and alone
    seeds = eroded_conditionally(mask, ndimage.distance_transform_edt(mask).astype(np.float32))
    assert (seeds <= mask).all()
    pieces, count = ndimage.label(seeds)
    assert count == 3
    assert pieces[40, 40] != pieces[40, 62] > 0
    assert pieces[15, 100] > 0


class TestGeometry:
    def test_the_unknown_is_what_the_annotations_call_so(self):
        assert UNKNOWN == images.UNKNOWN

    def test_distances_across_a_straight_border(self):
        labels = np.zeros((20, 20), np.uint16)
        labels[:, 10:] = 3
        distance, beyond = across_border(labels, 1.25)
        assert distance[10, 10:13].tolist() == [0.25, 0.75, 1.25]
        assert distance[10, 7:10].tolist() == [1.25, 0.75, 0.25]
        assert np.isinf(distance[10, 14])
        assert (beyond[10, 10], beyond[10, 9]) == (
            label_geometry.BACKGROUND_BEYOND,
            label_geometry.NUCLEUS_BEYOND,
        )
        assert beyond[10, 0] == label_geometry.UNKNOWN_BEYOND, "outside of the image"

    def test_depth_is_the_distance_to_the_own_border(self):
        labels = label_discs(40, (20, 20, 10), margin=0)
        depth, to_nucleus, _ = depth_in_nuclei(labels)
        assert depth[40, 40] == pytest.approx(10, abs=0.6)
        assert depth[labels == 0].max() == 0
        assert not to_nucleus.any()

    def test_depth_tells_the_borders_between_nuclei(self):
        labels = label_discs(60, (20, 30, 10), (36, 30, 10), margin=0)
        depth, to_nucleus, _ = depth_in_nuclei(labels)
        assert to_nucleus[60, 52]
        assert not to_nucleus[60, 24]
        assert depth[60, 55] < 1

    def test_depth_is_not_known_beside_the_unknown(self):
        labels = label_discs(40, (20, 20, 10), margin=0)
        labels[:, 44:] = UNKNOWN
        _, _, to_unknown = depth_in_nuclei(labels)
        assert to_unknown[40, 42]
        assert not to_unknown[40, 24]


@METHODS
class TestTargets:
    def test_they_lie_on_the_crop(self, method):
        learnt = method.targets(label_discs(SIDE, *LONELY), margin_px=MARGIN_PX)
        assert learnt.maps.shape[:2] == learnt.weights.shape[:2] == (SIDE, SIDE)
        assert learnt.maps.dtype == learnt.weights.dtype == np.float32
        assert 0 <= learnt.maps.min() <= learnt.maps.max() <= 1
        assert learnt.weights.min() == 1

    def test_the_unknown_and_its_border_teach_nothing(self, method):
        labels = label_discs(SIDE, (48, 48, 12))
        labels[:, 2 * (MARGIN_PX + 50) :] = UNKNOWN
        weights = method.targets(labels, margin_px=MARGIN_PX).weights
        assert weights[:, 50:].max() == 0
        assert weights[48, 49].min() == 0 or method is cnn_watershed.METHOD
        assert weights[:, :36].min() == 1

    def test_boundaries_between_nuclei_weigh_what_they_are_trusted(self, method):
        labels = label_discs(SIDE, *TOUCHING)
        full, half = (
            method.targets(labels, margin_px=MARGIN_PX, inner_boundary_weight=trust).weights
            for trust in (1.0, 0.5)
        )
        if method is cnn_watershed.METHOD:
            assert (full == half).all(), "its map has no boundaries"
        else:
            between, outside = (40, 48), (40, 31)
            assert half[between].min() == pytest.approx(full[between].min() / 2, abs=0.26)
            assert half[between].min() < full[between].min()
            assert (half[outside] == full[outside]).all()


def test_classes_of_a_pixel_sum_to_1():
    labels = label_discs(SIDE, *TOUCHING)
    for method in (unet.METHOD, DENSE[3]):
        assert method.targets(labels, margin_px=MARGIN_PX).maps[..., -3:].sum(-1) == pytest.approx(
            1
        )


def test_touching_boundaries_count_more():
    weights = unet.targets(label_discs(SIDE, *TOUCHING), margin_px=MARGIN_PX).weights
    assert weights[40, 48, 0] == unet.TOUCHING_WEIGHT
    assert weights[40, 31, 0] == 1


def test_contours_lie_on_both_sides_of_a_border_and_boundaries_inside():
    labels = label_discs(SIDE, (48, 48, 12))
    contour = contour_aware.targets(labels, margin_px=MARGIN_PX).maps[48, :, contour_aware.CONTOUR]
    boundary = unet.targets(labels, margin_px=MARGIN_PX).maps[48, :, 2]
    assert contour[35:37].tolist() == [1, 1]
    assert (boundary[35], boundary[36]) == (0, 1)


def test_the_distance_map_is_the_depth():
    labels = label_discs(SIDE, (48, 48, 10))
    depth = fcn.targets(labels, margin_px=MARGIN_PX).maps[48, 38:58, fcn.DISTANCE] * fcn.DEEPEST_PX
    assert depth[:10] == pytest.approx(np.arange(10) + 0.5, abs=0.5)
