"""A network in whole numbers, made of trained weights and of the images it learnt from.

    python -m wsi_engine.training.quantising RECIPE WEIGHTS.safetensors OUTPUT.xml

The range of each layer's values is that of all training images together: cutting off what is rare
would double the error. What rounding adds on average is taken off again (Nagel et al., "A white
paper on neural network quantization", 2021, section 3.4). The first layer, whose pixels are exact,
and the last, whose distances are to a tenth of a pixel, stay as they are.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wsi_engine.errors import TrainingError
from wsi_engine.installing import install_command
from wsi_engine.models.layers import normalise
from wsi_engine.models.protocol import Model
from wsi_engine.models.torch_model import TorchModel
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.train import load_sources
from wsi_engine.training.validate import predict

FIELDS = 110
SIDE_PX = 256
"""So many pixels of a field are looked at, in both directions."""


class _FromPixels(nn.Module):
    """A network with what comes before and after it: uint8 pixels in, maps of them out."""

    def __init__(self, model: TorchModel) -> None:
        super().__init__()
        self.network = model.network
        self._answers = model.answers

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._answers(self.network(normalise(pixels)))


def quantise(model: TorchModel, images: Sequence[npt.NDArray[np.uint8]], output: Path) -> None:
    """Write a model's network in whole numbers, for `wsi_engine.models.quantised`.

    Parameters
    ----------
    model
        One whose network torch runs; on the CPU, in fp32.
    images
        What it is to be good at, uint8 (h, w, 3), at its pixel size, in whole strides.
    output
        ``.xml``; the weights go to the ``.bin`` beside it.

    Raises
    ------
    TrainingError
        Where NNCF, which does the work, is not installed.
    """
    try:
        import nncf
    except ImportError as error:
        raise TrainingError(
            f"a network cannot be quantised without NNCF ({error}): {install_command('quantise')}"
        ) from error
    import openvino
    from nncf.quantization import range_estimator
    from openvino.tools.ovc import convert_model

    widest = range_estimator.RangeEstimatorParameters(
        min=_statistic(range_estimator, "MIN"), max=_statistic(range_estimator, "MAX")
    )
    example = torch.from_numpy(np.array(images[0][None]))
    size = openvino.PartialShape([-1, -1, -1, 3])
    whole = convert_model(_FromPixels(model), example_input=example, input=[size])
    layers = [
        operation.get_friendly_name()
        for operation in whole.get_ordered_ops()
        if operation.get_type_name() == "Convolution"
    ]
    quantised = nncf.quantize(
        whole,
        nncf.Dataset([image[None] for image in images]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        fast_bias_correction=False,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=widest
        ),
        ignored_scope=nncf.IgnoredScope(names=[layers[0], layers[-1]]),
    )
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        draft = Path(scratch) / output.name
        openvino.save_model(quantised, draft)
        for suffix in (".bin", ".xml"):
            draft.with_suffix(suffix).replace(output.with_suffix(suffix))


def _statistic(range_estimator: Any, name: str) -> Any:
    """Return the smallest, or the largest, value over all images."""
    return range_estimator.StatisticsCollectorParameters(
        statistics_type=range_estimator.StatisticsType[name],
        aggregator_type=range_estimator.AggregatorType[name],
    )


def training_images(model: Model, config: TrainConfig) -> list[npt.NDArray[np.uint8]]:
    """Return what a model sees of the fields that a run learns from: as many of each set."""
    sources, _ = load_sources(config)
    images: list[npt.NDArray[np.uint8]] = []

    def look(batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        images.append(np.ascontiguousarray(batch[0, :SIDE_PX, :SIDE_PX]))
        return batch

    for source in sources:
        count = min(FIELDS // len(sources), len(source.fields))
        for k in np.linspace(0, len(source.fields) - 1, count).round().astype(int):
            field = source.fields[k]
            predict(model, field.image, field.mpp, maps_of=look)
    return images


def main() -> None:
    """Quantise what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path, help="configuration of the training")
    parser.add_argument("weights", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    config = TrainConfig.load(arguments.recipe)
    model = config.learner.model(arguments.weights)
    assert isinstance(model, TorchModel), "what is trained here is torch's"
    quantise(model, training_images(model, config), arguments.output)


if __name__ == "__main__":
    main()
