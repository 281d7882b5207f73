"""The star-convex network: nuclei as polygons straight from the decoder.

Schmidt et al., "Cell Detection with Star-convex Polygons", MICCAI 2018.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn import functional
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wsi_engine.errors import ModelError
from wsi_engine.models.compiling import Compilation
from wsi_engine.models.devices import fastest_dtype
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.starconvex_decoding import GRID_PX, decode_maps
from wsi_engine.models.starconvex_spec import SPEC, STRIDE_PX
from wsi_engine.models.turns import Turn
from wsi_engine.nuclei.predictions import Predictions

WEIGHTS_KEY = "starconvex"
"""Where a weights file keeps, as JSON, what is needed to rebuild its network."""

_CPU = torch.device("cpu")


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class StarConvexNet(nn.Module):
    """A U-Net on the 1 µm grid under a stem of stride 2.

    Its only normalisation is batch normalisation, an affine map at inference, so a
    prediction depends on nothing beyond `starconvex_spec.NETWORK_RADIUS_PX`.

    Parameters
    ----------
    channels
        Widths at 1, 2 and 4 µm per grid point.
    features
        Width of the last layers.
    rays
        Radial distances per grid point.
    classes
        Names of the classes that it tells apart; none by default.
    """

    def __init__(
        self,
        channels: tuple[int, int, int] = (32, 64, 192),
        features: int = 64,
        rays: int = 32,
        classes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.channels, self.features, self.rays = channels, features, rays
        self.classes = classes
        fine, middle, coarse = channels
        # 6 x 6 at stride 2: each output is centred on the 2 x 2 pixels that it stands for.
        self.stem = nn.Sequential(
            nn.Conv2d(3, fine, 6, stride=GRID_PX, padding=2, bias=False),
            nn.BatchNorm2d(fine),
            nn.ReLU(inplace=True),
        )
        self.fine = _block(fine, fine)
        self.middle = nn.Sequential(_block(fine, middle), _block(middle, middle))
        self.coarse = nn.Sequential(
            _block(middle, coarse), *(_block(coarse, coarse) for _ in range(3))
        )
        self.up_middle = nn.Sequential(_block(coarse + middle, middle), _block(middle, middle))
        self.up_fine = nn.Sequential(_block(middle + fine, features), _block(features, features))
        self.head = nn.Conv2d(features, 1 + rays + len(classes), 1)
        # Start from few nuclei of a common size, and no class before another.
        bias = torch.full((1 + rays + len(classes),), 5.0)
        bias[0] = -2.0
        bias[1 + rays :] = 0.0
        self.head.bias = nn.Parameter(bias)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Predict from pixels.

        Parameters
        ----------
        pixels
            Intensities (n, 3, h, w) as `normalise` gives them; h and w multiples of the
            stride.

        Returns
        -------
        torch.Tensor
            (n, 1 + rays + classes, h / 2, w / 2): logit of the object probability, the
            distances in model pixels before the softplus that makes them positive, and the
            logits of the classes.
        """
        fine = self.fine(self.stem(pixels))
        middle = self.middle(functional.max_pool2d(fine, 2))
        coarse = self.coarse(functional.max_pool2d(middle, 2))
        middle = self.up_middle(torch.cat([_twice(coarse), middle], dim=1))
        fine = self.up_fine(torch.cat([_twice(middle), fine], dim=1))
        head: torch.Tensor = self.head(fine)
        return head


