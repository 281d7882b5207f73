"""TIAToolbox's networks and their weights: importing the one, finding and reading the others.

TIAToolbox brings some 200 packages and takes about ten seconds to import, so it is an extra,
and imported only when one of its models is loaded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from wsi_engine.errors import ModelError
from wsi_engine.installing import install_command

SHOWN = 3  # mismatching keys that an error names


def architecture(name: str, module: str) -> Any:
    """Import a module of ``tiatoolbox.models.architecture`` for the model of a name.

    Raises
    ------
    ModelError
        When TIAToolbox is absent or broken.
    """
    try:
        with logging_untouched():
            return import_module(f"tiatoolbox.models.architecture.{module}")
    except ImportError as error:
        cause = f"{name} needs TIAToolbox, which cannot be imported ({error})"
        raise ModelError(f"{cause}: {install_command('tiatoolbox')}") from error


def with_weights(name: str, network: Any, weights: Path | None) -> tuple[Any, Path]:
    """Load weights into a network, and return it ready for inference, with their file.

    Parameters
    ----------
    weights
        State dict in a .pth, .pt, .tar or .safetensors file; ``None`` for the published
        weights, which TIAToolbox downloads and keeps in its own cache.

    Raises
    ------
    ModelError
        When the weights cannot be downloaded or read, or do not fit the network.
    """
    if weights is None:
        try:
            published = import_module("tiatoolbox.models.architecture")
            weights = Path(published.fetch_pretrained_weights(name))
        except Exception as error:  # whatever the hub's client, its proxy or the disk raise
            cause = f"the weights of {name} cannot be downloaded ({type(error).__name__})"
            raise ModelError(f"{cause}: pass a weights file fetched elsewhere") from error
    fit(network, read_state(weights), weights)
    return network.eval().requires_grad_(False), weights


@contextmanager
def logging_untouched() -> Iterator[None]:
    """Undo what importing TIAToolbox does to the program's logging: INFO to standard output."""
    root = logging.getLogger()
    level, handlers, showwarning = root.level, root.handlers[:], warnings.showwarning
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        if warnings.showwarning is not showwarning:
            logging.captureWarnings(capture=False)


def read_state(path: Path) -> Mapping[str, torch.Tensor]:
    """Read a state dict; what else a pickle holds is not made."""
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a damaged file can raise anything
        raise ModelError(f"{path} is no weights file ({type(error).__name__})") from error
    # The authors' own checkpoints wrap the state dict.
    state = state.get("desc", state) if isinstance(state, dict) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict: save the network's state_dict()")
    return dict(state)


def fit(network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load the weights, or name the first keys that do not match."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    problems = [
        f"{key} ({found.get(key, 'none')} in the file, {wanted.get(key, 'none')} in the network)"
        for key in wanted | found
        if found.get(key) != wanted.get(key)
    ]
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        shown = ", ".join(problems[:SHOWN]) + more
        raise ModelError(f"the weights {path} do not fit the network: {shown}")
    network.load_state_dict(state)
