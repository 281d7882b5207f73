"""Decoding HoVerNet's maps: as TIAToolbox does it, and the same in every tiling."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from scipy import ndimage
from tiatoolbox.models.architecture.hovernet import HoVerNet
from tiatoolbox.models.architecture.hovernetplus import HoVerNetPlus

from wsi_engine.models.hovernet_decoding import (
    IDEAL_EXTREMES,
    SlopeExtremes,
    decode_maps,
    ideal_extremes,
    separate_nuclei,
    slope_extremes,
    slopes,
)
from wsi_engine.models.hovernet_scale import (
    DECODER_REACH_PX,
    FINE,
    LARGEST_OBJECT_PX,
    scale_at,
)
from wsi_engine.models.hovernet_spec import GEOMETRY, SPECS
from wsi_engine.models.tiatoolbox import CALIBRATION_FIELDS, HoVerNetModel

SIDE = 256
PAIR = [(100, 120, 20, 1), (138, 120, 20, 5)]
SPEC = SPECS["hovernet_fast-pannuke"]
COARSE = scale_at(0.5)


def disc_maps(discs, side=SIDE):
    """Ideal maps of discs (x, y, radius, type); x, y in pixel corners. Later discs yield."""
    maps = np.zeros((side, side, 4), np.float32)
    for x, y, radius, kind in discs:
        reach = int(radius) + 2
        window = tuple(slice(max(int(c) - reach, 0), int(c) + reach) for c in (y, x))
        part = maps[window]
        centres_y, centres_x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
        to_x = (centres_x + window[1].start - x) / radius
        to_y = (centres_y + window[0].start - y) / radius
        disc = (np.hypot(to_x, to_y) <= 1) & (part[..., 0] == 0)
        ideal = np.stack([np.full_like(to_x, 0.9), to_x, to_y, np.full_like(to_x, kind)], axis=-1)
        part[disc] = ideal[disc]
    return maps


def crowd_maps(side, count, seed, noise=0.2):
    """Nuclei of all sizes, many of them touching, with blurred borders and uneven distances."""
    rng = np.random.default_rng(seed)
    discs = zip(*rng.uniform(0, side, (2, count)), rng.uniform(7, 20, count), strict=True)
    maps = disc_maps([(*disc, rng.integers(1, 6)) for disc in discs], side)
    rough = ndimage.gaussian_filter(rng.normal(0, 1, (side, side, 2)), (2, 2, 0))
    maps[..., 1:3] += (noise * rough / rough.std()).astype(np.float32)
    maps[..., 0] = ndimage.gaussian_filter(maps[..., 0], 1)
    return maps


def ring_areas(nuclei):
    rings = np.split(nuclei.xy, nuclei.offsets[1:-1])
    return [abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2 for x, y in (r.T for r in rings)]


def decode(maps):
    return decode_maps(maps, slope_extremes(maps[..., 1:3]), 5)


@pytest.mark.parametrize(
    "maps",
    [
        pytest.param(disc_maps(PAIR), id="touching pair"),
        pytest.param(disc_maps([(1, 120, 20, 1), (250, 254, 18, 1)]), id="cut by the border"),
        pytest.param(disc_maps(PAIR + [(25 * k, 50, k, 1) for k in range(1, 9)]), id="specks"),
        pytest.param(crowd_maps(SIDE, 40, 0), id="sparse"),
        pytest.param(crowd_maps(SIDE, 100, 1), id="dense"),
        pytest.param(crowd_maps(SIDE, 300, 2), id="full"),
        pytest.param(crowd_maps(SIDE, 100, 3, noise=1), id="rough"),
        pytest.param(crowd_maps(640, 800, 4)[:, 64:400], id="large"),
    ],
)
def test_labels_are_those_of_tiatoolbox_with_the_extremes_of_the_image(maps):
    nuclear, distances = np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1:3])
    expected = HoVerNet._proc_np_hv(nuclear[..., None], distances)
    assert expected.max() > 1
    labels = separate_nuclei(nuclear, distances, slope_extremes(distances))
    np.testing.assert_array_equal(labels, expected)


def test_decoding_follows_tiatoolbox():
    """Same instances, centroids and types as TIAToolbox's own post-processing."""
    maps = crowd_maps(SIDE, 60, 5)
    rng = np.random.default_rng(3)
    # A third of the nuclear pixels have another type, at random, background among them.
    noisy = (maps[..., 0] > 0) & (rng.random(maps.shape[:2]) < 0.33)
    maps[noisy, 3] = rng.integers(0, 6, noisy.sum())
    parts = [np.ascontiguousarray(maps[..., c]) for c in (slice(1), slice(1, 3), slice(3, 4))]
    network = HoVerNet(num_types=6, mode="fast")
    (theirs,) = network.postproc(parts)
    info = theirs["info_dict"]

    nuclei = decode(maps)
    assert len(nuclei) == len(info["type"]) > 20
    np.testing.assert_allclose(nuclei.anchors, info["centroid"] + 0.5, atol=1e-6)
    assert (nuclei.classes + 1).tolist() == info["type"].astype(int).tolist()
    np.testing.assert_allclose(nuclei.probabilities.max(axis=1), info["prob"], atol=1e-6)


