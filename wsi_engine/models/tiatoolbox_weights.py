"""TIAToolbox's networks and their weights: importing the one, fetching the others.

TIAToolbox brings some 200 packages and takes about ten seconds to import, so it is an extra,
and imported only where one of its networks is built, or its hub is asked.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from wsi_engine.errors import ModelError
from wsi_engine.installing import install_command
from wsi_engine.models.state_dict import read_state, require_fit


def architecture(name: str, module: str) -> Any:
    """Import a module of ``tiatoolbox.models.architecture`` for the model of a name.

    Raises
    ------
    ModelError
        When TIAToolbox is absent or broken.
    """
    return _imported(name, f"tiatoolbox.models.architecture.{module}")


def published_weights(name: str) -> Path:
    """Return the file of the published weights, which TIAToolbox downloads and keeps.

    Raises
    ------
    ModelError
        When TIAToolbox is absent, or they cannot be downloaded.
    """
    published = _imported(name, "tiatoolbox.models.architecture")
    try:
        return Path(published.fetch_pretrained_weights(name))
    except Exception as error:  # whatever the hub's client, its proxy or the disk raise
        cause = f"the weights of {name} cannot be downloaded ({type(error).__name__})"
        raise ModelError(f"{cause}: pass a weights file fetched elsewhere") from error


def with_weights(name: str, network: Any, weights: Path | None) -> tuple[Any, Path]:
    """Load weights into a network, and return it ready for inference, with their file.

    Parameters
    ----------
    weights
        State dict in a .pth, .pt, .tar or .safetensors file; ``None`` for the published weights.

    Raises
    ------
    ModelError
        When the weights cannot be downloaded or read, or do not fit the network.
    """
    import torch

    weights = published_weights(name) if weights is None else weights
    state = read_state(weights)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    require_fit(state, wanted, weights)
    network.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in state.items()})
    return network.eval().requires_grad_(False), weights


def _imported(name: str, module: str) -> Any:
    try:
        with logging_untouched():
            return import_module(module)
    except ImportError as error:
        cause = f"{name} needs TIAToolbox, which cannot be imported ({error})"
        raise ModelError(f"{cause}: {install_command('tiatoolbox')}") from error


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
