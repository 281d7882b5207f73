"""HoVer-Net on a GPU, and where there is no OpenVINO, by torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from wsi_engine.models.hovernet_network import Architecture, Array, HoVerNet
from wsi_engine.models.layers import twice
from wsi_engine.models.state_dict import read_state


class TorchHoVerNet(HoVerNet[torch.Tensor]):
    """A network in fp32 whose parameters lie on a device.

    Parameters
    ----------
    architecture
        What it is like.
    weights
        File of a state dict that fits it.
    device
        As torch names it.
    """

    def __init__(self, architecture: Architecture, weights: Path, device: str) -> None:
        super().__init__(architecture, read_state(weights))
        self._file, self._device = weights, device

    def __reduce__(self) -> tuple[type[TorchHoVerNet], tuple[Architecture, Path, str]]:
        return TorchHoVerNet, (self.architecture, self._file, self._device)

    def __call__(
        self, batch: npt.NDArray[np.uint8], crop: int, *, types: bool = True
    ) -> npt.NDArray[np.float32]:
        """Predict from pixels, uint8 (n, h, w, 3), as float32 (n, h, w, maps)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
            pixels = pixels.to(self._device).permute(0, 3, 1, 2)
            pixels = pixels.to(torch.float32, memory_format=torch.channels_last)
            maps = self.maps(pixels, crop, types=types)
            found: npt.NDArray[np.float32] = maps.permute(0, 2, 3, 1).cpu().numpy()
        return found

    def _constant(self, values: Array) -> torch.Tensor:
        return torch.tensor(values).to(self._device)

    def _convolved(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
    ) -> torch.Tensor:
        if not isinstance(padding, int):
            before, after = padding
            if before == after:
                padding = before
            else:
                x, padding = functional.pad(x, [before, after, before, after]), 0
        flat = None if bias is None else bias.flatten()
        return functional.conv2d(x, weight, flat, stride, padding, groups=groups)

    def _relu(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)

    def _sigmoid(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x)

    def _added(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y

    def _scaled(
        self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor | None
    ) -> torch.Tensor:
        return x * scale if shift is None else torch.addcmul(shift, x, scale)

    def _joined(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat(list(parts), 1)

    def _twice(self, x: torch.Tensor) -> torch.Tensor:
        return twice(x)

    def _cropped(self, x: torch.Tensor, border: int) -> torch.Tensor:
        return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]

    def _largest(self, x: torch.Tensor) -> torch.Tensor:
        return x.argmax(1, keepdim=True).float()