def _twice(maps: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(maps, scale_factor=2.0, mode="nearest")


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 (n, h, w, 3) to (n, 3, h, w) around 0, the same way for every tile."""
    return pixels.permute(0, 3, 1, 2).float().sub_(180.0).mul_(1 / 64.0)


def folded(network: StarConvexNet) -> StarConvexNet:
    """Return a copy for inference, its batch normalisation folded into the convolutions."""
    network = copy.deepcopy(network).eval()
    for block in network.modules():
        if isinstance(block, nn.Sequential) and len(block) > 1:
            convolution, norm = block[0], block[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block[0], block[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return network.requires_grad_(False)


@dataclass(frozen=True)
class StarConvexModel:
    """A trained star-convex network behind the engine's protocol.

    Instances do not change; ``to`` and ``calibrate`` return others. The network has no
    statistics of a slide or a tile, so there is nothing to calibrate.

    Attributes
    ----------
    network
        Folded, in the precision that it runs in.
    threshold
        Lowest object probability that is reported.
    """

    network: nn.Module
    spec: ModelSpec
    threshold: float
    device: torch.device = _CPU
    dtype: torch.dtype = torch.float32

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Return the model as it is."""
        return self

    def settings(self) -> dict[str, float]:
        """Return the threshold, for the record of the run."""
        return {"threshold": self.threshold}

    def to(self, device: torch.device) -> Self:
        """Return the model on a device, in bf16 where the device computes in it."""
        dtype = fastest_dtype(device)
        network = copy.deepcopy(self.network).to(device, dtype)
        convert_conv2d_weight_memory_format(network, torch.channels_last)
        return replace(self, network=network, device=device, dtype=dtype)

    def compilation(self, batch: int, side: int) -> Compilation | None:
        """Describe the network for batches of so many square tiles; ``None`` on a GPU."""
        if self.device.type != "cpu":
            return None
        return Compilation(self.network, (batch, 3, side, side), self.dtype)

    def with_network(self, network: nn.Module) -> Self:
        """Return the model with another network, as the same compiled."""
        return replace(self, network=network)

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Run the network.

        Parameters
        ----------
        batch
            uint8 (n, h, w, 3), h and w multiples of the stride.

        Returns
        -------
        numpy.ndarray
            What the network gives, float16 (n, h / 2, w / 2, 1 + rays + classes).

        Raises
        ------
        ModelError
            If a tile is not made of whole strides.
        """
        height, width = batch.shape[1:3]
        if height % STRIDE_PX or width % STRIDE_PX:
            raise ModelError(
                f"The network takes tiles whose sides are multiples of {STRIDE_PX} px, not "
                f"{width} x {height}. Choose another tile size."
            )
        with torch.inference_mode():
            # torch wants an array that it could write to, and tiles may be read-only.
            writable = np.require(batch, requirements=["C", "W"])
            pixels = normalise(torch.from_numpy(writable).to(self.device))
            pixels = pixels.to(self.dtype, memory_format=torch.channels_last)
            maps = self.network(pixels).permute(0, 2, 3, 1).to(torch.float16)
            return np.asarray(maps.contiguous().cpu().numpy())

    def upright(self, maps: npt.NDArray[np.generic], turn: Turn) -> npt.NDArray[np.generic]:
        """Turn the maps of a turned batch back, and the rays of each point with them."""
        upright = turn.undo(maps)
        rays = maps.shape[-1] - 1 - len(self.spec.classes)
        order = np.arange(maps.shape[-1])
        order[1 : 1 + rays] = 1 + turn.undo_rays(rays)
        return np.asarray(upright[..., order])

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile into polygons; see `decode_maps`."""
        return decode_maps(
            maps,
            threshold=self.threshold,
            max_overlap=self.spec.max_overlap,
            largest_px=self.spec.largest_object_px,
            classes=len(self.spec.classes),
        )


_NO_NETWORK = (
    *(OSError, SafetensorError, RuntimeError, MemoryError),
    *(AttributeError, KeyError, TypeError, ValueError, RecursionError),
)
"""What a file that is none leads to; its description may say anything."""


def load_weights(path: Path, *, embedded: bool = False) -> StarConvexModel:
    """Read a network that `wsi_engine.training.weights.save_weights` wrote, on the CPU in fp32.

    Raises
    ------
    ModelError
        If the file is missing or holds something else.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            description = json.loads((file.metadata() or {})[WEIGHTS_KEY])
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        network = folded(
            StarConvexNet(
                tuple(description["channels"]),
                description["features"],
                description["rays"],
                tuple(description.get("classes", ())),
            )
        )
        network.load_state_dict(state)
        spec = replace(
            SPEC,
            mpp=float(description["mpp"]),
            max_overlap=float(description["max_overlap"]),
            classes=tuple(description.get("classes", ())),
            embedded=embedded,
        )
        return StarConvexModel(network, spec, float(description["threshold"]))
    except _NO_NETWORK as error:
        raise ModelError(f"{path} holds no star-convex network: {error}") from error


def load_starconvex(weights: Path | None = None) -> StarConvexModel:
    """Return the network that comes with the package, or one from a file.

    What the former was trained on, how well it does, and whom to cite:
    ``weights/starconvex.md``.
    """
    if weights is not None:
        return load_weights(weights)
    return load_weights(Path(__file__).parent / "weights" / "starconvex.safetensors", embedded=True)
