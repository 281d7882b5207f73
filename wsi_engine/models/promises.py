"""What a model promises of its output, checked where it enters: one sentence if it is broken.

All checks of a tile together are a few passes over its columns, some microseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wsi_engine.models.protocol import ModelSpec
from wsi_engine.nuclei.predictions import Predictions

_DTYPES = {
    "xy": np.float64,
    "offsets": np.int64,
    "anchors": np.float64,
    "scores": np.float32,
    "classes": np.int16,
    "probabilities": np.float32,
}

FEWEST_POINTS = 3
"""Vertices that a ring needs."""


def broken_by_maps(maps: Any, batch: tuple[int, ...], spec: ModelSpec) -> str | None:
    """Say which promise the maps of a batch break; ``None`` if none.

    Parameters
    ----------
    maps
        What ``Model.maps`` returned.
    batch
        Shape of the batch, (n, height, width, 3).
    """
    if not isinstance(maps, np.ndarray):
        return f"maps are a {type(maps).__name__}, not a numpy array on the host"
    count, height, width = batch[:3]
    if maps.ndim < 3 or len(maps) != count:
        return f"maps have shape {maps.shape} for a batch of shape {batch}"
    k = height // maps.shape[1] if maps.shape[1] else 0
    if k == 0 or (maps.shape[1] * k, maps.shape[2] * k) != (height, width) or spec.stride % k:
        return (
            f"maps of {maps.shape[2]} x {maps.shape[1]} points for {width} x {height} px: one "
            f"point stands for k x k px, and k divides the stride of {spec.stride}"
        )
    return None


def broken_by_predictions(found: Any, spec: ModelSpec) -> str | None:
    """Say which promise the predictions of a tile break; ``None`` if none."""
    if not isinstance(found, Predictions):
        return f"decode returned a {type(found).__name__}, not Predictions"
    return _broken_by_columns(found, spec) or _broken_by_values(found, spec)


def _broken_by_columns(found: Predictions, spec: ModelSpec) -> str | None:
    """Look at types and lengths, on which everything else rests."""
    columns = {name: getattr(found, name) for name in _DTYPES}
    if columns["probabilities"] is None:
        del columns["probabilities"]
    for name, column in columns.items():
        if not isinstance(column, np.ndarray):
            return f"{name} are a {type(column).__name__}, not a numpy array"
        if column.dtype != _DTYPES[name]:
            return f"{name} are {column.dtype}, not {np.dtype(_DTYPES[name])}"
    if found.offsets.ndim != 1 or len(found.offsets) == 0:
        return f"offsets have shape {found.offsets.shape}, not (rings + 1,)"
    rings = len(found.offsets) - 1
    shapes = {
        "xy": (len(found.xy), 2),
        "anchors": (rings, 2),
        "scores": (rings,),
        "classes": (rings,),
        "probabilities": (rings, len(spec.classes)),
    }
    for name, shape in shapes.items():
        column = columns.get(name)
        if column is None or column.shape == shape:
            continue
        if column.ndim == len(shape) == 1:
            return f"{name} have length {len(column)} for {rings} rings"
        return f"{name} have shape {column.shape} for {rings} rings, not {shape}"
    return None


def _broken_by_values(found: Predictions, spec: ModelSpec) -> str | None:
    points = np.diff(found.offsets)
    if found.offsets[0] != 0 or found.offsets[-1] != len(found.xy):
        return (
            f"offsets run from {found.offsets[0]} to {found.offsets[-1]}, not from 0 to the "
            f"{len(found.xy)} vertices"
        )
    if len(points) and points.min() < FEWEST_POINTS:
        ring = int(points.argmin())
        return f"ring {ring} has {points[ring]} points, and a polygon at least {FEWEST_POINTS}"
    for name in ("xy", "anchors"):
        if not np.isfinite(getattr(found, name)).all():
            return f"{name} hold NaN or infinity"
    for name in ("scores", "probabilities"):
        values = getattr(found, name)
        # Not "outside": NaN is on neither side.
        if values is not None and not ((values >= 0) & (values <= 1)).all():
            wrong = values[~((values >= 0) & (values <= 1))][0]
            return f"{name} hold {wrong:g}, which is not in [0, 1]"
    if len(found.classes) and not (
        -1 <= found.classes.min() <= found.classes.max() < len(spec.classes)
    ):
        worst = found.classes[(found.classes < -1) | (found.classes >= len(spec.classes))][0]
        return f"classes hold {worst}, and the model has {len(spec.classes)} (-1 for none)"
    return None
