"""Any network that is trained here can be written in whole numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.test_models_dense import small_network
from wsi_engine.errors import TrainingError
from wsi_engine.models.dense.model import DenseModel
from wsi_engine.models.layers import folded
from wsi_engine.models.quantised import QuantisedNetwork
from wsi_engine.models.registry import DENSE
from wsi_engine.training.quantising import quantise


def images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(count)]


@pytest.fixture
def model() -> DenseModel:
    method = next(each for each in DENSE if each.spec.name == "fcn")
    return DenseModel(method, folded(small_network(method)), method.spec)


def test_a_network_in_whole_numbers_answers_nearly_the_same(
    model: DenseModel, tmp_path: Path
) -> None:
    quantise(model, images(6), tmp_path / "small.xml")
    assert {path.name for path in tmp_path.iterdir()} == {"small.xml", "small.bin"}
    batch = np.stack(images(2))
    found, wanted = QuantisedNetwork(tmp_path / "small.xml")(batch), model.maps(batch)
    assert found.dtype == wanted.dtype == np.uint8
    assert found.shape == wanted.shape
    assert "i8" in (tmp_path / "small.xml").read_text(), "weights are of 8 bits"
    apart = np.abs(found.astype(int) - wanted)
    assert wanted.std() > 4 * apart.mean()


def test_what_is_missing_is_told(model: DenseModel, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(TrainingError, match=r"without NNCF .*: pip install"):
        quantise(model, images(1), tmp_path / "small.xml")
