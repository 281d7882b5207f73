"""Devices by name."""

from __future__ import annotations

import torch

from wsi_engine.errors import DeviceError

CPU_BATCH, CUDA_BATCH = 1, 8


def resolve_devices(name: str) -> list[torch.device]:
    """Return the devices to compute on.

    Parameters
    ----------
    name
        ``auto`` (every CUDA device, else the processor), ``cpu``, ``cuda`` (the first), or
        ``cuda:0,1``.

    Raises
    ------
    DeviceError
        When CUDA is asked for and absent, or a device number does not exist.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return [torch.device("cpu")]
    if name == "auto":
        return [torch.device("cuda", k) for k in range(count)]
    if count == 0:
        raise DeviceError(
            f"--device {name}: no CUDA device is usable here; use --device cpu, and see "
            "`wsi-engine doctor`"
        )
    numbers = [int(n) for n in name.removeprefix("cuda").removeprefix(":").split(",") if n] or [0]
    for number in numbers:
        if number >= count:
            raise DeviceError(f"--device {name}: there is no cuda:{number}, only {count} device(s)")
    return [torch.device("cuda", number) for number in numbers]


def default_batch_size(devices: list[torch.device]) -> int:
    """Tiles per batch that keep a device of this kind busy; halved later if they do not fit."""
    return CPU_BATCH if devices[0].type == "cpu" else CUDA_BATCH
