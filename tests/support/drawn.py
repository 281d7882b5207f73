"""What a user of QuPath draws, as the GeoJSON that QuPath exports."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

Feature = dict[str, Any]


def feature(geometry: Feature, kind: str, name: str | None = None) -> Feature:
    """Return one object, with a class where one is named."""
    properties: Feature = {"objectType": kind}
    if name is not None:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def polygon(ring: Any) -> Feature:
    """Return the geometry of an open ring of (x, y)."""
    closed = np.asarray(ring, float).tolist()
    return {"type": "Polygon", "coordinates": [[*closed, closed[0]]]}


def rectangle(left: float, top: float, right: float, bottom: float) -> Feature:
    """Return the annotation that the rectangle tool makes."""
    ring = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return feature(polygon(ring), "annotation")


def disc(x: float, y: float, radius: float, name: str | None = None, kind: str = "detection"):
    """Return a round nucleus."""
    angle = 2 * np.pi * np.arange(24) / 24
    ring = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])
    return feature(polygon(ring), kind, name)


def points(*xy: tuple[float, float], name: str | None = None) -> Feature:
    """Return what the Points tool makes: one annotation of one or more points."""
    many = len(xy) > 1
    geometry = {"type": "MultiPoint" if many else "Point", "coordinates": xy if many else xy[0]}
    return feature(geometry, "annotation", name)


def export(path: Path, *features: Feature) -> Path:
    """Write objects as QuPath exports them, gzipped where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
