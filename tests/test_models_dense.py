"""Dense methods behind the engine's protocol: networks, weights, what is said without any."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests.support.dense_maps import MARGIN_PX, label_discs
from wsi_engine.errors import ModelError
from wsi_engine.models.dense.method import WEIGHTS_KEY
from wsi_engine.models.dense.model import DenseModel, load_dense, save_weights, untrained
from wsi_engine.models.layers import folded, normalise
from wsi_engine.models.registry import DENSE, find_model

CPU = "cpu"
LARGEST_MB = 6

SMALL = {
    "fcn": {"channels": (4, 6, 8)},
    "two-stage": {"first": (4, 4, 6), "second": (4, 6, 8)},
} | {
    name: {"channels": (4, 6, 8), "features": 4}
    for name in ("unet", "cnn-watershed", "contour-aware")
}

METHODS = pytest.mark.parametrize("method", DENSE, ids=lambda method: method.spec.name)


def small_network(method) -> torch.nn.Module:
    """A network with random weights and random statistics."""
    torch.manual_seed(0)
    network = untrained(method, SMALL[method.spec.name])
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def write_weights(method, path: Path, **description: object) -> Path:
    save_weights(path, method, small_network(method), shape=SMALL[method.spec.name], **description)
    return path


def pixels(height: int, width: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture
def model(method, tmp_path: Path) -> DenseModel:
    return load_dense(method, write_weights(method, tmp_path / "small.safetensors", threshold=0.4))


@METHODS
class TestNetwork:
    def test_folding_changes_nothing(self, method) -> None:
        network, x = small_network(method), normalise(torch.from_numpy(pixels(64, 64)))
        with torch.no_grad():
            assert torch.allclose(network(x), folded(network)(x), atol=1e-4)

    def test_the_receptive_radius_is_what_it_says(self, method) -> None:
        """Nothing farther than the radius changes an answer; just within, something does."""
        network = folded(small_network(method)).double()
        for parameter in network.parameters():
            parameter.data.abs_()  # so that no path is cut by a ReLU
        radius, middle = method.network_radius_px, -(-method.network_radius_px // 8) * 8 + 8
        x = torch.rand(1, 3, 2 * middle, 2 * middle, dtype=torch.double, requires_grad=True)
        reach = 0.0
        for at in range(middle, middle + method.spec.stride):  # all phases of the pooling
            _linear(network, x)[0, -1, at, at].backward()
            touched = torch.nonzero(x.grad.abs().sum((0, 1))).double()
            reach = max(reach, float((touched - at).abs().max()))
            x.grad = None
        assert radius - method.spec.stride <= reach <= radius

    def test_weights_are_small(self, method) -> None:
        count = sum(parameter.numel() for parameter in untrained(method).parameters())
        assert 2 * count < LARGEST_MB * 1e6

    def test_a_step_of_training_lowers_the_loss(self, method) -> None:
        torch.manual_seed(0)
        network = untrained(method, SMALL[method.spec.name]).train()
        labels = label_discs(64, (20, 20, 8), (36, 20, 8), (40, 44, 10))
        learnt = method.targets(labels, margin_px=MARGIN_PX)
        inside = labels[2 * MARGIN_PX : -2 * MARGIN_PX : 2, 2 * MARGIN_PX : -2 * MARGIN_PX : 2]
        image = np.where((inside > 0)[..., None], (90, 60, 150), (235, 190, 215)).astype(np.uint8)
        x = normalise(torch.from_numpy(image[None]))
        maps, weights = (torch.from_numpy(a[None]) for a in (learnt.maps, learnt.weights))
        optimiser = torch.optim.AdamW(network.parameters(), 0.01)
        losses = []
        for _ in range(20):
            loss = method.loss(network(x), maps, weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < 0.85 * losses[0]
        assert all(p.grad is not None for p in network.parameters()), "all of it learns"

    def test_nothing_known_is_nothing_to_learn(self, method) -> None:
        learnt = method.targets(label_discs(32, (16, 16, 6)), margin_px=MARGIN_PX)
        logits = torch.randn(1, learnt.maps.shape[-1], 32, 32)
        maps, weights = (torch.from_numpy(a[None]) for a in (learnt.maps, learnt.weights))
        assert method.loss(logits, maps, 0 * weights).item() == 0
        assert method.loss(logits, maps, weights).item() > 0


def _linear(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the network computes, its stages joined without what keeps gradients apart."""
    if not hasattr(network, "second"):
        return network(x)
    return network.second(torch.cat([x, network.first(x)], dim=1))


