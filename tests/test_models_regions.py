"""Models of regions: features, forest, the file of a pixel classifier, outlines from blocks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import shapely
from safetensors.numpy import load_file, save_file
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

from tests.support.slides import noise
from wsi_engine.errors import ModelError, SettingsError
from wsi_engine.models.regions.features import Features
from wsi_engine.models.regions.forest import Forest
from wsi_engine.models.regions.labelling import Labelling, Tidying
from wsi_engine.models.regions.loading import load_regions_model
from wsi_engine.models.regions.outlines import NO_CLASS, Outlines
from wsi_engine.models.regions.pixel_classifier import (
    KEY,
    PixelClassifier,
    read_pixel_classifier,
)
from wsi_engine.models.regions.protocol import RegionsSpec
from wsi_engine.nuclei.raster import draw_polygons
from wsi_engine.slide.frames import ModelBox

FEATURES = Features(1.0, 4.0)
MPP = 2.0


def grown(classes: int = 3, seed: int = 0) -> tuple[RandomForestClassifier, Forest]:
    """A forest of scikit-learn on features of noise, and the same as arrays."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, FEATURES.count)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int) + (classes > 2) * (x[:, 1] + 0.3 * x[:, 2] > 0.5)
    forest = RandomForestClassifier(
        15, min_samples_leaf=2, class_weight="balanced", random_state=seed
    ).fit(x, y)
    return forest, Forest.grown([tree.tree_ for tree in forest.estimators_])


@pytest.fixture(scope="module")
def classifier() -> PixelClassifier:
    return PixelClassifier.of(
        "model.safetensors", MPP, ("Gland", "Ignore*", "Stroma"), FEATURES, grown()[1], {"n": 1}
    )


@pytest.fixture
def written(classifier: PixelClassifier, tmp_path: Path) -> Path:
    classifier.write(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


# Features


@pytest.mark.parametrize("features", [Features(), FEATURES, Features(2.0, 2.0)], ids=str)
def test_features_of_a_window_are_those_of_the_whole_image(features: Features):
    """To the last bit: the margin is as wide as anything reaches."""
    image, margin = noise(230, 260), features.margin_px
    whole = multiscale_basic_features(
        image, sigma_min=features.sigma_min_px, sigma_max=features.sigma_max_px, channel_axis=-1
    )
    assert whole.shape[2] == features.count
    for y, x, height, width in ((0, 0, 2 * margin + 5, 2 * margin + 40), (31, 17, 150, 180)):
        seen = features.of(image[y : y + height, x : x + width])
        rows = slice(y + margin, y + height - margin)
        assert np.array_equal(seen, whole[rows, x + margin : x + width - margin])


def test_the_margin_of_features_is_not_wider_than_need_be():
    image, margin = noise(100, 100), FEATURES.margin_px
    reached = image.copy()
    reached[50 - margin, 50] ^= 255
    centre = slice(50 - margin, 51 + margin)
    assert (FEATURES.of(image[centre, centre]) != FEATURES.of(reached[centre, centre])).any()


@pytest.mark.parametrize("scales", [(0.0, 4.0), (4.0, 1.0), (1.0, 1e6), (float("nan"), 4.0)])
def test_scales_that_cannot_be(scales: tuple[float, float]):
    with pytest.raises(ValueError, match="scales from"):
        Features(*scales)


# Forest


@pytest.mark.parametrize("classes", [2, 3])
def test_a_forest_says_what_scikit_learn_says_to_the_last_bit(classes: int):
    forest, arrays = grown(classes)
    x = np.random.default_rng(9).normal(size=(2000, FEATURES.count)).astype(np.float32)
    said = arrays.predict(x)
    assert np.array_equal(said, forest.predict_proba(x))
    assert len(np.unique(said)) > 20


# The file


def test_a_classifier_is_read_as_it_was_written(classifier, written):
    again, window = read_pixel_classifier(written), noise(80, 90)
    assert again.spec == classifier.spec
    assert again.spec.regions == ("Gland", "Stroma")
    assert again.features == classifier.features
    assert again.training == {"n": 1}
    assert np.array_equal(again.probabilities(window), classifier.probabilities(window))


def test_the_same_classifier_gives_the_same_bytes(classifier, written, tmp_path):
    classifier.write(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == written.read_bytes()


def described(written: Path, **changes) -> Path:
    """Write a file again with another description."""
    from safetensors import safe_open

    with safe_open(written, framework="np") as file:
        description = json.loads(file.metadata()[KEY]) | changes
    save_file(load_file(written), written, metadata={KEY: json.dumps(description)})
    return written


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": 2}, "it is of format 2, this version reads 1"),
        ({"mpp": 0}, "its pixels of 0.0 µm are none"),
        ({"mpp": float("nan")}, "its pixels of nan µm are none"),
        ({"classes": ["Gland"]}, "its classes are"),
        ({"classes": ["Gland", "Gland", "Stroma"]}, "its classes are"),
        ({"classes": ["Gland", 3, "Stroma"]}, "its classes are"),
        ({"classes": ["Gland", "Stroma"]}, "its trees are broken"),
        ({"features": {"sigma_min_px": 1, "sigma_max_px": 1}}, "its trees are broken"),
        ({"features": {"sigma_min_px": 0, "sigma_max_px": 1}}, "scales from 0 to 1 px are none"),
        ({"features": {"script": "x"}}, "unexpected keyword"),
        ({"features": []}, ""),
    ],
    ids=str,
)
def test_a_description_that_cannot_be_is_one_sentence(written, changes, why):
    with pytest.raises(ModelError, match=f"model.safetensors holds no regions model: .*{why}"):
        read_pixel_classifier(described(written, **changes))


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("left", 0, 0),  # a circle: the walk would never end
        ("right", 0, 10**6),
        ("left", 0, 10**6),
        ("feature", 0, 10**6),
        ("feature", 0, -1),
        ("threshold", 0, np.nan),
        ("probabilities", (0, 0), np.nan),
        ("probabilities", (0, 0), 2.0),
        ("roots", 0, 3),
        ("roots", -1, 10**6),
        ("roots", 1, 0),
    ],
)
def test_a_walk_through_any_file_ends_and_stays_in_its_arrays(
    classifier, written, name, place, value
):
    arrays = {key: array.copy() for key, array in classifier.forest.arrays().items()}
    assert arrays["left"][0] > 0
    arrays[name][place] = value
    with pytest.raises(ValueError, match="its trees are broken"):
        Forest.of_arrays(arrays, FEATURES.count, 3)


