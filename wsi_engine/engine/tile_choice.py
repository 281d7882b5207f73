"""How large tiles are, and how many are under way: so that a run fits the memory at hand."""

from __future__ import annotations

import math

from wsi_engine.config import RunSettings
from wsi_engine.models.devices import CPU, default_batch_size
from wsi_engine.models.memory import memory_for_networks
from wsi_engine.models.protocol import ModelSpec

PREFERRED_PX = 1024
"""Side of a core where neither a wide halo nor little memory asks for another."""

LEAST_PX = 64

BYTES_UNDER_WAY = 100
"""What each thread holds of a pixel of a window: it decodes one tile, and others wait for it as
pixels and maps."""

_HALVES = 2 / (math.sqrt(2) - 1)
"""A core so many halos wide is half of its window."""


def core_side(tile_size: int, spec: ModelSpec) -> int:
    """Round a length up to what the model can take."""
    return -(-tile_size // spec.stride) * spec.stride


def choose_core(settings: RunSettings, spec: ModelSpec) -> int:
    """Return the side of the cores: as it is set, or as halo and memory have it.

    A halo is computed for each tile anew, so the core is at least half of the window, as long
    as the model computes and decodes the window in the memory that a run may take.
    """
    if settings.tile_size != "auto":
        return core_side(settings.tile_size, spec)
    wanted = max(PREFERRED_PX, math.ceil(_HALVES * spec.halo_px))
    window = math.isqrt(memory_for_networks(CPU) // spec.bytes_per_px)
    most = max(LEAST_PX, window - 2 * spec.halo_px) // spec.stride * spec.stride
    return min(core_side(wanted, spec), max(most, spec.stride))


def context_beyond_slide(spec: ModelSpec, neighbourhood_px: float) -> int:
    """Return how far the pixels are of use that are mirrored beyond a slide, in whole strides.

    They change what the model sees at the border, and are measured around nuclei there.
    """
    return core_side(math.ceil(max(spec.receptive_radius_px, neighbourhood_px + 1)), spec)


def batch_size_of(settings: RunSettings, spec: ModelSpec, side: int, devices: list[str]) -> int:
    """Return the number of tiles per batch, for windows of a side in pixels."""
    if settings.batch_size != "auto":
        return settings.batch_size
    most = default_batch_size(devices)
    if most == 1:
        return 1
    return max(1, min(most, memory_for_networks(devices[0]) // (side**2 * spec.bytes_per_px)))


def threads_of(settings: RunSettings, side: int) -> int:
    """Return how many threads read and decode windows of a side in pixels."""
    if settings.workers != "auto":
        return settings.workers
    return min(settings.threads, max(2, memory_for_networks(CPU) // (side**2 * BYTES_UNDER_WAY)))
