"""Slides with DAB: haematoxylin and DAB are told apart for the network, slides of H&E stay."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import skimage.data
from PIL import Image

import wsi_engine
from tests.support.immunostained import MPP, immunostained
from tests.support.slides import CMU, MOSAIC, TCGA_V5, real_slide
from wsi_engine.config import RunSettings
from wsi_engine.errors import SettingsError
from wsi_engine.models.around import load_model
from wsi_engine.models.check import check_model
from wsi_engine.models.registry import find_model
from wsi_engine.models.starconvex.model import load_starconvex, load_weights
from wsi_engine.models.starconvex.spec import WEIGHTS
from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.qupath.reader import read_objects
from wsi_engine.slide.dab import SMALLEST_BROWN_SHARE, shows_dab, views_of
from wsi_engine.slide.fields import sample_fields
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.stain_vectors import DAB, EOSIN, HAEMATOXYLIN
from wsi_engine.slide.whole_pixels import make_model_grid


def h_and_e() -> np.ndarray:
    rng = np.random.default_rng(3)
    tissue = lay_out_tissue((512, 512), MPP, rng)
    return render_tissue((512, 512), scatter_nuclei(tissue, rng), MPP, rng, tissue)


def colour(*stains: tuple[tuple[float, float, float], float]) -> np.ndarray:
    """A pixel with amounts of stains."""
    density = sum(amount * np.array(vector) / np.linalg.norm(vector) for vector, amount in stains)
    return np.rint(256 * 10 ** -np.asarray(density) - 1).astype(np.uint8)


# Which slides


@pytest.mark.parametrize("where", ["nuclei", "cytoplasm"])
def test_drawn_dab_is_seen(where):
    assert shows_dab(immunostained(where).rgb[None])


def test_dab_on_a_real_image_is_seen_and_haematoxylin_with_eosin_is_not():
    assert shows_dab(skimage.data.immunohistochemistry()[None])
    assert not shows_dab(h_and_e()[None])


@pytest.mark.parametrize("name", [CMU, TCGA_V5, MOSAIC])
def test_no_field_of_a_real_slide_of_haematoxylin_and_eosin_passes_for_dab(name):
    with open_slide(real_slide(name)) as slide:
        reader = GridReader(slide, make_model_grid(slide.info, MPP))
        width, height = slide.info.bounds.width, slide.info.bounds.height
        fields = sample_fields(reader, shapely.box(0, 0, width, height))
    assert not shows_dab(fields)
    assert not [k for k, field in enumerate(fields) if shows_dab(field[None])]


def test_a_few_brown_pixels_are_no_stain_and_neither_is_glass():
    pixels = np.full((1, 400, 400, 3), colour((HAEMATOXYLIN, 0.4), (EOSIN, 0.3)), np.uint8)
    flat = pixels[:, ::4, ::4].reshape(-1, 3).copy()  # as it is looked at
    few = int(SMALLEST_BROWN_SHARE * len(flat)) - 1
    for count, seen in ((few, False), (few + 2, True)):
        flat[:count] = colour((DAB, 0.8))
        pixels[:, ::4, ::4] = flat.reshape(1, 100, 100, 3)
        assert shows_dab(pixels) == seen
    assert not shows_dab(np.full((2, 64, 64, 3), 255, np.uint8))
    assert not shows_dab(np.zeros((2, 64, 64, 3), np.uint8))


# What the network sees


def test_one_view_has_the_haematoxylin_and_one_has_dab_as_well():
    pixels = np.array(
        [
            colour((HAEMATOXYLIN, 0.6)),
            colour((DAB, 0.6)),
            colour((HAEMATOXYLIN, 0.6), (DAB, 0.6)),
            colour((HAEMATOXYLIN, 1.2)),
            (255, 255, 255),
        ]
    )
    views = views_of(pixels.astype(np.uint8))
    own, both = (view.astype(int) for view in views)
    blue, brown, mixed, dark, white = range(5)
    assert abs(own[blue] - both[blue]).max() <= 3
    assert abs(own[brown] - own[white]).max() <= 3
    assert abs(own[mixed] - own[blue]).max() <= 4
    assert abs(both[brown] - both[blue]).max() <= 4
    assert abs(both[mixed] - both[dark]).max() <= 4
    assert (own[white] > 220).all()


def test_a_view_is_made_pixel_by_pixel():
    image = skimage.data.immunohistochemistry()
    whole = views_of(image)
    part = views_of(np.ascontiguousarray(image[100:117, 33:80]))
    for seen, cut in zip(whole, part, strict=True):
        assert seen.shape == image.shape
        np.testing.assert_array_equal(seen[100:117, 33:80], cut)


@pytest.mark.parametrize("load", [find_model("starconvex").load, load_starconvex])
def test_each_point_keeps_what_the_network_is_surer_of(load):
    fields = immunostained().rgb[None]
    tile = fields[:, :128, :128]
    model = load(None).calibrate(fields)
    assert model.settings()["DAB split off"] == 1.0
    plain = replace(model, splits_dab=False, fading=1.0)
    seen = [plain.maps(view) for view in views_of(tile)]
    found = replace(model, fading=1.0).maps(tile)
    np.testing.assert_array_equal(found[..., 0], np.maximum(*(maps[..., 0] for maps in seen)))
    for k, maps in enumerate(seen):
        surer = maps[..., 0] > seen[1 - k][..., 0]
        assert surer.any()
        np.testing.assert_array_equal(found[surer], maps[surer])


@pytest.mark.parametrize("load", [find_model("starconvex").load, load_starconvex])
def test_slides_of_haematoxylin_and_eosin_are_seen_as_ever(load):
    fields, tile = h_and_e()[None], h_and_e()[None, :128, :128]
    model = load(None)
    auto, never = (model.with_dab(split).calibrate(fields) for split in ("auto", "never"))
    assert auto.settings() == never.settings()
    assert "DAB split off" not in auto.settings()
    np.testing.assert_array_equal(auto.maps(tile), never.maps(tile))


def test_weights_of_ones_own_see_dab_as_it_is_unless_it_is_asked_for():
    model, fields = load_weights(WEIGHTS), immunostained().rgb[None]
    assert model.calibrate(fields) is model
    always = model.with_dab("always").calibrate(fields)
    assert always.settings() == {"threshold": model.threshold, "DAB split off": 1.0}


def test_the_model_keeps_its_promises_with_both_views():
    assert check_model(find_model("starconvex").load(None).with_dab("always")) == []


def test_a_method_that_cannot_be_shown_them_apart_says_so():
    with pytest.raises(SettingsError, match=r"^split_dab = always: watershed cannot be shown"):
        load_model(RunSettings(model="watershed", split_dab="always"))
    load_model(RunSettings(model="watershed"))


# What is found


def found_in(folder: Path, name: str, rgb: np.ndarray, split: str) -> tuple[list, dict]:
    folder.mkdir(exist_ok=True)
    Image.fromarray(rgb).save(folder / f"{name}.png")
    result = wsi_engine.run(
        folder / f"{name}.png", folder / split, mpp=MPP, split_dab=split, measure=("shape",)
    )
    record = json.loads((result.folder / "run.json").read_bytes())
    nuclei = read_objects(result.folder / "nuclei.geojson.gz")
    return [item.geometry for item in nuclei], record


def recall(truth: np.ndarray, found: list) -> float:
    """The share of the true outlines with a found one of an IoU of one half or more."""
    tree, hits = shapely.STRtree(found), 0
    for outline in truth:
        shared = [outline.intersection(found[k]).area for k in tree.query(outline)]
        near = [found[k].area for k in tree.query(outline)]
        pairs = zip(shared, near, strict=True)
        hits += any(s / (outline.area + a - s) >= 0.5 for s, a in pairs)
    return hits / len(truth)


def test_the_nuclei_of_stained_glands_are_found(tmp_path):
    drawn = immunostained("cytoplasm", seed=2)
    glands = shapely.buffer(drawn.nuclei.polygons()[drawn.nuclei.kind == 0], 0)
    before, _ = found_in(tmp_path, "glands", drawn.rgb, "never")
    after, record = found_in(tmp_path, "glands", drawn.rgb, "auto")
    assert record["model"]["calibration"]["DAB split off"] == 1.0
    assert recall(glands, before) < 0.85
    assert recall(glands, after) > 0.95


def test_nuclei_that_are_brown_themselves_are_found_and_blue_ones_still_are(tmp_path):
    drawn = immunostained("nuclei", seed=2)
    polygons = shapely.buffer(drawn.nuclei.polygons(), 0)
    positive = drawn.dab > 0
    before, _ = found_in(tmp_path, "ki67", drawn.rgb, "never")
    after, _ = found_in(tmp_path, "ki67", drawn.rgb, "auto")
    assert recall(polygons[positive], before) < 0.5
    assert recall(polygons[positive], after) > 0.95
    assert recall(polygons[~positive], before) > 0.95
    assert recall(polygons[~positive], after) > 0.95
    assert len(after) < 1.05 * len(polygons)


def test_more_than_twice_as_many_are_found_in_a_real_image(tmp_path):
    image = skimage.data.immunohistochemistry()
    before, _ = found_in(tmp_path, "ihc", image, "never")
    after, _ = found_in(tmp_path, "ihc", image, "auto")
    assert len(after) > 2 * len(before) > 200


def test_the_page_relies_on_stains_that_were_shown_apart(tmp_path):
    image = skimage.data.immunohistochemistry()
    for split, level in (("never", "bad"), ("auto", "look")):
        found_in(tmp_path, "ihc", image, split)
        flags = json.loads((tmp_path / split / "ihc" / "quality.json").read_bytes())
        (stain,) = (flag for flag in flags["flags"] if flag["name"] == "stain")
        assert stain["level"] == level
        assert ("on haematoxylin and DAB apart" in stain["sentence"]) == (split == "auto")


def test_the_same_nuclei_are_found_whatever_the_tiles(tmp_path):
    drawn = immunostained("nuclei")
    drawn.write(tmp_path / "ki67.png")
    results = [
        wsi_engine.run(
            tmp_path / "ki67.png", tmp_path / str(size), mpp=MPP, tile_size=size, measure=("shape",)
        )
        for size in (128, 512)
    ]
    small, large = (read_objects(r.folder / "nuclei.geojson.gz") for r in results)
    assert len(small) == len(large) > 100
    same = {item.geometry.wkb for item in small} & {item.geometry.wkb for item in large}
    assert len(same) >= 0.99 * len(large)