def half_as_large(maps):
    """Show nuclei with pixels twice as large, as HoVerNet+ sees them."""
    return np.ascontiguousarray(maps[::2, ::2])


@pytest.mark.parametrize(
    "maps",
    [
        pytest.param(disc_maps(PAIR), id="touching pair"),
        pytest.param(crowd_maps(2 * SIDE, 160, 0), id="sparse"),
        pytest.param(crowd_maps(2 * SIDE, 400, 1), id="dense"),
        pytest.param(crowd_maps(2 * SIDE, 400, 3, noise=1), id="rough"),
    ],
)
def test_coarse_labels_are_those_of_hovernetplus(maps):
    maps = half_as_large(maps)
    nuclear, distances = np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1:3])
    expected = HoVerNetPlus._proc_np_hv(nuclear[..., None], distances, scale_factor=0.5)
    assert expected.max() > 1
    labels = separate_nuclei(nuclear, distances, slope_extremes(distances, COARSE), COARSE)
    np.testing.assert_array_equal(labels, expected)


def test_coarse_decoding_follows_hovernetplus():
    """Same instances, centroids and types as TIAToolbox's own post-processing."""
    maps = half_as_large(crowd_maps(2 * SIDE, 240, 5))
    maps[..., 3] = np.minimum(maps[..., 3], 2)
    parts = [np.ascontiguousarray(maps[..., c]) for c in (slice(1), slice(1, 3), slice(3, 4))]
    network = HoVerNetPlus(num_types=3, num_layers=5)
    layers = np.zeros((*maps.shape[:2], 1), np.float32)
    theirs, _ = network.postproc([*parts, layers])
    info = theirs["info_dict"]
    nuclei = decode_maps(maps, slope_extremes(maps[..., 1:3], COARSE), 2, COARSE)
    assert len(nuclei) == len(info["type"]) > 20
    np.testing.assert_allclose(nuclei.anchors, info["centroid"] + 0.5, atol=1e-6)
    assert (nuclei.classes + 1).tolist() == info["type"].astype(int).tolist()


def test_scales_are_those_of_tiatoolbox():
    assert scale_at(0.25) == FINE
    assert (COARSE.sobel_side, COARSE.smallest_marker) == (11, 3)
    assert astuple(ideal_extremes(0.25)) == astuple(IDEAL_EXTREMES)
    assert ideal_extremes(0.5).horizontal_max == 2 * IDEAL_EXTREMES.horizontal_max


def rings_of(maps, extremes, core, shift):
    """The nuclei whose anchor lies in the core (x, y, side), as bytes of their rings."""
    nuclei = decode_maps(maps, extremes, 5)
    x, y, side = core
    anchors = nuclei.anchors + shift
    inside = ((anchors >= (x, y)) & (anchors < (x + side, y + side))).all(axis=1)
    rings = np.split(nuclei.xy + shift, nuclei.offsets[1:-1])
    return {rings[k].tobytes() for k in np.flatnonzero(inside)}


