"""Mask R-CNN with its weights, behind the engine's protocol."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wsi_engine.errors import ModelError
from wsi_engine.installing import install_command
from wsi_engine.models.layers import folded
from wsi_engine.models.map_model import MapModel
from wsi_engine.models.maskrcnn import decoding
from wsi_engine.models.maskrcnn.spec import CELL_PX, NAME, SLOTS, SPEC, WEIGHTS
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.torch_model import TorchModel, computed_nan
from wsi_engine.models.weight_file import read_description, read_tensors, write_network
from wsi_engine.nuclei.predictions import Predictions

WEIGHTS_KEY = NAME
"""Where a weights file keeps, as JSON, what its tensors do not say."""

_CPU = torch.device("cpu")
_NORMALISED = "backbone.stem.1.running_mean"


@dataclass(frozen=True)
class MaskRcnnModel(TorchModel, MapModel):
    """A trained Mask R-CNN, which looks at one tile after the other.

    Instances do not change; ``to`` returns another. Its maps are detections by cell; see
    `wsi_engine.models.maskrcnn.decoding.packed`.

    Attributes
    ----------
    network
        Folded, in the precision that it runs in.
    threshold
        Lowest score of a nucleus.
    """

    network: nn.Module
    spec: ModelSpec = SPEC
    threshold: float = 0.5
    device: torch.device = _CPU
    dtype: torch.dtype = torch.float32

    def _predict(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        from wsi_engine.models.maskrcnn.detection import detect

        height, width = batch.shape[1:3]
        shape = (len(batch), height // CELL_PX, width // CELL_PX, SLOTS, decoding.RECORD)
        maps = np.empty(shape, np.float16)
        with torch.inference_mode():
            for k in range(len(batch)):
                try:
                    maps[k] = detect(self.network, self._pixels(batch[k : k + 1]))
                except FloatingPointError:
                    raise computed_nan(NAME) from None
        return maps

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the detections of one tile into polygons."""
        return decoding.decode(maps, self.threshold)


def untrained(**shape: Any) -> nn.Module:
    """Build the network, its weights random; ``shape`` are arguments of `network.build`.

    Raises
    ------
    ModelError
        If torchvision cannot be imported.
    """
    try:
        from wsi_engine.models.maskrcnn.network import build
    # Where torchvision was built for another torch, its operators are missing.
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            f"{NAME} needs torchvision, which cannot be imported ({error}): "
            f"{install_command('maskrcnn')}"
        ) from error
    return build(**shape)


def save_weights(path: Path, network: nn.Module, *, threshold: float = 0.5) -> None:
    """Write a network, whose widths are those of its tensors."""
    write_network(path, network, WEIGHTS_KEY, {"threshold": threshold})


def load_mask_rcnn(weights: Path | None = None) -> MaskRcnnModel:
    """Load Mask R-CNN, on the CPU in fp32.

    Parameters
    ----------
    weights
        What `save_weights` wrote, or the state dict of a network of `network.build` that was
        trained elsewhere, as ``.safetensors``, or as ``.pth`` or ``.pt``, bare or under
        ``model``; its widths are those of the tensors. ``None`` for what comes with the package.

    Raises
    ------
    ModelError
        If torchvision cannot be imported, the package has no weights yet, or the file is
        missing, or holds something else.
    """
    path = WEIGHTS if weights is None else weights
    if weights is None and not path.exists():
        raise ModelError(
            f"the weights of {NAME} are not shipped yet: train them with `wsi-engine train "
            "configs/train_mask_rcnn.yaml` and give them with --weights FILE"
        )
    untrained()  # what is missing is said before anything else
    from wsi_engine.models.maskrcnn.network import shape_in

    state, threshold = _read(path)
    try:
        network = untrained(**shape_in(state))
        network = network.eval() if _NORMALISED in state else folded(network)
        network.load_state_dict(state)
    except KeyError as error:
        raise ModelError(f"{path} holds no {NAME} network: it lacks {error}") from error
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        first = str(error).partition("\n\t")[2].partition("\n")[0] or str(error)
        raise ModelError(f"{path} holds no {NAME} network: {first.rstrip('. ')}") from error
    return MaskRcnnModel(folded(network), threshold=threshold)


def _read(path: Path) -> tuple[Mapping[str, torch.Tensor], float]:
    """Return the tensors of a weights file by name, and the threshold. No code in it is run."""
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}")
    threshold = 0.5
    try:
        if path.suffix == ".safetensors":
            state: Any = read_tensors(path)
            with contextlib.suppress(KeyError):  # of a network that was trained elsewhere
                threshold = float(read_description(path, WEIGHTS_KEY)["threshold"])
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # reading a damaged file can raise anything
        raise ModelError(f"{path} is no weights file ({type(error).__name__})") from error
    state = state.get("model", state) if isinstance(state, dict) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict: save the network's state_dict()")
    return {str(name): value.float() for name, value in state.items()}, threshold
