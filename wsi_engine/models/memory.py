"""How much memory a run takes at a time: so much that it fits any machine, and no more."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from wsi_engine.models.devices import CPU

MOST_ON_PROCESSOR = 1 << 30
MOST_ON_GPU = 8 << 30
SHARE, SHARE_OF_GPU = 4, 2
"""At most a quarter of the memory at hand, and a half of a GPU's: the rest is for others."""

_LIMITS_OF_CONTAINERS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_for_networks(device: str) -> int:
    """Return how many bytes a network may take for what it computes at a time on a device."""
    if device == CPU:
        return min(MOST_ON_PROCESSOR, memory_at_hand() // SHARE)
    import torch

    if torch.device(device).type != "cuda":
        return MOST_ON_PROCESSOR
    _, whole = torch.cuda.mem_get_info(device)
    return min(MOST_ON_GPU, whole // SHARE_OF_GPU)


@functools.cache
def memory_at_hand() -> int:
    """Return the bytes of memory of this machine, or of the container that this process is in."""
    limits = [_memory_of_machine()]
    for file in _LIMITS_OF_CONTAINERS:
        try:
            limits.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return min(limits)


def _memory_of_machine() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import ctypes

    class Status(ctypes.Structure):
        """MEMORYSTATUSEX of Windows."""

        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", *"abcde")),
        )

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.total)
