"""The ring around a nucleus: its width, its end half-way to neighbours, what is in it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from scipy import ndimage

from wsi_engine.nuclei.measure.cytoplasm import area_ratio
from wsi_engine.nuclei.measure.groups import measurer_of
from wsi_engine.nuclei.measure.outlines import Outlines
from wsi_engine.nuclei.measure.pixels import Field, cover
from wsi_engine.nuclei.measure.ring import BORDER_PX, WIDTH_UM, rings
from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp
from wsi_engine.slide.stain_vectors import H_AND_E

SIDE = 96
GRID = ModelGrid(0.5, Mpp(0.5, 0.5), 0, 0, 4 * SIDE, 4 * SIDE)
WINDOW = ModelBox(20, 30, SIDE, SIDE)
WIDTH_PX = WIDTH_UM / GRID.mpp


def disc(x, y, radius=9.0):
    """In the window's own pixels."""
    return shapely.Point(x + WINDOW.x, y + WINDOW.y).buffer(radius)


def find(*polygons, window=WINDOW):
    """Pixels of the nuclei and of their rings as masks of the window."""
    polygons = np.array(polygons, object)
    field = Field(np.zeros((window.height, window.width, 3), np.uint8), window, GRID)
    sets = cover(Outlines.of(polygons), field)
    return sets, rings(polygons, sets, field)


def masks(sets):
    found = np.zeros((len(sets), SIDE * SIDE), bool)
    for i in range(len(sets)):
        found[i, sets.index[sets.offsets[i] : sets.offsets[i + 1]]] = True
    return found.reshape(-1, SIDE, SIDE)


@pytest.mark.parametrize("radius", [3.0, 6.5, 14.0])
def test_a_ring_is_as_wide_as_it_says(radius):
    own, ring = (masks(sets)[0] for sets in find(disc(48, 48, radius)))
    expected = math.pi * ((radius + WIDTH_PX) ** 2 - radius**2)
    assert ring.sum() == pytest.approx(expected, rel=0.03)
    assert not (own & ring).any()
    assert ndimage.label(own | ring)[1] == 1


def crowd(seed, count=25):
    rng = np.random.default_rng(seed)
    return [disc(*rng.uniform(5, SIDE - 5, 2), rng.uniform(2, 8)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(6))
def test_a_pixel_is_in_the_ring_of_the_nearest_nucleus(seed):
    """Against the exact distance transform of scipy, also where nuclei overlap."""
    nuclei = crowd(seed)
    own, ring = (masks(sets) for sets in find(*nuclei))
    distance = np.stack([ndimage.distance_transform_edt(~mask) for mask in own])
    nearest = distance.min(axis=0)
    within = (nearest > 0) & (nearest <= WIDTH_PX + BORDER_PX)
    assert (ring.sum(axis=0) == within).all()
    assert (distance[ring] == np.broadcast_to(nearest, ring.shape)[ring]).all()


def test_rings_do_not_depend_on_the_order_of_nuclei_or_on_the_window():
    nuclei = crowd(7)
    ring = masks(find(*nuclei)[1])
    assert (masks(find(*nuclei[::-1])[1])[::-1] == ring).all()
    moved = ModelBox(WINDOW.x - 5, WINDOW.y - 3, SIDE, SIDE)
    again = masks(find(*nuclei, window=moved)[1])
    # Far from the edges, where one of the windows does not see all.
    here = np.s_[:, 20 : SIDE - 20, 20 : SIDE - 20]
    assert (np.roll(again, (-3, -5), (1, 2))[here] == ring[here]).all()


def test_between_neighbours_a_ring_ends_half_way_and_the_upper_left_one_has_the_middle():
    left, right = disc(40, 48, 9), disc(65, 48, 9)  # 7 px apart
    ring = masks(find(right, left)[1])
    row = ring[:, 48]
    assert np.flatnonzero(row[1])[-1] == 52
    assert np.flatnonzero(row[0])[0] == 53


def test_a_nucleus_without_room_has_no_ring_and_a_ratio_of_one():
    inner = disc(48, 48, 4)
    around = disc(48, 48, 20) - disc(48, 48, 4)
    sets, ring = find(inner, around)
    assert masks(ring)[0].sum() == 0
    assert area_ratio(sets, ring)[0] == 1


def test_the_ring_ends_at_the_edge_of_the_slide():
    window = ModelBox(-20, -20, SIDE, SIDE)
    _, ring = find(shapely.box(0, 0, 5, 5), window=window)
    mask = masks(ring)[0]
    assert mask.any()
    assert not mask[:20].any()
    assert not mask[:, :20].any()


def test_cytoplasm_is_what_lies_in_the_ring():
    rgb = np.full((SIDE, SIDE, 3), 255, np.uint8)
    own, ring = (masks(sets)[0] for sets in find(disc(48, 48)))
    rgb[own], rgb[ring] = (90, 60, 150), (230, 150, 190)
    measurer = measurer_of(("colour", "ring"), H_AND_E)
    nuclei = np.array([disc(48, 48), shapely.Polygon()], object)
    values = measurer.measure(nuclei, np.ones(2, bool), rgb, WINDOW, GRID)
    found = {c.name: v for c, v in zip(measurer.columns, values.T, strict=True)}
    for c, stain in enumerate(H_AND_E.channels):
        for prefix, colour in (("", (90, 60, 150)), ("Cytoplasm: ", (230, 150, 190))):
            amount = sum(H_AND_E.table[c, k, value] for k, value in enumerate(colour))
            assert found[f"{prefix}{stain}: Mean"][0] == pytest.approx(amount, rel=1e-6)
            assert found[f"{prefix}{stain}: Std.Dev."][0] == pytest.approx(0, abs=1e-6)
    ratio = own.sum() / (own.sum() + ring.sum())
    assert found["Nucleus/Cell area ratio"][0] == pytest.approx(ratio)
    assert all(np.isnan(column[1]) for column in found.values())


def test_only_the_wanted_are_measured_but_their_neighbours_clip_them():
    rgb = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    measurer = measurer_of(("ring",), H_AND_E)
    nuclei = np.array(crowd(3), object)
    everything = measurer.measure(nuclei, np.ones(len(nuclei), bool), rgb, WINDOW, GRID)
    wanted = np.arange(len(nuclei)) % 3 == 0
    some = measurer.measure(nuclei, wanted, rgb, WINDOW, GRID)
    np.testing.assert_array_equal(some, everything[wanted])