def test_arrays_of_another_type_are_refused(classifier):
    arrays = classifier.forest.arrays() | {"left": classifier.forest.left.astype(np.int64)}
    with pytest.raises(ValueError, match="left is of type int64"):
        Forest.of_arrays(arrays, FEATURES.count, 3)


@pytest.mark.parametrize("length", [0, 7, 100, -1], ids="{} bytes".format)
def test_a_truncated_file_is_one_sentence(written, length):
    written.write_bytes(written.read_bytes()[:length])
    with pytest.raises(ModelError, match=r"model\.safetensors holds no regions model: "):
        read_pixel_classifier(written)


def test_other_files_are_one_sentence(written, tmp_path):
    save_file({"weight": np.zeros(3)}, written)
    with pytest.raises(ModelError, match="was not written by `wsi-engine regions-train`"):
        load_regions_model(str(written))
    save_file(load_file(written), written, metadata={KEY: json.dumps({"format": 1})})
    with pytest.raises(ModelError, match="holds no regions model: it lacks 'mpp'"):
        load_regions_model(str(written))
    with pytest.raises(ModelError, match="there is no regions model"):
        load_regions_model(str(tmp_path))
    with pytest.raises(ModelError, match="give a file of `wsi-engine regions-train`, or one of"):
        load_regions_model("fcn_resnet")
    with pytest.raises(SettingsError, match="holds all of its model"):
        load_regions_model(str(written), tmp_path / "weights.pth")


# From blocks to outlines


@dataclass(frozen=True)
class Redness:
    """Tells red from not red, looking two pixels around."""

    spec = RegionsSpec("red", MPP, ("Red", "Other"), 2)

    def to(self, device):
        return self

    def probabilities(self, window):
        red = window[2:-2, 2:-2, 0].astype(np.float32) / 255
        return np.stack([red, 1 - red], axis=-1)


BLOBS = [
    shapely.Point(60, 50).buffer(35) - shapely.Point(60, 50).buffer(15),
    shapely.Point(130, 120).buffer(40),
    shapely.box(0, 100, 50, 170),  # cut by the border of the slide
    shapely.box(150, 20, 153, 23),  # too small
]
WIDTH, HEIGHT = 171, 163
KEEP_MOST = Tidying(0, 100, 100)


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    draw_polygons(BLOBS, [255] * len(BLOBS), drawn)
    return drawn


