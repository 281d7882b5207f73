"""Star-convex maps averaged over the eight turns and flips of a tile.

A network that was trained on all of them knows no up and no left; what differs between them is
error, and averaging halves it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

MapsOf = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float16]]
"""From a batch of pixels to maps."""

_LEAST = np.float32(1e-6)


def averaged_maps(
    maps_of: MapsOf, batch: npt.NDArray[np.uint8], classes: int = 0
) -> npt.NDArray[np.float16]:
    """Run a network on a batch in all eight ways to lay it down, and average what it says.

    Object and class probabilities are averaged as such; distances weighted with the object
    probability, as a way that sees no nucleus somewhere has no say in its shape.

    Parameters
    ----------
    maps_of
        `StarConvexModel.maps` of the network.
    batch
        uint8 (n, h, w, 3), h and w multiples of the stride.
    classes
        How many of the channels, the last ones, are classes.

    Returns
    -------
    numpy.ndarray
        As `StarConvexModel.maps` gives them, float16 (n, h / grid, w / grid, channels).

    Raises
    ------
    ValueError
        If the rays of the network are not a multiple of four.
    """
    sums: list[Float32] = []
    for flipped in (False, True):
        for turns in range(4):
            laid = np.rot90(batch[:, :, ::-1] if flipped else batch, turns, axes=(1, 2))
            maps = maps_of(np.ascontiguousarray(laid)).astype(np.float32)
            parts = _to_average(put_back(maps, turns, flipped, classes), classes)
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
    total = np.maximum(sums[0], _LEAST)
    mean = np.clip(sums[0] / 8, _LEAST, 1 - _LEAST)
    distance = np.maximum(sums[1] / total, _LEAST)
    # Back to what a network gives: before the sigmoid, the softplus and the softmax.
    logits = np.log(mean / (1 - mean))
    raw = distance + np.log(-np.expm1(-distance))
    kinds = np.log(np.maximum(sums[2] / total, _LEAST))
    return np.concatenate([logits, raw, kinds], axis=-1).astype(np.float16)


def _to_average(maps: Float32, classes: int) -> list[Float32]:
    """Return probability, and distances and class probabilities times that."""
    rays = maps.shape[-1] - 1 - classes
    seen = 1 / (1 + np.exp(-maps[..., :1]))
    logits = maps[..., 1 + rays :]
    likely = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    likely /= np.maximum(likely.sum(axis=-1, keepdims=True), _LEAST)
    parts = (seen, seen * np.logaddexp(0, maps[..., 1 : 1 + rays]), seen * likely)
    return [np.asarray(part, np.float32) for part in parts]


def put_back(maps: Float32, turns: int, flipped: bool, classes: int = 0) -> Float32:
    """Lay the maps of a tile that was flipped left to right, then turned, as the tile lay.

    Parameters
    ----------
    maps
        (n, h, w, 1 + rays + classes).
    turns
        By how many quarters, as `numpy.rot90` counts them, the tile was turned.
    """
    rays = maps.shape[-1] - 1 - classes
    if rays % 4:
        raise ValueError(f"{rays} rays cannot be turned by quarters")
    maps = np.rot90(maps, -turns, axes=(1, 2))
    # Rays go round clockwise, and a turn goes the other way.
    order = (np.arange(rays) - turns * rays // 4) % rays
    if flipped:
        maps = maps[:, :, ::-1]
        order = order[(rays // 2 - np.arange(rays)) % rays]
    channels = np.concatenate([[0], 1 + order, np.arange(1 + rays, maps.shape[-1])])
    return maps[..., channels]
