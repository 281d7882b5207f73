"""A network that starts from weights, shipped or one's own, in place of random ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from wsi_engine.errors import ModelError, SettingsError, TrainingError
from wsi_engine.models.starconvex import StarConvexModel, load_starconvex, load_weights
from wsi_engine.models.starconvex_network import StarConvexNet, describe, normalise
from wsi_engine.training.batches import Batch
from wsi_engine.training.config import NetworkConfig, TrainConfig

_SHIPPED = "starconvex"


def start_from(network: StarConvexNet, init: str, batches: Iterable[Batch]) -> None:
    """Give a fresh network the weights of a trained one.

    Weights files hold no batch normalisation, it is folded into the convolutions. Here it is
    unfolded again: each normalisation gets the statistics that the trained network has on a
    few training crops, and the scale and shift that undo it. So the network says what the
    trained one says, and goes on from there as if it had always had them.

    Classes that the trained network has by the same name are taken over, others start afresh.

    Parameters
    ----------
    init
        ``starconvex`` for the weights that come with the package, or a file.
    batches
        Training crops to take the statistics on.

    Raises
    ------
    TrainingError
        If the weights cannot be read or are those of a network of another shape.
    """
    trained = _load(init)
    assert isinstance(trained.network, StarConvexNet)
    _check_shape(network, trained.network, init)
    state = {name: value.float() for name, value in trained.network.state_dict().items()}
    _take_head(network, trained.network, state)
    with torch.no_grad():
        pairs = _normalised(network)
        for name, convolution, norm in pairs:
            convolution.weight.copy_(state[f"{name}.0.weight"])
            norm.bias.copy_(state[f"{name}.0.bias"])
        folded = {f"{name}.0" for name, _, _ in pairs}
        network.load_state_dict(
            {k: v for k, v in state.items() if k.rpartition(".")[0] not in folded}, strict=False
        )
        _unfold(network, [(convolution, norm) for _, convolution, norm in pairs], batches)


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
    trained = _load(config.init)
    assert isinstance(trained.network, StarConvexNet)
    shape = {name: fact for name, fact in describe(trained.network).items() if name != "classes"}
    network = NetworkConfig(**shape, mpp=trained.spec.mpp)
    if config.crop_px % network.stride_px:
        raise SettingsError(
            f"crop_px is {config.crop_px}, no multiple of {network.stride_px}, the total stride of "
            f"the network of {config.init!r}"
        )
    return config.model_copy(update={"network": network})


def _load(init: str) -> StarConvexModel:
    try:
        return load_starconvex() if init == _SHIPPED else load_weights(Path(init))
    except ModelError as error:
        raise TrainingError(
            f"cannot start from {init!r}: {error}: state init: {_SHIPPED}, or a weights file"
        ) from error


def _check_shape(network: StarConvexNet, trained: StarConvexNet, init: str) -> None:
    wanted, given = describe(network), describe(trained)
    for name in wanted:
        if name != "classes" and wanted[name] != given[name]:
            raise TrainingError(
                f"{init!r} has network.{name} {given[name]}, the run asks for {wanted[name]}: "
                "a run that starts from weights must have their shape"
            )


def _take_head(
    network: StarConvexNet, trained: StarConvexNet, state: dict[str, torch.Tensor]
) -> None:
    """Bring the last layer to the run's classes, in the run's order."""
    known = 1 + network.rays
    for name in ("head.weight", "head.bias"):
        own = network.state_dict()[name].detach().clone()
        own[:known] = state[name][:known]
        for k, kind in enumerate(network.classes):
            if kind in trained.classes:
                own[known + k] = state[name][known + trained.classes.index(kind)]
        state[name] = own


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
        network(normalise(batch.images.to(device)))
    for hook in hooks:
        hook.remove()
    for norm, total in sums.items():
        mean, square = (total / max(1, counts[norm])).float().to(norm.bias.device)
        variance = (square - mean.square()).clamp_min(1e-6)
        norm.running_mean, norm.running_var = mean, variance
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)
    network.train()
