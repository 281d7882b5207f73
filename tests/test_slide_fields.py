"""Fields that stand for a slide: from the tissue, spread over it, the same every time."""

import numpy as np
import pytest
import shapely

from tests.support.slides import TCGA_V5, real_slide
from wsi_engine.slide.fields import FIELD_SIDE_PX, LARGEST_FIELD_COUNT, sample_fields
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.tissue import find_tissue

WIDTH, HEIGHT = 4096, 3072
CELL = 16


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A slide of 0.5 µm whose colour tells the place: red is x / 16, green is y / 16."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] // CELL
    path = tmp_path_factory.mktemp("fields") / "map.tif"
    write_pyramid(path, np.stack([x, y, 0 * x], axis=2).astype(np.uint8), 0.5)
    with open_slide(path) as slide:
        yield slide


def fields_of(slide, area, mpp=0.5):
    return sample_fields(GridReader(slide, make_grid(slide.info, mpp)), area)


def centres(fields):
    """Places that the middle pixels of the fields tell, in QuPath pixels."""
    middle = fields[:, FIELD_SIDE_PX // 2, FIELD_SIDE_PX // 2, :2].astype(float)
    return (middle + 0.5) * CELL


AREAS = {
    "everything": shapely.box(0, 0, WIDTH, HEIGHT),
    "a disk": shapely.Point(1500, 1700).buffer(1200),
    "two pieces": shapely.union_all(
        [shapely.box(100, 100, 900, 1500), shapely.Point(3300, 2200).buffer(600)]
    ),
    "a ring": shapely.Point(2000, 1500).buffer(1300) - shapely.Point(2000, 1500).buffer(900),
    "one field": shapely.box(1000, 1000, 1300, 1300),
    "smaller than a field": shapely.box(1000, 1000, 1040, 1030),
    "a sliver between all fields": shapely.box(1, 250, 4000, 262),
    "a corner": shapely.box(0, 0, 30, 30),
}


@pytest.mark.parametrize("mpp", [0.5, 1.0])
@pytest.mark.parametrize("name", AREAS)
def test_fields_are_centred_in_the_area(mapped, name, mpp):
    fields = fields_of(mapped, AREAS[name], mpp)
    assert fields.dtype == np.uint8
    assert fields.shape[1:] == (FIELD_SIDE_PX, FIELD_SIDE_PX, 3)
    assert 1 <= len(fields) <= LARGEST_FIELD_COUNT
    places = shapely.points(centres(fields))
    assert shapely.distance(places, AREAS[name]).max() <= CELL


@pytest.mark.parametrize(
    ("name", "count"), [("everything", 48), ("smaller than a field", 1), ("a corner", 1)]
)
def test_number_of_fields(mapped, name, count):
    assert len(fields_of(mapped, AREAS[name])) == count


@pytest.mark.parametrize("name", AREAS)
def test_the_same_every_time(mapped, name):
    np.testing.assert_array_equal(fields_of(mapped, AREAS[name]), fields_of(mapped, AREAS[name]))


def test_the_order_of_pieces_does_not_matter(mapped):
    pieces = list(shapely.get_parts(AREAS["two pieces"]))
    one, other = (shapely.MultiPolygon(order) for order in (pieces, pieces[::-1]))
    np.testing.assert_array_equal(fields_of(mapped, one), fields_of(mapped, other))


def test_fields_are_spread_over_the_area(mapped):
    places = centres(fields_of(mapped, AREAS["everything"]))
    assert len(np.unique(places, axis=0)) == 48
    quarters = (places[:, 0] > WIDTH / 2) * 2 + (places[:, 1] > HEIGHT / 2)
    assert np.bincount(quarters.astype(int), minlength=4).min() >= 8


def test_every_piece_is_seen(mapped):
    places = centres(fields_of(mapped, AREAS["two pieces"]))
    left = places[:, 0] < 2000
    assert 0.1 < left.mean() < 0.9


def test_a_slide_smaller_than_a_field(tmp_path):
    write_pyramid(tmp_path / "small.tif", np.full((60, 90, 3), 70, np.uint8), 0.5)
    with open_slide(tmp_path / "small.tif") as slide:
        [field] = fields_of(slide, shapely.box(0, 0, 90, 60))
    # Its mirror images fill the field, so nothing but the slide enters a threshold.
    assert (field == 70).all()


def test_fields_of_a_real_slide_show_tissue():
    with open_slide(real_slide(TCGA_V5)) as slide:
        tissue = find_tissue(slide, slide.info)
        fields = fields_of(slide, shapely.union_all(tissue.pieces))
    assert len(fields) == LARGEST_FIELD_COUNT
    contrast = np.ptp(fields.mean(axis=(1, 2)), axis=1)
    assert np.median(contrast) > 25
    assert (contrast > 8).mean() > 0.9
