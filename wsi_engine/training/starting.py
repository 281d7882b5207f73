"""A network that starts from weights, shipped or one's own, in place of random ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from wsi_engine.errors import ModelError, SettingsError, TrainingError
from wsi_engine.models.learning import Learner, Thresholded
from wsi_engine.models.registry import find_model
from wsi_engine.training.batches import Batch
from wsi_engine.training.config import TrainConfig


def start_from(
    network: nn.Module, learner: Learner, init: Path | None, batches: Iterable[Batch]
) -> None:
    """Give a fresh network the weights of a trained one.

    Weights files hold no batch normalisation, it is folded into the convolutions. Here it is
    unfolded again: each normalisation gets the statistics that the trained network has on a
    few training crops, and the scale and shift that undo it. So the network says what the
    trained one says, and goes on from there as if it had always had them.

    Parameters
    ----------
    init
        File of weights; ``None`` for those that come with the package.
    batches
        Training crops to take the statistics on.

    Raises
    ------
    TrainingError
        If the weights cannot be read or are those of a network of another shape.
    """
    try:
        state = learner.trained(network, init)
    except ModelError as error:
        raise _cannot_start(init, error) from error
    with torch.no_grad():
        pairs = _normalised(network)
        for name, convolution, norm in pairs:
            convolution.weight.copy_(state[f"{name}.0.weight"])
            norm.bias.copy_(state[f"{name}.0.bias"])
        folded = {f"{name}.0" for name, _, _ in pairs}
        network.load_state_dict(
            {k: v for k, v in state.items() if k.rpartition(".")[0] not in folded}, strict=False
        )
        norms = [(convolution, norm) for _, convolution, norm in pairs]
        _unfold(network, learner, norms, batches)


def with_shape_of_init(config: TrainConfig) -> TrainConfig:
    """Return a run's configuration with the network of the weights that it starts from.

    Where the configuration states a network, or starts from none, it is returned as it is.

    Raises
    ------
    TrainingError
        If the weights cannot be read.
    SettingsError
        If the crops are not made of whole strides of that network.
    """
    if config.init is None or "network" in config.model_fields_set:
        return config
    try:
        network = config.learner.shape_of(file_of(config))
    except ModelError as error:
        raise _cannot_start(file_of(config), error) from error
    config = config.model_copy(update={"network": network})
    stride = config.learner.stride_px
    if config.crop_px % stride:
        raise SettingsError(
            f"crop_px is {config.crop_px}, no multiple of {stride}, the total stride of the "
            f"network of {config.init!r}"
        )
    return config


def file_of(config: TrainConfig) -> Path | None:
    """Return the weights that a run starts from; ``None`` for those that come with the package."""
    return None if config.init in (None, config.method) else Path(str(config.init))


def threshold_of_init(config: TrainConfig) -> float:
    """Return the threshold of the weights that a run starts from."""
    model = find_model(config.method).load(file_of(config))
    assert isinstance(model, Thresholded)
    return model.threshold


def _cannot_start(init: Path | None, error: ModelError) -> TrainingError:
    name = "the shipped weights" if init is None else repr(str(init))
    return TrainingError(
        f"the run cannot start from {name} ({error}): state a file of weights of the same shape, "
        "or leave the section network out"
    )


def _normalised(network: nn.Module) -> list[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Return the convolutions that are normalised, by name, in no particular order."""
    pairs = []
    for name, block in network.named_modules():
        if isinstance(block, nn.Sequential) and len(block) > 1:
            convolution, norm = block[0], block[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                pairs.append((name, convolution, norm))
    return pairs


def _unfold(
    network: nn.Module,
    learner: Learner,
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]],
    batches: Iterable[Batch],
) -> None:
    """Set statistics, scale and shift of each normalisation so that it changes nothing."""
    sums = {norm: torch.zeros(2, norm.num_features, dtype=torch.double) for _, norm in pairs}
    counts = dict.fromkeys(sums, 0)

    def look(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        values = inputs[0].double()
        sums[norm] += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]).to(
            sums[norm].device
        )
        counts[norm] += values.numel() // norm.num_features

    for _, norm in pairs:
        # For now it only adds the shift.
        norm.running_mean, norm.running_var = (
            torch.zeros_like(norm.bias), torch.full_like(norm.bias, 1 - norm.eps)
        )  # fmt: skip
        nn.init.ones_(norm.weight)
    hooks = [norm.register_forward_pre_hook(look) for norm in sums]
    network.eval()
    device = next(network.parameters()).device
    for batch in batches:
        seen = batch.to(device)
        learner.loss(network, seen.images, seen.targets)
    for hook in hooks:
        hook.remove()
    for norm, total in sums.items():
        mean, square = (total / max(1, counts[norm])).float().to(norm.bias.device)
        variance = (square - mean.square()).clamp_min(1e-6)
        norm.running_mean, norm.running_var = mean, variance
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)
    network.train()