@pytest.mark.parametrize(("count", "seed"), [(500, 1), (1000, 2), (1700, 3)])
def test_windows_give_the_nuclei_of_the_whole(count, seed):
    margin, core, cores = DECODER_REACH_PX + LARGEST_OBJECT_PX, 172, 4
    side = cores * core + 2 * margin
    maps = crowd_maps(side, count, seed)
    whole = rings_of(maps, IDEAL_EXTREMES, (margin, margin, cores * core), 0)
    assert len(whole) > 200
    windowed, by_own_extremes = set(), set()
    for x, y in np.ndindex(cores, cores):
        corner = np.array((x, y)) * core
        span = [slice(c, c + core + 2 * margin) for c in corner]
        window = maps[span[1], span[0]]
        inner = (*(corner + margin), core)
        windowed |= rings_of(window, IDEAL_EXTREMES, inner, corner)
        by_own_extremes |= rings_of(window, slope_extremes(window[..., 1:3]), inner, corner)
    assert len(windowed ^ whole) == 0
    # What the published post-processing would do: the comparison above can fail.
    assert len(by_own_extremes - whole) > 0.03 * len(whole)


def test_wide_hole_keeps_what_is_inside():
    """A ring of fused nuclei is cut by some tile, and then has no hole."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    for radius, filled in ((40, True), (70, False)):
        maps = disc_maps([(128, 128, 12, 1)])
        maps[abs(np.hypot(x - 128, y - 128) - radius) < 10, 0] = 0.9
        labels = separate_nuclei(maps[..., 0], maps[..., 1:3], IDEAL_EXTREMES)
        assert (labels[128, 128] == labels[128, 128 + radius]) == filled
        assert labels[128, 128] > 0


def test_slope_is_that_of_a_ramp():
    y, x = np.mgrid[:64, :64].astype(np.float32)
    horizontal, vertical = slopes(np.stack([x / 8 + y / 2, x / 3 - y / 4], axis=-1))
    np.testing.assert_allclose(horizontal[:, 10:-10], 1 / 8, rtol=1e-5)
    np.testing.assert_allclose(vertical[10:-10], -1 / 4, rtol=1e-5)


def test_default_extremes_are_those_of_ideal_nuclei():
    """Fall between two nuclei of 8 µm (32 px), rise over one of 4 µm (16 px)."""
    beside = slope_extremes(disc_maps([(100, 120, 16, 1), (132, 120, 16, 1)])[..., 1:3])
    above = slope_extremes(disc_maps([(120, 100, 16, 1), (120, 132, 16, 1)])[..., 1:3])
    small = slope_extremes(disc_maps([(120, 120, 8, 1)])[..., 1:3])
    expected = (
        beside.horizontal_min,
        small.horizontal_max,
        above.vertical_min,
        small.vertical_max,
    )
    np.testing.assert_allclose(astuple(IDEAL_EXTREMES), expected, atol=0.005)


class CannedNetwork:
    """Answers a field with the maps whose index is the field's grey value.

    As of any softmax, no probability is quite zero: only the border that is lost is.
    """

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def __call__(self, batch, crop, *, types=True):
        assert (crop, types) == (0, False)  # all that there is of a field, and no more
        indices = batch[:, 0, 0, 0].tolist()
        self.asked += indices
        lost = GEOMETRY["fast"].lost
        inner = np.stack([self.answers[i % len(self.answers)] for i in indices])
        inner = inner[:, lost:-lost, lost:-lost, :3].copy()
        inner[..., 0] = np.maximum(inner[..., 0], 1e-6)
        return inner


def grey_fields(count):
    return np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 256, 256, 3)
    )


def canned_model(answers):
    return HoVerNetModel(SPEC, CannedNetwork(answers))


def test_calibration_takes_the_median_of_fields_with_nuclei():
    rising = np.zeros((SIDE, SIDE, 4), np.float32)
    rising[100:140, 100:140, 0] = 0.9
    rising[100:140, 100:140, 1] = np.linspace(-1, 1, 40)
    rising[100:140, 100:140, 2] = np.linspace(-0.5, 0.5, 40)[:, None]
    fields = [rising * (1, scale, scale, 1) for scale in (1, 0.5, 0.2)]
    stroma = rising * (0.1, 9, 9, 1)
    model = canned_model([fields[0], stroma, fields[2], fields[1], stroma])
    calibrated = model.calibrate(grey_fields(5))
    half = slope_extremes(fields[1][46:-46, 46:-46, 1:3].astype(np.float32))
    np.testing.assert_allclose(astuple(calibrated.extremes), astuple(half), rtol=0.005)
    assert model.extremes == IDEAL_EXTREMES
    assert calibrated.settings() == {
        "slope_horizontal_min_per_px": calibrated.extremes.horizontal_min,
        "slope_horizontal_max_per_px": calibrated.extremes.horizontal_max,
        "slope_vertical_min_per_px": calibrated.extremes.vertical_min,
        "slope_vertical_max_per_px": calibrated.extremes.vertical_max,
    }
    # Rounding of another processor gives the very same settings.
    almost = canned_model([maps * np.float32(1 + 1e-6) for maps in model.network.answers])
    assert almost.calibrate(grey_fields(5)).settings() == calibrated.settings()


@pytest.mark.parametrize(
    ("count", "asked"),
    [(1, [0]), (8, list(range(8))), (48, [0, 7, 13, 20, 27, 34, 40, 47])],
)
def test_calibration_takes_few_fields_spread_evenly(count, asked):
    model = canned_model([disc_maps([(128, 128, 12, 1)])])
    model.calibrate(grey_fields(count))
    assert model.network.asked == asked
    assert len(asked) <= CALIBRATION_FIELDS


def test_slide_without_nuclei_keeps_the_defaults():
    model = canned_model([np.zeros((SIDE, SIDE, 4), np.float32)])
    assert model.calibrate(grey_fields(3)) is model


def test_decoding_uses_the_extremes_of_the_slide():
    model = canned_model([])
    maps = disc_maps(PAIR)
    assert len(model.decode(maps)) == 2
    # Elsewhere on this slide distances fall ten times as steeply: this is no border.
    steep = SlopeExtremes(*(10 * value for value in astuple(IDEAL_EXTREMES)))
    assert len(replace(model, extremes=steep).decode(maps)) == 1


def test_two_touching_discs_become_two_nuclei():
    maps = disc_maps(PAIR)
    maps[:110, :120, 3][maps[:110, :120, 0] > 0] = 2  # the top of the left disc
    sizes = [np.count_nonzero(maps[..., 3] == kind) for kind in (1, 2, 5)]
    nuclei = decode_maps(maps, IDEAL_EXTREMES, 5)

    assert len(nuclei) == 2
    left, right = np.argsort(nuclei.anchors[:, 0])
    areas = ring_areas(nuclei)
    assert areas[left] == pytest.approx(sizes[0] + sizes[1], rel=0.03)
    assert areas[right] == pytest.approx(sizes[2], rel=0.03)
    assert nuclei.classes[[left, right]].tolist() == [0, 4]
    np.testing.assert_allclose(nuclei.anchors[left], (100, 120), atol=0.6)
    np.testing.assert_allclose(nuclei.anchors[right], (138, 120), atol=0.6)
    np.testing.assert_allclose(nuclei.scores, 0.9, rtol=1e-6)
    share = sizes[1] / (sizes[0] + sizes[1])
    np.testing.assert_allclose(nuclei.probabilities[left], [1 - share, share, 0, 0, 0], atol=0.02)
    np.testing.assert_allclose(nuclei.probabilities[right], [0, 0, 0, 0, 1], atol=0.02)


def test_rings_run_on_pixel_borders():
    nuclei = decode(disc_maps([(100, 120, 15, 3), (160, 150, 9, 3)]))
    first = nuclei.xy[: nuclei.offsets[1]]
    np.testing.assert_allclose(first.min(axis=0), (85, 105), atol=0.1)
    np.testing.assert_allclose(first.max(axis=0), (115, 135), atol=0.1)


def test_nucleus_of_background_type_has_no_class():
    nuclei = decode(disc_maps([(100, 120, 15, 0), (160, 150, 12, 2)]))
    assert nuclei.classes.tolist() == [-1, 1]
    assert nuclei.probabilities[0].tolist() == [0, 0, 0, 0, 0]


def test_object_larger_than_promised_is_not_reported():
    nuclei = decode(disc_maps([(100, 120, 15, 2), (250, 250, 49, 2)], side=400))
    np.testing.assert_allclose(nuclei.anchors, [(100, 120)], atol=0.1)


def test_empty_tile_has_no_nuclei():
    nuclei = decode_maps(np.zeros((SIDE, SIDE, 4), np.float32), IDEAL_EXTREMES, 5)
    assert len(nuclei) == 0
    assert nuclei.xy.shape == (0, 2)
    assert nuclei.probabilities.shape == (0, 5)
