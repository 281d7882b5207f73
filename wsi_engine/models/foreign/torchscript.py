"""Networks in TorchScript, run by torch's interpreter."""

from __future__ import annotations

import copy
import io
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from wsi_engine.errors import ModelError
from wsi_engine.models.foreign.torchscript_code import CodeError, looked_at

_CPU = torch.device("cpu")
_unfused = torch.jit.optimized_execution  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class TorchScript:
    """A network in TorchScript on one device.

    Attributes
    ----------
    module
        In evaluation mode.
    name
        Name of the file, for errors.
    """

    module: Any = field(repr=False)
    name: str
    device: torch.device = _CPU

    def to(self, device: str) -> Self:
        """Return the network on a device; this one stays where it is."""
        place = torch.device(device)
        if place == self.device:
            return self
        return replace(self, module=copy.deepcopy(self.module).to(place), device=place)

    def __call__(self, pixels: npt.NDArray[np.float32]) -> dict[int | str, npt.NDArray[np.generic]]:
        """Run the network on one image, shape (1, ...); return its outputs by place and name."""
        # The interpreter as it is: what it fuses after some runs would change the last digits.
        with torch.inference_mode(), _unfused(False):
            try:
                given = self.module(torch.from_numpy(pixels).to(self.device))
            except RuntimeError as error:
                raise ModelError(
                    f"{self.name} cannot be run on images of shape {pixels.shape}: {_reason(error)}"
                ) from None
        named = given if isinstance(given, dict) else {}
        several = tuple(given.values()) if named else given
        outputs = several if isinstance(several, tuple | list) else (several,)
        if not all(isinstance(output, torch.Tensor) for output in outputs):
            raise ModelError(f"{self.name} returns something else than tensors")
        arrays = [output.float().cpu().numpy() for output in outputs]
        found: dict[int | str, npt.NDArray[np.generic]] = dict(enumerate(arrays))
        return found | dict(zip(named, arrays, strict=False))


def load_torchscript(path: Path) -> TorchScript:
    """Load a network, on the CPU, after a look at its code.

    Raises
    ------
    ModelError
        When the file is damaged, or does more than a network does.
    """
    try:
        content = looked_at(path.read_bytes())
    except CodeError as error:
        raise ModelError(f"{path.name} is not loaded: {error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(content), map_location="cpu"
            )
    except Exception as error:  # whatever torch's reader of archives says
        raise ModelError(
            f"{path.name} is no TorchScript that can be loaded: {_reason(error)}"
        ) from (None)
    return TorchScript(module.eval(), path.name)


def _reason(error: Exception) -> str:
    """Return what is said last: before it stands where in the network it happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("RuntimeError:", "Error:"))]
    return (told or lines or [type(error).__name__])[-1 if told else 0].rstrip(".:")[:200]
