"""The star-convex network: nuclei as polygons straight from the decoder.

Schmidt et al., "Cell Detection with Star-convex Polygons", MICCAI 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wsi_engine.errors import ModelError
from wsi_engine.models.layers import folded
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.starconvex.decoding import CONSENSUS_POINTS, GRID_PX
from wsi_engine.models.starconvex.network import StarConvexNet, describe, rebuild
from wsi_engine.models.starconvex.reading import StarConvexMaps
from wsi_engine.models.starconvex.spec import (
    DEFAULT,
    LARGEST_OBJECT_PX,
    SPEC,
    ShippedNetwork,
)
from wsi_engine.models.torch_model import CompilableTorchModel
from wsi_engine.models.weight_file import (
    NO_NETWORK,
    read_description,
    read_tensors,
    write_network,
)
from wsi_engine.slide.normalisation.methods import SplitDab

WEIGHTS_KEY = "starconvex"
"""Where a weights file keeps, as JSON, what is needed to rebuild its network."""

# Both are lengths in life, so they do not depend on the network's pixels.
_CONSENSUS_UM = 2.0
_LARGEST_OBJECT_UM = 40.0

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class StarConvexModel(CompilableTorchModel, StarConvexMaps):
    """A trained star-convex network behind the engine's protocol, run by torch.

    Instances do not change; ``to`` returns others.

    Attributes
    ----------
    network
        Folded, in the precision that it runs in.
    """

    network: nn.Module
    spec: ModelSpec
    threshold: float
    grid_px: int = GRID_PX
    consensus: int = CONSENSUS_POINTS
    largest_density: float | None = None
    fading: float = 1.0
    dab: SplitDab = "auto"
    splits_dab: bool = False
    device: torch.device = _CPU
    dtype: torch.dtype = torch.float32

    def _predict(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        with torch.inference_mode():
            maps = self.answers(self.network(self._pixels(batch))).to(torch.float16)
            return np.asarray(maps.contiguous().cpu().numpy())


def save_weights(
    path: Path, network: StarConvexNet, *, mpp: float, threshold: float, max_overlap: float
) -> None:
    """Write a network with what is needed to rebuild it."""
    description = {
        **describe(network),
        "mpp": mpp,
        "consensus_points": max(1, round(_CONSENSUS_UM / (network.grid_px * mpp))),
        "largest_object_px": round(_LARGEST_OBJECT_UM / mpp),
        "threshold": threshold,
        "max_overlap": max_overlap,
    }
    write_network(path, network, WEIGHTS_KEY, description)


def load_weights(path: Path, *, embedded: bool = False, base: ModelSpec = SPEC) -> StarConvexModel:
    """Read a network that `save_weights` wrote, on the CPU in fp32.

    Parameters
    ----------
    base
        The facts that the file does not state: name, summary, licence.

    Raises
    ------
    ModelError
        If the file is missing or holds something else.
    """
    try:
        description = read_description(path, WEIGHTS_KEY)
        unfolded = rebuild(description)
        network = folded(unfolded)
        network.load_state_dict(read_tensors(path))
        consensus = int(description.get("consensus_points", CONSENSUS_POINTS))
        largest = int(description.get("largest_object_px", LARGEST_OBJECT_PX))
        spec = replace(
            base,
            mpp=float(description["mpp"]),
            stride=unfolded.stride_px,
            receptive_radius_px=unfolded.radius_px + consensus * unfolded.grid_px,
            largest_object_px=largest,
            reach_px=largest // 2,
            max_overlap=float(description["max_overlap"]),
            classes=unfolded.classes,
            embedded=embedded,
        )
        return StarConvexModel(
            network, spec, float(description["threshold"]), unfolded.grid_px, consensus
        )
    except NO_NETWORK as error:
        raise ModelError(f"{path} holds no star-convex network: {error}") from error


def load_starconvex(
    weights: Path | None = None, shipped: ShippedNetwork = DEFAULT
) -> StarConvexModel:
    """Return a network that comes with the package, or one of its kind from a file.

    What it was trained on, how well it does, and whom to cite: the card beside its weights.
    """
    if weights is not None:
        return load_weights(weights, base=shipped.spec)
    model = load_weights(shipped.weights, embedded=True, base=shipped.spec)
    return replace(model, largest_density=shipped.largest_density)
