"""Shipped networks in whole numbers: exact whatever the tile, and near to torch's."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wsi_engine
from wsi_engine.errors import ModelError
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.models import quantised
from wsi_engine.models.dense.model import DenseModel, load_dense
from wsi_engine.models.dense.shipped import QuantisedDense
from wsi_engine.models.quantised import QuantisedNetwork
from wsi_engine.models.registry import DENSE, find_model
from wsi_engine.models.starconvex.model import StarConvexModel, load_starconvex
from wsi_engine.models.starconvex.shipped import QuantisedStarConvex, load_shipped
from wsi_engine.models.starconvex.spec import DEFAULT, ShippedNetwork
from wsi_engine.models.torch_model import TorchModel
from wsi_engine.sample import SampleTruth

QUICK = {"tissue": False, "measure": (), "regions": False, "report": False}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Blobs of all sizes in stain colours, and noise."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:320, :320]
    image = np.full((320, 320, 3), (225, 175, 205), float)
    for _ in range(60):
        y, x = rng.uniform(0, 320, 2)
        image[np.hypot(rows - y, columns - x) < rng.uniform(4, 12)] = rng.uniform(
            (60, 40, 100), (130, 90, 170)
        )
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


STAR_CONVEX = (DEFAULT,)


@pytest.fixture(scope="module")
def model() -> QuantisedStarConvex:
    shipped = load_shipped()
    assert isinstance(shipped, QuantisedStarConvex)
    return shipped


SHIPPED = pytest.mark.parametrize("method", DENSE, ids=lambda method: method.spec.name)


@SHIPPED
class TestDense:
    """The shipped networks of dense methods."""

    def test_it_states_the_facts_of_the_trained_network(self, method) -> None:
        model, trained = find_model(method.spec.name).load(None), load_dense(method)
        assert isinstance(model, QuantisedDense)
        assert (model.spec, model.settings()) == (trained.spec, trained.settings())

    def test_neither_threads_nor_batch_nor_tile_change_a_bit(
        self, method, pixels, monkeypatch
    ) -> None:
        model = find_model(method.spec.name).load(None)
        whole = model.maps(pixels[None])[0]
        assert whole.dtype == np.uint8
        assert np.array_equal(model.maps(np.stack([pixels[::-1], pixels]))[1], whole)
        radius = method.network_radius_px
        part = model.maps(np.ascontiguousarray(pixels[None, 40:, 16:]))[0]
        assert np.array_equal(part[radius:, radius:], whole[40 + radius :, 16 + radius :])
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        again = pickle.loads(pickle.dumps(model))
        assert np.array_equal(again.maps(pixels[None])[0], whole)

    def test_it_is_close_to_the_trained_network(self, method, pixels) -> None:
        found = find_model(method.spec.name).load(None).maps(pixels[None]).astype(int)
        wanted = load_dense(method).maps(pixels[None])
        assert (wanted > 128).mean() > 0.02, "it sees nuclei"
        assert np.abs(found - wanted).mean() < 4

    def test_without_openvino_torch_runs_it(self, method, monkeypatch) -> None:
        monkeypatch.setattr("wsi_engine.models.dense.shipped.is_usable", lambda: False)
        assert isinstance(find_model(method.spec.name).load(None), DenseModel)


@pytest.mark.parametrize("shipped", STAR_CONVEX, ids=lambda shipped: shipped.spec.name)
def test_it_states_the_facts_of_the_trained_network(shipped: ShippedNetwork) -> None:
    model = find_model(shipped.spec.name).load(None)
    trained = load_starconvex(shipped=shipped)
    assert isinstance(model, QuantisedStarConvex)
    assert model.spec == shipped.spec == trained.spec
    assert (model.threshold, model.grid_px, model.consensus) == (
        trained.threshold,
        trained.grid_px,
        trained.consensus,
    )
    settings = {"threshold": shipped.threshold, "fading": 1.0}
    assert model.settings() == settings == trained.settings()


@pytest.mark.parametrize(("shipped", "most"), [(DEFAULT, 2e6)])
def test_the_files_are_small(shipped: ShippedNetwork, most: float) -> None:
    files = (shipped.quantised, shipped.quantised.with_suffix(".bin"))
    assert sum(file.stat().st_size for file in files) < most


def test_neither_threads_nor_batch_nor_tile_change_a_bit(model, pixels, monkeypatch) -> None:
    whole = model.maps(pixels[None])[0]
    assert whole.dtype == np.float32
    assert whole.shape == (160, 160, 33)
    batch = model.maps(np.stack([pixels[::-1], pixels]))
    assert np.array_equal(batch[1], whole)
    radius = model.spec.receptive_radius_px // 2
    part = model.maps(np.ascontiguousarray(pixels[None, 40:, 16:]))[0]
    assert np.array_equal(part[radius:, radius:], whole[20 + radius :, 8 + radius :])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert np.array_equal(load_shipped().maps(pixels[None])[0], whole)


def test_it_is_close_to_the_trained_network(model, pixels) -> None:
    trained = load_starconvex()
    assert isinstance(trained, StarConvexModel)
    found, wanted = model.maps(pixels[None])[0], trained.maps(pixels[None])[0]
    sure = wanted[..., 0] > 0
    assert sure.sum() > 500
    off = np.abs(found[..., 1:][sure].astype(float) - wanted[..., 1:][sure])
    assert np.median(off) < 0.15
    probability = [1 / (1 + np.exp(-maps[..., 0].astype(float))) for maps in (found, wanted)]
    assert np.abs(probability[0] - probability[1]).mean() < 0.01


def test_it_finds_the_nuclei_that_torch_finds(sample: SampleTruth, monkeypatch) -> None:
    found = wsi_engine.run(sample.slide_path, **QUICK).nuclei.polygons
    monkeypatch.setattr(quantised, "is_usable", lambda: False)
    monkeypatch.setattr("wsi_engine.models.starconvex.shipped.is_usable", lambda: False)
    assert isinstance(load_shipped(), StarConvexModel)
    wanted = wsi_engine.run(sample.slide_path, **QUICK, compile="never").nuclei.polygons
    same = int((polygon_overlaps(wanted, found).iou >= 0.5).sum())
    assert 2 * same / (len(found) + len(wanted)) >= 0.99


def test_workers_can_be_sent_it(model, pixels) -> None:
    sent = pickle.loads(pickle.dumps(load_shipped()))
    assert np.array_equal(sent.maps(pixels[None]), model.maps(pixels[None]))


@pytest.mark.parametrize("damage", ["truncated", "no weights", "absent"])
def test_a_damaged_file_is_told_in_one_sentence(tmp_path: Path, damage: str, pixels) -> None:
    path = tmp_path / "network.xml"
    if damage != "absent":
        text = DEFAULT.quantised.read_bytes()
        path.write_bytes(text[: len(text) // 2] if damage == "truncated" else text)
    with pytest.raises(ModelError) as told:
        QuantisedNetwork(path)(pixels[None])
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)


@pytest.mark.parametrize("model", ["starconvex", "unet"])
def test_a_run_on_the_processor_does_not_import_torch(
    sample: SampleTruth, tmp_path: Path, model: str
) -> None:
    program = (
        "import sys, wsi_engine\n"
        f"result = wsi_engine.run({str(sample.slide_path)!r}, {str(tmp_path)!r}, device='cpu', "
        f"model={model!r})\n"
        "assert result.count > 0\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_run_tells_nobody_of_itself(tmp_path: Path) -> None:
    # The converter that comes with openvino leaves an identity in the home and sends a notice.
    code = (
        "import sys, numpy\n"
        "from wsi_engine.models.starconvex.shipped import load_shipped\n"
        "load_shipped().maps(numpy.zeros((1, 64, 64, 3), numpy.uint8))\n"
        "assert 'openvino' in sys.modules\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HOME": str(tmp_path), "CI": ""},
        cwd=Path(wsi_engine.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert not (tmp_path / "intel").exists()


@pytest.mark.parametrize("name", ["starconvex", "unet"])
def test_a_threshold_that_was_set_goes_along_to_another_device(name, monkeypatch) -> None:
    monkeypatch.setattr(TorchModel, "to", lambda model, device: (model, device))
    moved, device = find_model(name).load(None).with_threshold(0.77).to("cuda:0")
    assert (moved.threshold, device) == (0.77, "cuda:0")
