"""Devices by name."""

from __future__ import annotations

import ctypes
import sys

import torch

from wsi_engine.errors import DeviceError

CPU_BATCH, CUDA_BATCH = 1, 8

# Parameters of glibc's mallopt and values for them.
_MALLOC_SETTINGS = {-8: 1, -3: 1 << 30, -1: 2_000_000_000}


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


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bf16 where the device has instructions for it, else fp32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if device.type == "cpu" and has_bf16() else torch.float32


def describe_device(device: torch.device) -> str:
    """Name a device by what the last digits of its results depend on."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return f"{kind} {str(fastest_dtype(device)).removeprefix('torch.')}"


def reuse_freed_memory() -> None:
    """Let layers that run on the processor reuse memory instead of mapping fresh pages.

    By default glibc returns every large block to the kernel and gets a zeroed one for the next
    layer; that cost a quarter of the time of a run (benchmarks/model.md). One arena for all
    threads is part of it: other arenas cannot hold blocks that large. Elsewhere than on glibc
    this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOC_SETTINGS.items():
            mallopt(parameter, value)