def labelling(image: np.ndarray, core: int, area=None, tidying=KEEP_MOST) -> Labelling:
    far = 64
    padded = np.pad(image, far, mode="symmetric")

    def read(box: ModelBox) -> np.ndarray:
        rows = slice(box.y + far, box.y_stop + far)
        columns = slice(box.x + far, box.x_stop + far)
        part = np.zeros((box.height, box.width), np.uint8)
        seen = padded[max(0, rows.start) : rows.stop, max(0, columns.start) : columns.stop]
        part[: seen.shape[0], : seen.shape[1]] = seen
        return np.repeat(part[..., None], 3, axis=2)

    whole = shapely.box(0, 0, WIDTH, HEIGHT)
    extent = ModelBox(0, 0, WIDTH, HEIGHT)
    return Labelling(Redness(), read, whole if area is None else area, extent, tidying, core)


def found(labelled: Labelling, threads: int = 1) -> dict[str, list[shapely.Polygon]]:
    regions: dict[str, list[shapely.Polygon]] = {}
    for name, polygon in labelled.regions(threads):
        regions.setdefault(name, []).append(polygon)
    return regions


def test_regions_are_outlined_where_they_are(blobs):
    regions = found(labelling(blobs, 512))
    assert len(regions["Red"]) == 3
    assert all(polygon.is_valid for polygons in regions.values() for polygon in polygons)
    slide = shapely.box(0, 0, WIDTH, HEIGHT)
    from_the_top = sorted((blob & slide for blob in BLOBS[:3]), key=lambda blob: blob.bounds[1])
    for polygon, blob in zip(regions["Red"], from_the_top, strict=True):
        both, either = (polygon & blob).area, (polygon | blob).area
        assert both / either > 0.97
    assert len(regions["Red"][0].interiors) == 1
    assert regions["Red"][2].bounds[0] == 0
    assert regions["Red"][2].bounds[3] == HEIGHT
    covered = shapely.union_all([p for polygons in regions.values() for p in polygons])
    assert covered.area == pytest.approx(WIDTH * HEIGHT, rel=0.01)


@pytest.mark.parametrize("smoothing", [0.0, 5.0])
@pytest.mark.parametrize("core", [16, 37, 64, 170])
def test_regions_depend_neither_on_blocks_nor_on_threads(blobs, core, smoothing):
    """Exactly: not even the vertex that a ring begins with."""
    speckled = np.where(noise(HEIGHT, WIDTH)[..., 0] < 30, 255 - blobs, blobs)
    tidying = Tidying(smoothing, 40, 40)
    whole = found(labelling(speckled, 512, tidying=tidying))
    assert found(labelling(speckled, core, tidying=tidying), threads=3) == whole
    assert len(whole["Red"]) >= 3


def test_smoothing_takes_specks_away(blobs):
    speckled = np.where(noise(HEIGHT, WIDTH)[..., 0] < 30, 255 - blobs, blobs)
    rough, smooth = (
        found(labelling(speckled, 512, tidying=Tidying(um, 0, 0)))["Red"] for um in (0.0, 6.0)
    )
    assert len(smooth) < len(rough) / 10


def test_small_regions_are_dropped_and_small_holes_filled(blobs):
    hole = np.pi * 15**2 * MPP**2
    for smallest, holes in ((0.8 * hole, 1), (1.2 * hole, 0)):
        ring = found(labelling(blobs, 512, tidying=Tidying(0, 0, smallest)))["Red"][0]
        assert len(ring.interiors) == holes
    largest = np.pi * 40**2 * MPP**2
    assert len(found(labelling(blobs, 512, tidying=Tidying(0, 0.9 * largest, 0)))["Red"]) == 1
    assert "Red" not in found(labelling(blobs, 512, tidying=Tidying(0, 1.1 * largest, 0)))


@pytest.mark.parametrize("core", [16, 512])
def test_regions_end_where_the_area_ends(blobs, core):
    area = shapely.Point(100, 100).buffer(45)
    regions = found(labelling(blobs, core, area, Tidying(0, 0, 0)))
    covered = shapely.union_all([p for polygons in regions.values() for p in polygons])
    assert (covered & area).area / (covered | area).area > 0.97
    assert found(labelling(blobs, core, shapely.Polygon())) == {}


def test_an_outline_runs_along_the_sides_of_pixels():
    labels = np.full((40, 40), NO_CLASS, np.int16)
    labels[2:32, 1:21] = 0
    outlines = Outlines([0])
    outlines.add(labels, 10, 20)
    [polygon] = outlines.polygons(0, 2.0, 0.0, 0.0)
    assert polygon.bounds == (11, 22, 31, 52)
    assert polygon.area == pytest.approx(20 * 30, rel=0.03)
