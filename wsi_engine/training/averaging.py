"""The mean of two networks of which one was trained on from the other.

    python -m wsi_engine.training.averaging RECIPE FIRST SECOND OUTPUT.safetensors [--share 0.8]

What a network learns late it pays for with some of what it knew before. Between the two weights
lie some that have most of both (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR
2022), and their network is no slower. The threshold is the best on the images that the recipe
holds out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_engine.errors import TrainingError
from wsi_engine.models.layers import folded
from wsi_engine.models.learning import Learner
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.train import load_sources
from wsi_engine.training.validate import ValidationSet, calibrated

if TYPE_CHECKING:
    from torch import nn


def average(
    learner: Learner,
    first: Path,
    second: Path,
    output: Path,
    held_out: Sequence[ValidationSet],
    *,
    share: float = 0.5,
) -> dict[str, float]:
    """Write the mean of two networks of one shape.

    Parameters
    ----------
    learner
        The method, with the shape of both networks.
    first, second
        Files of weights.
    output
        File that gets the mean.
    held_out
        Images on which the threshold is chosen.
    share
        Share of the second, from 0, the first alone, to 1.

    Returns
    -------
    dict
        Threshold, F1 and PQ of the mean on the images that are held out, by name.

    Raises
    ------
    ModelError
        If a file cannot be read, or its network has another shape.
    TrainingError
        If the share is none.
    """
    if not 0 <= share <= 1:
        raise TrainingError(f"{share} is no share of the second network: give 0 to 1")
    network = _mean(learner, first, second, share)
    learner.write(output, network, 0.5)
    model, figures = calibrated(learner.model(output), held_out)
    learner.write(output, network, model.threshold)
    return figures


def _mean(learner: Learner, first: Path, second: Path, share: float) -> nn.Module:
    network = learner.network()
    former, latter = (learner.trained(network, path) for path in (first, second))
    mean = folded(network)
    mean.load_state_dict({name: value.lerp(latter[name], share) for name, value in former.items()})
    return mean


def main() -> None:
    """Average what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="configuration of the second's training")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second, 0 to 1")
    arguments = parser.parse_args()
    config = TrainConfig.load(arguments.recipe)
    _, held_out = load_sources(config)
    figures = average(
        config.learner, arguments.first, arguments.second, arguments.output, held_out,
        share=arguments.share,
    )  # fmt: skip
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
