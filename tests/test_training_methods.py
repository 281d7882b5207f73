"""Every method that can be trained: it learns, goes on exactly, and is read as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.discs import config_of, draw_field, write_fields
from wsi_engine.errors import ModelError, SettingsError, TrainingError
from wsi_engine.models.learning import LabelledCrop
from wsi_engine.models.registry import available_models, find_model, find_training
from wsi_engine.training import train as training
from wsi_engine.training.batches import draw_crop
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.sampling import Source, Spot
from wsi_engine.training.train import Run, load_sources, train

TINY = {
    "starconvex": {"channels": [6, 8, 12], "features": 8, "rays": 8},
    "fcn": {"channels": [6, 8, 12]},
    "unet": {"channels": [6, 8, 12], "features": 8},
    "cnn-watershed": {"channels": [6, 8, 12], "features": 8},
    "two-stage": {"first": [4, 6, 8], "second": [6, 8, 12]},
    "contour-aware": {"channels": [6, 8, 12], "features": 8},
    "mask-rcnn": {"channels": [6, 8, 12], "features": 8, "box_features": 16, "mask_features": 8},
}
STEPS = 30

pytestmark = pytest.mark.parametrize("method", TINY)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fields(tmp_path_factory.mktemp("discs"))


def run_of(data: Path, method: str, output: Path, **changes: object) -> TrainConfig:
    """A short run of a tiny network, on crops as they are in life."""
    still = {
        "scale": [1, 1], "elastic_um": 0, "stain_vector": 0, "hematoxylin": [1, 1], "eosin": [1, 1],
        "white": [0, 0], "brightness": 0, "contrast": 0, "blur_px": 0, "noise": 0, "jpeg": 95,
    }  # fmt: skip
    return config_of(
        data, output=output, method=method, augment=still,
        **{"network": TINY[method], "steps": STEPS, "learning_rate": 0.02, "ema": 0.8,
           "decay_steps": 5, "validate_every": STEPS, "checkpoint_every": 5, "threads": 1,
           **changes},
    )  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def trained(data: Path, method: str, outputs: Path) -> Path:
    """The folder of a finished run; each is made once."""
    config = run_of(data, method, outputs / method)
    if not (config.output / "best.safetensors").exists():
        train(config)
    return config.output


def test_it_is_listed(method: str) -> None:
    trainable = {name for name, entry in available_models().items() if entry.training is not None}
    assert method in trainable <= TINY.keys()


def test_it_learns(method: str, data: Path, outputs: Path) -> None:
    log = trained(data, method, outputs) / "log.jsonl"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert len(losses) == STEPS
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])


def test_a_killed_run_ends_as_if_it_had_never_stopped(
    method: str, data: Path, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = trained(data, method, outputs)
    config = run_of(data, method, tmp_path / "run")
    take_step = training.training_step

    def die_at_12(run: Run, *rest: object) -> object:
        if run.step == 12:
            raise KeyboardInterrupt
        return take_step(run, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training, "training_step", die_at_12)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    resumed = train(config)
    assert resumed.weights.read_bytes() == (straight / "weights.safetensors").read_bytes()


def test_it_is_read_as_it_was_written(
    method: str, data: Path, outputs: Path, tmp_path: Path
) -> None:
    """What a person runs finds the nuclei that the run saw."""
    folder = trained(data, method, outputs)
    learner = run_of(data, method, folder).learner
    own = learner.model(folder / "weights.safetensors").with_threshold(0.3)
    image = draw_field(ord("a"))[0][None, ::2, ::2]
    maps = own.maps(image)
    seen = own.decode(maps[0])
    assert np.ptp(maps[0].astype(float)) > 0
    learner.write(tmp_path / "again.safetensors", _network_of(folder, data, method), 0.3)
    again = find_model(method).load(tmp_path / "again.safetensors")
    np.testing.assert_array_equal(again.maps(image), maps)
    found = again.decode(again.maps(image)[0])
    assert again.spec.name == method
    np.testing.assert_array_equal(found.xy, seen.xy)
    np.testing.assert_array_equal(found.scores, seen.scores)


def _network_of(folder: Path, data: Path, method: str) -> torch.nn.Module:
    network = run_of(data, method, folder).learner.network()
    content = torch.load(folder / "checkpoint.pt", weights_only=True)
    network.load_state_dict(content["average"])
    return network


def test_another_can_start_from_it(method: str, data: Path, outputs: Path, tmp_path: Path) -> None:
    folder = trained(data, method, outputs)
    path = folder / "weights.safetensors"
    slow = {"init": str(path), "learning_rate": 1e-9, "steps": 1, "ema": 0, "decay_steps": 0}
    config = run_of(data, method, tmp_path / "run", **slow, freeze_statistics=True)
    train(config)
    image = draw_field(5)[0][None, ::2, ::2]
    before, after = (
        config.learner.model(p).maps(image).astype(float)
        for p in (path, config.output / "weights.safetensors")
    )
    scale = 255 if before.max() > 100 else 1
    assert np.abs(after - before).max() < 0.03 * scale


def test_it_cannot_start_from_another_shape(
    method: str, data: Path, outputs: Path, tmp_path: Path
) -> None:
    path = trained(data, method, outputs) / "weights.safetensors"
    config = run_of(data, method, tmp_path / "run", init=str(path), network={})
    with pytest.raises(TrainingError, match=r"cannot start from .*weights\.safetensors"):
        train(config)


def test_nothing_known_is_nothing_to_learn(method: str, data: Path, tmp_path: Path) -> None:
    config = run_of(data, method, tmp_path)
    source = load_sources(config)[0][0]
    spot = Spot(Source(source.data, source.fields), source.fields[0])
    crop = draw_crop(spot, config, np.random.default_rng(0))[1]
    unknown = LabelledCrop(
        np.full_like(crop.labels, 65535), crop.peaks, crop.classes, crop.margin_px, crop.finer
    )
    learner, images = config.learner, torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    losses = [
        learner.loss(
            learner.network(), images, {k: torch.from_numpy(v) for k, v in targets.items()}
        ).total.item()
        for targets in (learner.targets([unknown]), learner.targets([crop]))
    ]
    assert losses[0] == 0
    assert losses[1] > 0


def test_its_recipe_is_its_own(method: str) -> None:
    name = "default" if method == "starconvex" else method.replace("-", "_")
    recipe = TrainConfig.load(Path(__file__).parents[1] / f"configs/train_{name}.yaml")
    default = TrainConfig.load(Path(__file__).parents[1] / "configs/train_default.yaml")
    assert recipe.method == method
    own = {"output", "method", "network", "learning"}
    assert recipe.model_dump(exclude=own) == default.model_dump(exclude=own)


def test_settings_of_another_method_are_refused(method: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        f"output: x\nmethod: {method}\nnetwork: {{dilation: 2}}\n"
        "data: [{name: a, images: a, labels: a, mpp: 1}]"
    )
    with pytest.raises(SettingsError, match=r"network\.dilation: Extra inputs"):
        TrainConfig.load(path)


def test_a_run_of_another_method_is_refused(method: str, data: Path, outputs: Path) -> None:
    other = next(name for name in TINY if name != method)
    config = run_of(data, other, trained(data, method, outputs))
    with pytest.raises(TrainingError, match="belongs to a run with another method"):
        train(config)


def test_one_that_learns_nothing_cannot_be_trained(method: str) -> None:
    with pytest.raises(ModelError, match=f"watershed cannot be trained here.*{method}"):
        find_training("watershed")


def test_a_start_takes_the_shape_of_the_weights(
    method: str, data: Path, outputs: Path, tmp_path: Path
) -> None:
    path = trained(data, method, outputs) / "weights.safetensors"
    document = run_of(data, method, tmp_path / "run", init=str(path), steps=1).model_dump()
    del document["network"]
    train(TrainConfig.model_validate(document))
    own, given = (find_model(method).load(p) for p in (tmp_path / "run/weights.safetensors", path))
    image = draw_field(5)[0][None, ::2, ::2]
    assert own.maps(image).shape == given.maps(image).shape
    assert own.spec == given.spec
