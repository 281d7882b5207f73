"""Slides in OME-Zarr, written as other programs write them: with Zarr, at any choice it leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

UM = "micrometer"


def halved(image: np.ndarray) -> np.ndarray:
    """The mean of each 2 x 2 pixels, rounded half up; a last odd row or column is dropped."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    blocks = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
    return np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def write_ome_zarr(
    path: Path,
    image: np.ndarray,
    version: str = "0.5",
    axes: str = "cyx",
    *,
    levels: int = 3,
    chunk: int = 64,
    shard: int | None = None,
    one_channel: bool = False,
    scale: float = 0.25,
    unit: str | None = UM,
    omero: dict[str, Any] | None = None,
    planes: int = 1,
    separator: str = "/",
    **codecs: Any,
) -> Path:
    """Write an image, shape (height, width, 3), as one group.

    The last of several ``planes`` has the image, the others are black. ``codecs`` are what
    `zarr.create_array` takes.
    """
    is_new = version == "0.5"
    root = zarr.create_group(path, zarr_format=3 if is_new else 2, overwrite=True)
    datasets = []
    for level in range(levels):
        pixels = laid_out(image, axes, planes)
        sides = {"t": 1, "z": 1, "c": 1 if one_channel else 3, "y": chunk, "x": chunk}
        shards = {**sides, "c": 3, "y": shard, "x": shard}
        extra: dict[str, Any] = dict(codecs)
        if shard:
            extra["shards"] = tuple(shards[axis] for axis in axes)
        if not is_new:
            extra["chunk_key_encoding"] = {"name": "v2", "separator": separator}
        array = root.create_array(
            str(level),
            shape=pixels.shape,
            dtype="u1",
            chunks=tuple(sides[axis] for axis in axes),
            **extra,
        )
        array[...] = pixels
        steps = [scale * 2**level if axis in "yx" else 1.0 for axis in axes]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": steps}],
            }
        )
        image = halved(image)
    kinds = {"t": "time", "c": "channel"}
    named: list[dict[str, Any]] = []
    for axis in axes:
        named.append({"name": axis, "type": kinds.get(axis, "space")})
        if unit is not None and axis in "zyx":
            named[-1]["unit"] = unit
    multiscale: dict[str, Any] = {"axes": named, "datasets": datasets, "name": "slide"}
    ome: dict[str, Any] = {"multiscales": [multiscale]}
    if omero is not None:
        ome["omero"] = omero
    if is_new:
        root.attrs["ome"] = {"version": version, **ome}
    else:
        multiscale["version"] = version
        root.attrs.update(ome)
    return path


def laid_out(image: np.ndarray, axes: str, planes: int = 1) -> np.ndarray:
    """Bring (height, width, 3) into an order of axes."""
    whole = np.zeros((1, planes, *image.shape), np.uint8)
    whole[0, -1] = image
    order = ["tzyxc".index(axis) for axis in axes]
    left_out = tuple(set(range(5)) - set(order))
    kept = [k for k in range(5) if k not in left_out]
    return np.squeeze(whole, left_out).transpose([kept.index(k) for k in order])


def rgb_channels(colours: Sequence[str], labels: Sequence[str] = ("", "", "")) -> dict[str, Any]:
    """The part of metadata that says how channels are shown."""
    return {
        "channels": [
            {"color": colour, "label": label, "active": True}
            for colour, label in zip(colours, labels, strict=True)
        ]
    }


def change_json(path: Path, change: Any) -> None:
    """Change a file of metadata by a function."""
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
