"""The mean of two networks, with the threshold that suits what is held out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.discs import config_of, write_fields
from wsi_engine.errors import ModelError, TrainingError
from wsi_engine.models.learning import THRESHOLDS
from wsi_engine.models.starconvex.model import load_weights
from wsi_engine.training.averaging import average, main
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.train import load_sources


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return config_of(write_fields(tmp_path))


def weights(config: TrainConfig, path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config.learner.write(path, config.learner.network(), threshold=0.4)
    return path


def state(path: Path) -> dict[str, torch.Tensor]:
    return load_weights(path).network.state_dict()


@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_each_weight_lies_between_the_two(config, tmp_path, share) -> None:
    first, second = (weights(config, tmp_path / f"{k}.safetensors", k) for k in (1, 2))
    figures = average(
        config.learner, first, second, tmp_path / "mean.safetensors", load_sources(config)[1],
        share=share,
    )  # fmt: skip
    found, former, latter = map(state, (tmp_path / "mean.safetensors", first, second))
    assert not torch.equal(former["head.weight"], latter["head.weight"])
    for name, value in found.items():
        wanted = (1 - share) * former[name] + share * latter[name]
        torch.testing.assert_close(value, wanted, atol=2e-3, rtol=2e-3)
    assert figures["threshold"] in THRESHOLDS
    assert load_weights(tmp_path / "mean.safetensors").threshold == figures["threshold"]


def test_networks_of_two_shapes_have_no_mean(config, tmp_path) -> None:
    wider = config_of(tmp_path, network={"channels": [4, 4, 12], "features": 4, "rays": 8})
    first = weights(config, tmp_path / "first.safetensors", 1)
    second = weights(wider, tmp_path / "second.safetensors", 2)
    with pytest.raises(ModelError, match=r"it has network\.channels"):
        average(config.learner, first, second, tmp_path / "mean.safetensors", ())
    assert not (tmp_path / "mean.safetensors").exists()


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_nothing_and_all(config, tmp_path, share) -> None:
    with pytest.raises(TrainingError, match=f"{share} is no share of the second network"):
        average(config.learner, tmp_path, tmp_path, tmp_path, (), share=share)


def test_the_command_line_says_how_good_it_is(config, tmp_path, capsys, monkeypatch) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(config.model_dump_json())
    files = [weights(config, tmp_path / f"{k}.safetensors", k) for k in (1, 2)]
    output = tmp_path / "mean.safetensors"
    monkeypatch.setattr("sys.argv", ["averaging", *map(str, (recipe, *files, output))])
    main()
    assert output.exists()
    assert "threshold" in capsys.readouterr().out
