"""Training that starts from weights goes on from where they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.discs import config_of, draw_field, write_fields
from wsi_engine.errors import SettingsError, TrainingError
from wsi_engine.models.dense.model import load_dense
from wsi_engine.models.layers import normalise
from wsi_engine.models.starconvex.model import load_starconvex, load_weights
from wsi_engine.models.starconvex.network import StarConvexNet
from wsi_engine.training.batches import make_batch
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.sampling import Sampler
from wsi_engine.training.starting import start_from, with_shape_of_init
from wsi_engine.training.train import load_sources, train

SHAPES = {
    "as the default": {"channels": [4, 4, 8], "features": 4, "rays": 8},
    "finer and residual": {
        "channels": [4, 4, 6, 8], "features": 4, "rays": 8, "mpp": 0.25, "grid_px": 2,
        "depth": 3, "residual": True, "pixel_features": 4,
    },
}  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_fields(tmp_path)


def shaken(network: StarConvexNet) -> StarConvexNet:
    """Give a fresh network statistics, scales and shifts of its own."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
    return network


def trained(config: TrainConfig, path: Path, classes: tuple[str, ...] = ()) -> Path:
    learner = config.model_copy(update={"classes": classes}).learner
    learner.write(path, shaken(learner.network()), threshold=0.4)
    return path


def started(config: TrainConfig, init: Path) -> tuple[StarConvexNet, torch.Tensor]:
    """A network that started from weights, and pixels of the crops that it saw."""
    sampler = Sampler(load_sources(config)[0])
    crops = [make_batch(sampler, config, step) for step in range(3)]
    network = config.learner.network()
    start_from(network, config.learner, init, crops)
    return network, normalise(torch.cat([crop.images for crop in crops]))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
class TestStart:
    def test_it_says_what_the_weights_say(self, data: Path, shape: dict[str, object]) -> None:
        config = config_of(data, network=shape)
        path = trained(config, data / "own.safetensors")
        network, pixels = started(config, path)
        with torch.no_grad():
            wanted = load_weights(path).network(pixels)
            torch.testing.assert_close(network.eval()(pixels), wanted, atol=2e-3, rtol=2e-3)

    def test_and_so_it_does_with_the_statistics_of_a_batch(
        self, data: Path, shape: dict[str, object]
    ) -> None:
        """Training does not begin with a jump, as it would with statistics of 0 and 1."""
        config = config_of(data, network=shape)
        path = trained(config, data / "own.safetensors")
        network, pixels = started(config, path)
        with torch.no_grad():
            wanted = load_weights(path).network(pixels)
            torch.testing.assert_close(network.train()(pixels), wanted, atol=1e-2, rtol=1e-2)

    def test_a_run_begins_there(self, data: Path, shape: dict[str, object]) -> None:
        config = config_of(data, network=shape)
        path = trained(config, data / "own.safetensors")
        slow = {"network": shape, "init": str(path), "learning_rate": 1e-9, "steps": 1, "ema": 0}
        frozen = train(config_of(data, **slow, freeze_statistics=True, output=data / "frozen"))
        pixels = normalise(torch.from_numpy(draw_field(5)[0][None]))
        with torch.no_grad():
            wanted = load_weights(path).network(pixels)
            given = load_weights(frozen.weights).network(pixels)
        torch.testing.assert_close(given, wanted, atol=0.02, rtol=0.02)


def test_frozen_statistics_stay(data: Path) -> None:
    path = trained(config_of(data), data / "own.safetensors")
    fixed = {"init": str(path), "freeze_statistics": True}
    results = [
        train(config_of(data, **fixed, steps=steps, output=data / f"{steps}")) for steps in (1, 4)
    ]
    first, last = (torch.load(r.checkpoint, weights_only=True)["network"] for r in results)
    names = [name for name in first if "running" in name]
    assert names
    assert all(torch.equal(first[name], last[name]) for name in names)


def test_known_classes_are_taken_over(data: Path) -> None:
    config = config_of(data)
    path = trained(config, data / "own.safetensors", classes=("Tumor", "Immune"))
    classed = config.model_copy(update={"classes": ("Immune", "Stroma")})
    learner = classed.learner
    network = learner.network()
    before = network.head.weight.detach().clone()
    crops = [make_batch(Sampler(load_sources(config)[0]), classed, 0)]
    start_from(network, learner, path, crops)
    head = load_weights(path).network.head
    rays = network.rays
    torch.testing.assert_close(network.head.weight[: 1 + rays], head.weight[: 1 + rays])
    torch.testing.assert_close(network.head.weight[1 + rays], head.weight[2 + rays])
    torch.testing.assert_close(network.head.weight[2 + rays], before[2 + rays])


