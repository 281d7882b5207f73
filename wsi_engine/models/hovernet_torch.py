"""HoVer-Net on a GPU, by torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from wsi_engine.models.hovernet_network import Architecture, Array, HoVerNet, State
from wsi_engine.models.layers import fastest_dtype, twice


class TorchHoVerNet(HoVerNet[torch.Tensor]):
    """A network whose parameters lie on a device, in the precision that suits it."""

    def __init__(self, architecture: Architecture, state: State, device: str) -> None:
        super().__init__(architecture, state)
        self._device = torch.device(device)
        self._dtype = fastest_dtype(device)

    def __call__(self, batch: npt.NDArray[np.uint8], crop: int) -> npt.NDArray[np.float32]:
        """Predict from pixels, uint8 (n, h, w, 3), as float32 (n, h, w, maps)."""
        with torch.inference_mode():
            pixels = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
            pixels = pixels.to(self._device).permute(0, 3, 1, 2)
            maps = self.maps(pixels.to(self._dtype, memory_format=torch.channels_last), crop)
            found: npt.NDArray[np.float32] = maps.permute(0, 2, 3, 1).float().cpu().numpy()
        return found

    def _constant(self, values: Array) -> torch.Tensor:
        return torch.tensor(values).to(self._device, self._dtype)

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
        return torch.sigmoid(x.float())

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