@METHODS
class TestModel:
    def test_maps_are_a_byte_for_every_pixel(self, method, model) -> None:
        maps = model.to(CPU).maps(pixels(64, 80, count=2))
        assert maps.dtype == np.uint8
        assert maps.shape[:3] == (2, 64, 80)
        assert maps.shape[3] <= 2

    def test_a_tile_sees_what_its_neighbour_sees(self, method, model) -> None:
        radius = method.network_radius_px
        image = pixels(2 * radius + 32, 2 * radius + 40)
        left, right = model.maps(image[:, :, :-8])[0], model.maps(image[:, :, 8:])[0]
        inner = slice(radius, -radius)
        apart = np.abs(left[:, 8:][inner, inner].astype(int) - right[:, :-8][inner, inner])
        assert apart.max() <= 1, "rounding may differ, what is seen may not"

    def test_the_batch_does_not_matter(self, method, model) -> None:
        batch = pixels(64, 64, count=3)
        apart = model.maps(batch)[1].astype(int) - model.maps(batch[1:2])[0]
        assert np.abs(apart).max() <= 1

    def test_the_same_batch_gives_the_same_bytes(self, method, model) -> None:
        batch = pixels(64, 64, count=2)
        assert model.maps(batch).tobytes() == model.maps(batch).tobytes()

    @pytest.mark.filterwarnings("error")
    def test_tiles_may_be_read_only(self, method, model) -> None:
        batch = pixels(64, 64)
        batch.flags.writeable = False
        assert model.maps(batch).shape[:3] == (1, 64, 64)

    def test_tiles_that_break_the_stride_are_refused(self, method, model) -> None:
        with pytest.raises(ModelError, match="multiples of 8 px, not 60 x 64"):
            model.maps(pixels(64, 60))

    def test_numbers_that_are_none_are_an_error(self, method, model) -> None:
        for parameter in model.network.parameters():
            parameter.data.fill_(float("nan"))
        with pytest.raises(ModelError, match="computed NaN: its weights are damaged"):
            model.maps(pixels(64, 64))

    def test_half_precision_weights_answer_alike(self, method, model) -> None:
        exact = DenseModel(method, folded(small_network(method)), method.spec)
        apart = model.maps(pixels(64, 64)).astype(int) - exact.maps(pixels(64, 64))
        assert np.abs(apart).max() <= 4

    def test_moving_leaves_the_original_alone(self, method, model) -> None:
        model.to(CPU)
        assert {p.dtype for p in model.network.parameters()} == {torch.float32}

    def test_the_slide_changes_nothing(self, method, model) -> None:
        assert model.calibrate(pixels(64, 64, count=4)) is model
        assert model.settings() == {"threshold": pytest.approx(0.4)}
        assert replace(model, threshold=0.7).settings() == {"threshold": 0.7}

    def test_it_can_be_compiled(self, method, model) -> None:
        compilation = model.compilation(1, 64)
        assert compilation is not None
        assert compilation.shape == (1, 3, 64, 64)
        assert model.with_network(torch.nn.Identity()).spec is model.spec


@METHODS
class TestWeights:
    def test_without_any_it_says_how_to_get_them(self, method) -> None:
        if method.spec.embedded:
            assert find_model(method.spec.name).load(None).spec is method.spec
            return
        name = method.spec.name
        with pytest.raises(ModelError, match=f"{name} are not shipped yet: .*--weights FILE"):
            find_model(name).load(None)

    def test_they_are_found_by_the_methods_name(self, method, tmp_path: Path) -> None:
        path = write_weights(method, tmp_path / "w.safetensors")
        assert find_model(method.spec.name).load(path).spec is method.spec

    @pytest.mark.parametrize("content", [b"", b"nonsense", None])
    def test_a_file_that_holds_something_else(self, method, tmp_path: Path, content) -> None:
        path = tmp_path / "other.safetensors"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=f"holds no {method.spec.name} network"):
            load_dense(method, path)

    def test_those_of_another_method(self, method, tmp_path: Path) -> None:
        other = next(m for m in DENSE if m is not method)
        path = write_weights(other, tmp_path / "other.safetensors")
        with pytest.raises(ModelError, match=f"it holds weights of '{other.spec.name}'"):
            load_dense(method, path)

    @pytest.mark.parametrize(
        "shape",
        [{}, [], None, {"channels": (1, 2)}, {"channels": (4, 6, 10**9)}, {"outputs": 7}],
        ids=str,
    )
    def test_a_description_that_is_none(self, method, tmp_path: Path, shape) -> None:
        description = {"method": method.spec.name, "shape": shape, "threshold": 0.5}
        path = tmp_path / "w.safetensors"
        state = {k: v.contiguous() for k, v in small_network(method).state_dict().items()}
        path.write_bytes(save(state, metadata={WEIGHTS_KEY: json.dumps(description)}))
        with pytest.raises(ModelError, match="holds no"):
            load_dense(method, path)