def test_the_shipped_weights_have_the_default_shape(data: Path) -> None:
    config = config_of(data, network={}, crop_px=32)
    network = config.learner.network()
    crops = [make_batch(Sampler(load_sources(config)[0]), config, 0)]
    start_from(network, config.learner, None, crops)
    pixels = normalise(torch.from_numpy(draw_field(5)[0][None]))
    with torch.no_grad():
        wanted = load_starconvex().network(pixels)
        torch.testing.assert_close(network.eval()(pixels), wanted, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("starconvex", "has network.channels .* the run asks for"),
        ("nowhere.safetensors", "cannot start from 'nowhere.safetensors'"),
    ],
)
def test_weights_that_do_not_fit(data: Path, init: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train(config_of(data, init=init))


class TestShapeOfTheWeights:
    """A run that starts from weights need not state their network."""

    def config(self, data: Path, init: Path, **changes: object) -> TrainConfig:
        document = config_of(data, init=str(init), **changes).model_dump()
        del document["network"]
        return TrainConfig.model_validate(document)

    def weights(self, data: Path) -> Path:
        shape = SHAPES["finer and residual"]
        return trained(config_of(data, network=shape), data / "own.safetensors")

    def test_it_is_taken(self, data: Path) -> None:
        result = train(self.config(data, self.weights(data), steps=1))
        own, given = load_weights(result.weights), load_weights(self.weights(data))
        assert own.spec == given.spec
        assert own.network.channels == (4, 4, 6, 8)

    def test_a_run_goes_on_without_the_file(self, data: Path) -> None:
        path = self.weights(data)
        train(self.config(data, path, steps=2))
        path.unlink()
        result = train(self.config(data, path, steps=4))
        assert torch.load(result.checkpoint, weights_only=True)["step"] == 4

    def test_crops_must_suit_it(self, data: Path) -> None:
        path = self.weights(data)
        with pytest.raises(SettingsError, match="crop_px is 40, no multiple of 16"):
            train(self.config(data, path, crop_px=40))

    def test_what_is_stated_counts(self, data: Path) -> None:
        with pytest.raises(TrainingError, match=r"has network\.channels"):
            train(config_of(data, init=str(self.weights(data))))


@pytest.mark.parametrize("method", ["unet", "fcn", "cnn-watershed", "two-stage", "contour-aware"])
def test_so_have_those_of_the_other_methods(data: Path, method: str) -> None:
    """`init` with the name of a method starts from what is shipped of it."""
    document = config_of(data, method=method, init=method, network={}).model_dump()
    del document["network"]
    config = with_shape_of_init(TrainConfig.model_validate(document))
    network = config.learner.network()
    crops = [make_batch(Sampler(load_sources(config)[0]), config, 0)]
    start_from(network, config.learner, None, crops)
    pixels = normalise(torch.from_numpy(draw_field(5)[0][None]))
    with torch.no_grad():
        wanted = load_dense(config.learner.method).network(pixels)
        torch.testing.assert_close(network.eval()(pixels), wanted, atol=2e-2, rtol=2e-2)


def test_what_it_starts_from_is_measured_and_stays_the_best(data: Path) -> None:
    """Training that only harms is noticed, and does no harm."""
    good = train(config_of(data, steps=60, learning_rate=0.02, validate_every=60))
    ruined = config_of(data, init=str(good.best), output=data / "second", learning_rate=5.0,
                       steps=3, warmup_steps=1, validate_every=3)  # fmt: skip
    result = train(ruined)
    assert result.f1_before is not None
    assert result.f1_before == pytest.approx(good.f1, abs=0.1)
    assert result.f1 < result.f1_before
    first = json.loads((data / "second/log.jsonl").read_text().splitlines()[0])
    assert (first["step"], first["validation/f1"]) == (0, result.f1_before)
    image = draw_field(5)[0][None]
    kept, began = (
        load_weights(path).maps(image).astype(float) for path in (result.best, good.best)
    )
    assert np.abs(kept - began).max() < 0.05 * max(1, np.abs(began).max())
