"""Devices by name."""

from __future__ import annotations

import ctypes
import os
import platform
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
    """Name a device by what the last digits of its results depend on.

    Returns
    -------
    str
        Kind, precision and, of a processor, the instructions that networks use on it, as
        ``cpu bfloat16 amx_bf16``. Where two names differ, so may the nuclei.
    """
    dtype = fastest_dtype(device)
    precision = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} {precision}"
    return f"{device.type} {precision} {processor_instructions(dtype)}"


def arithmetic_of(devices: list[torch.device]) -> list[str]:
    """Name the arithmetic of some devices: each kind of device once, as `describe_device`."""
    return sorted({describe_device(device) for device in devices})


def processor_instructions(dtype: torch.dtype) -> str:
    """Name the instructions that networks of a precision use on this processor.

    oneDNN takes the best set that the processor has and ``ONEDNN_MAX_CPU_ISA`` allows. Sums in
    bf16 come out differently by AMX, by AVX512_BF16 and by what is put together from older
    instructions; in fp32 the sets from AVX-512 on are one. Elsewhere than on x86 it is torch's
    own name.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}".lower()
    best = min(_best_of_processor(), _most_allowed())
    if dtype != torch.bfloat16:
        best = min(best, _INSTRUCTIONS.index("avx512"))
    return _INSTRUCTIONS[best]


_INSTRUCTIONS = ("sse4", "avx", "avx2", "avx512", "avx512_bf16", "amx_bf16")
"""Those of x86 that compute alike, each with all before it."""


def _best_of_processor() -> int:
    has = {
        "amx_bf16": "_init_amx",  # the system may refuse AMX where the processor has it
        "avx512_bf16": "_is_avx512_bf16_supported",
    }
    for name, question in has.items():
        if getattr(torch.cpu, question, lambda: False)():
            return _INSTRUCTIONS.index(name)
    name = torch.backends.cpu.get_cpu_capability().lower()
    return _INSTRUCTIONS.index(name) if name in _INSTRUCTIONS else 0


def _most_allowed() -> int:
    """Return what the user limits oneDNN to, by either name of the variable."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    # The first that fits, so the special ones come before those whose names they begin with.
    names = {
        "AMX": "amx_bf16",
        "AVX10": "avx512_bf16",
        "AVX512_CORE_BF16": "avx512_bf16",
        "AVX512_CORE_FP16": "avx512_bf16",
        "AVX512": "avx512",
        "AVX2": "avx2",
        "AVX": "avx",
        "SSE41": "sse4",
    }
    for part, name in names.items():
        if part in limit.upper():
            return _INSTRUCTIONS.index(name)
    return len(_INSTRUCTIONS) - 1


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
