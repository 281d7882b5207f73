"""Devices by name, and what the last digits of their results depend on.

They are named as torch names them: ``cpu``, ``cuda:0``. torch itself is asked only where there is
a GPU, for importing it takes as long as finding the nuclei of a small slide.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import platform
import sys
from pathlib import Path

from wsi_engine.errors import DeviceError

CPU = "cpu"
CPU_BATCH, CUDA_BATCH = 1, 8

# Parameters of glibc's mallopt and values for them.
_MALLOC_SETTINGS = {-8: 1, -3: 1 << 30, -1: 2_000_000_000}

_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""What the drivers of NVIDIA, of Windows under Linux, and of AMD put there."""


def resolve_devices(name: str) -> list[str]:
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
    count = 0 if name == CPU else _cuda_devices(unless_asked=name == "auto")
    if name == CPU or (name == "auto" and count == 0):
        return [CPU]
    if name == "auto":
        return [f"cuda:{k}" for k in range(count)]
    if count == 0:
        raise DeviceError(
            f"--device {name}: no CUDA device is usable here; use --device cpu, and see "
            "`wsi-engine doctor`"
        )
    numbers = [int(n) for n in name.removeprefix("cuda").removeprefix(":").split(",") if n] or [0]
    for number in numbers:
        if number >= count:
            raise DeviceError(f"--device {name}: there is no cuda:{number}, only {count} device(s)")
    return [f"cuda:{number}" for number in numbers]


def _cuda_devices(*, unless_asked: bool) -> int:
    """Count the CUDA devices; where nobody asked for one and there is no driver, 0 at once."""
    if unless_asked and not _has_gpu_driver():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _has_gpu_driver() -> bool:
    if sys.platform == "win32":
        return ctypes.util.find_library("nvcuda") is not None
    return any(Path(file).exists() for file in _GPU_FILES)


def default_batch_size(devices: list[str]) -> int:
    """Tiles per batch that keep a device of this kind busy; halved later if they do not fit."""
    return CPU_BATCH if devices[0] == CPU else CUDA_BATCH


def name_of(device: str) -> str:
    """Name a device as its maker does; the processor is ``cpu``."""
    if device == CPU:
        return CPU
    import torch

    return str(torch.cuda.get_device_name(device))


def precision_of(device: str) -> str:
    """Return ``bfloat16`` where the device has instructions for it, else ``float32``.

    It is what networks compute in that torch runs.
    """
    if device != CPU:
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if "avx512bf16" in _features() else "float32"


def describe_device(device: str) -> str:
    """Name a device by what the last digits of its results depend on.

    Returns
    -------
    str
        Kind, precision and, of a processor, the instructions that networks use on it, as
        ``cpu bfloat16 amx_bf16``. Where two names differ, so may the nuclei.
    """
    precision = precision_of(device)
    if device != CPU:
        return f"{name_of(device)} {precision}"
    return f"{device} {precision} {processor_instructions(precision)}"


def arithmetic_of(devices: list[str]) -> list[str]:
    """Name the arithmetic of some devices: each kind of device once, as `describe_device`."""
    return sorted({describe_device(device) for device in devices})


def processor_instructions(precision: str) -> str:
    """Name the instructions that networks of a precision use on this processor.

    oneDNN takes the best set that the processor has and ``ONEDNN_MAX_CPU_ISA`` allows. Sums in
    bf16 come out differently by AMX, by AVX512_BF16 and by what is put together from older
    instructions; in fp32 and in whole numbers the sets from AVX512_VNNI on are one. Elsewhere
    than on x86 it is the name of the architecture.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return platform.machine().lower()
    best = min(_best_of_processor(), _most_allowed())
    if precision != "bfloat16":
        best = min(best, _INSTRUCTIONS.index("avx512_vnni"))
    return _INSTRUCTIONS[best]


_INSTRUCTIONS = (
    *("sse4", "avx", "avx2", "avx2_vnni"),
    *("avx512", "avx512_vnni", "avx512_bf16", "amx_bf16"),
)
"""Those of x86 that compute alike, each with all before it."""

_FEATURES = {
    "amx_bf16": "amx-bf16",
    "avx512_bf16": "avx512bf16",
    "avx512_vnni": "avx512vnni",
    "avx512": "avx512bw",
    "avx2_vnni": "avxvnni",
    "avx2": "avx2",
    "avx": "avx",
}
"""The first that a processor has is its best set."""


@functools.cache
def _features() -> frozenset[str]:
    """Return what the processor has, as the compiler of the kernels names it."""
    from llvmlite import binding

    features: dict[str, bool] = binding.get_host_cpu_features()
    return frozenset(name for name, there in features.items() if there)


def _best_of_processor() -> int:
    for name, feature in _FEATURES.items():
        if feature in _features():
            return _INSTRUCTIONS.index(name)
    return 0


def _most_allowed() -> int:
    """Return what the user limits oneDNN to, by either name of the variable."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    # The first that fits, so the special ones come before those whose names they begin with.
    names = {
        "AMX": "amx_bf16",
        "AVX10": "avx512_bf16",
        "AVX512_CORE_BF16": "avx512_bf16",
        "AVX512_CORE_FP16": "avx512_bf16",
        "AVX512_CORE_VNNI": "avx512_vnni",
        "AVX512": "avx512",
        "AVX2_VNNI": "avx2_vnni",
        "AVX2": "avx2",
        "AVX": "avx",
        "SSE41": "sse4",
    }
    for part, name in names.items():
        if part in limit.upper():
            return _INSTRUCTIONS.index(name)
    return len(_INSTRUCTIONS) - 1


def processor_threads() -> int:
    """Return how many threads networks may use on the processor: its share, or all."""
    share = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if share.isdigit() and int(share) > 0:
        return int(share)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Give networks on the processor so many threads from now on, in this process."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)


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


def return_freed_memory() -> None:
    """Give back to the system what this process has freed, where glibc keeps it.

    Worth it before something large: blocks between which something lives do not hold it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
