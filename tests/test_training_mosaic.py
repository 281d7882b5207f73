"""Four fields as one: each nucleus is whole, and its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.discs import config_of, draw_field
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.training.batches import draw_scene
from wsi_engine.training.datasets import DataSet
from wsi_engine.training.fields import Field, make_field
from wsi_engine.training.mosaic import mosaic
from wsi_engine.training.sampling import Source, Spot


@pytest.fixture(scope="module")
def fields() -> list[Field]:
    made = []
    for seed in range(4):
        image, labels = draw_field(seed)
        classes = np.full(int(labels.max()) + 1, seed, np.int16)
        made.append(make_field(f"{seed}", f"{seed}", image, labels, classes, mpp=0.25))
    return made


def known(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels[(labels != 0) & (labels != UNKNOWN)])


def test_every_quarter_is_a_field(fields: list[Field]) -> None:
    whole = mosaic(fields[0], fields, np.random.default_rng(0))
    assert whole.image.shape == (192, 192, 3)
    quarters = [whole.image[y : y + 96, x : x + 96] for y in (0, 96) for x in (0, 96)]
    for quarter in quarters:
        assert any(np.array_equal(quarter, field.image) for field in fields)
    assert any(np.array_equal(quarter, fields[0].image) for quarter in quarters)


def test_every_nucleus_keeps_its_shape_peak_and_class(fields: list[Field]) -> None:
    whole = mosaic(fields[0], fields, np.random.default_rng(1))
    assert len(whole.peaks) == len(whole.classes)
    found = 0
    for y in (0, 96):
        for x in (0, 96):
            quarter = np.s_[y : y + 96, x : x + 96]
            (field,) = {
                f.name: f for f in fields if np.array_equal(f.image, whole.image[quarter])
            }.values()
            for label in known(whole.labels[quarter]):
                mask = whole.labels[quarter] == label
                (own,) = np.unique(field.labels[mask])
                assert np.array_equal(mask, field.labels == own)
                assert whole.peaks[label] == field.peaks[own]
                assert whole.classes[label] == field.classes[own]
                assert (whole.labels == label).sum() == mask.sum()  # nowhere else
                found += 1
    assert found == len(known(whole.labels)) > 10


def test_what_is_cut_by_a_seam_is_unknown(fields: list[Field]) -> None:
    rims = 0
    for seed in range(8):
        labels = mosaic(fields[0], fields, np.random.default_rng(seed)).labels
        for seam in (labels[95:97], labels[:, 95:97]):
            assert not len(known(seam))
        rims += sum(len(known(rim)) for rim in (labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    assert rims > 0  # where four fields end there is no seam


def test_a_teacher_comes_along(fields: list[Field]) -> None:
    taught = [replace(f, taught=np.full((24, 24), k, np.uint8)) for k, f in enumerate(fields)]
    whole = mosaic(taught[2], taught, np.random.default_rng(0))
    assert whole.taught is not None
    for y in (0, 1):
        for x in (0, 1):
            (k,) = np.unique(whole.taught[24 * y : 24 * y + 24, 24 * x : 24 * x + 24])
            image = whole.image[96 * y : 96 * y + 96, 96 * x : 96 * x + 96]
            assert np.array_equal(image, fields[k].image)


def test_fields_of_another_size_are_passed_over(fields: list[Field]) -> None:
    small = replace(fields[1], image=fields[1].image[:64], labels=fields[1].labels[:64])
    rng = np.random.default_rng(0)
    assert mosaic(fields[0], [small], rng) is fields[0]
    whole = mosaic(fields[0], [small, fields[0]], rng)
    assert whole.image.shape == (192, 192, 3)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_a_crop_is_known_nearly_everywhere(
    fields: list[Field], tmp_path: Path, scale: float
) -> None:
    augment = {"scale": (scale, scale), "elastic_um": 0}
    crop = {"crop_px": 40, "network": {"channels": [4, 4, 8], "features": 4, "rays": 8}}
    data = DataSet(config_of(tmp_path).data[0], tuple(fields), np.full(3, 240.0))
    shares = {}
    for flag in (False, True):
        config = config_of(tmp_path, **crop, augment={**augment, "mosaic": flag})
        spot = Spot(Source(data, tuple(fields)), fields[0])
        scenes = [draw_scene(spot, config, np.random.default_rng(seed)) for seed in range(12)]
        shares[flag] = float(np.mean([1 - scene.unknown().mean() for scene in scenes]))
    assert shares[True] > 0.85
    if scale < 1:
        assert shares[True] > shares[False] + 0.2
