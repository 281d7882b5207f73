"""The demo sample opens in OpenSlide, and its truth is what QuPath reads and the pixels show."""

import json
import uuid

import numpy as np
import openslide
import pytest
import shapely
from skimage.draw import polygon2mask

from wsi_engine.engine.inspection import inspect
from wsi_engine.errors import OutputError
from wsi_engine.models.registry import find_model
from wsi_engine.sample import write_sample

FIELD_PX = 512


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("sample") / "demo.tif", field_px=FIELD_PX)


@pytest.fixture(scope="module")
def features(sample):
    collection = json.loads(sample.truth_path.read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    return collection["features"]


def read(slide, box):
    size = (int(box.x_max - box.x_min), int(box.y_max - box.y_min))
    return np.asarray(slide.read_region((int(box.x_min), int(box.y_min)), 0, size))[..., :3]


def test_the_slide_is_a_small_pyramid(sample):
    with openslide.OpenSlide(sample.slide_path) as slide:
        assert slide.dimensions == (1536, 1536)
        assert slide.level_count == 4
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.25)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.25)


def test_the_truth_lies_beside_the_slide(sample):
    assert sample.truth_path == sample.slide_path.with_name("demo_truth.geojson")
    assert {path.name for path in sample.slide_path.parent.iterdir()} == {
        "demo.tif",
        "demo_truth.geojson",
    }


def test_one_annotation_then_one_detection_per_nucleus(sample, features):
    area, *nuclei = features
    assert area["properties"]["objectType"] == "annotation"
    assert area["properties"]["name"] == "Truth area"
    assert {nucleus["properties"]["objectType"] for nucleus in nuclei} == {"detection"}
    assert len(nuclei) == len(sample.outlines) == len(sample.kind) > 40
    assert "null" not in sample.truth_path.read_text(encoding="utf-8")


def test_every_object_has_an_own_uuid_and_a_class_with_a_colour(features):
    assert len({str(uuid.UUID(feature["id"])) for feature in features}) == len(features)
    for feature in features:
        kind = feature["properties"]["classification"]
        assert kind["name"]
        assert len(kind["color"]) == 3
        assert all(0 <= value <= 255 for value in kind["color"])


def test_rings_are_closed_valid_and_rounded(features):
    for feature in features:
        assert feature["geometry"]["type"] == "Polygon"
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        np.testing.assert_allclose(np.array(ring), np.round(ring, 2), rtol=0, atol=1e-9)
        assert shapely.Polygon(ring).is_valid


def test_the_area_is_the_generated_field_and_holds_every_nucleus(sample, features):
    area, *nuclei = (shapely.geometry.shape(feature["geometry"]) for feature in features)
    box = sample.field
    assert area.equals(shapely.box(box.x_min, box.y_min, box.x_max, box.y_max))
    assert area.area == FIELD_PX**2
    assert all(area.contains(nucleus) for nucleus in nuclei)


def test_the_slide_is_dark_where_the_truth_says_nucleus(sample):
    with openslide.OpenSlide(sample.slide_path) as slide:
        red = read(slide, sample.field)[..., 0].astype(float)
    origin = np.array([sample.field.x_min, sample.field.y_min])
    anything = np.zeros(red.shape, bool)
    means = []
    for outline in sample.outlines:
        mask = polygon2mask(red.shape, (outline - origin)[:, ::-1] - 0.5)
        anything |= mask
        means.append(red[mask].mean())
    assert max(means) < red[~anything].mean() - 20


def test_around_the_field_there_is_glass(sample):
    with openslide.OpenSlide(sample.slide_path) as slide:
        pixels = np.array(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    x, y = int(sample.field.x_min), int(sample.field.y_min)
    assert min(x, y) > 300
    pixels[y : y + FIELD_PX, x : x + FIELD_PX] = 255
    assert pixels.min() > 225


def test_all_of_it_is_stained_as_the_default_network_expects(sample):
    found = inspect(sample.slide_path, find_model("starconvex").spec)
    assert found.tissue is not None
    assert len(found.tissue.pieces) == 1
    assert found.stain is not None
    assert found.stain.level == "ok"


def test_the_same_seed_gives_the_same_files(sample, tmp_path):
    again = write_sample(tmp_path / "again.tif", field_px=FIELD_PX)
    assert again.slide_path.read_bytes() == sample.slide_path.read_bytes()
    assert again.truth_path.read_bytes() == sample.truth_path.read_bytes()


def test_an_unwritable_place_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        write_sample(tmp_path / "file" / "demo.tif", field_px=64)


def test_the_folder_is_made(tmp_path):
    assert write_sample(tmp_path / "new" / "demo.tif", field_px=64).truth_path.exists()
