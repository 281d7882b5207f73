"""Features in the dialect of GeoJSON that QuPath 0.4 to 0.7 reads without loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import Polygons, polygon_parts
from wsi_engine.qupath.colours import class_colour

Feature = dict[str, Any]


def detection_features(
    ids: Sequence[str],
    polygons: Polygons,
    classes: Sequence[str | None],
    measurements: Mapping[str, npt.NDArray[np.float32]],
) -> list[Feature]:
    """Describe nuclei as QuPath detections.

    Parameters
    ----------
    ids
        UUIDs; QuPath silently replaces anything else.
    polygons
        Valid, rounded to 0.01 px, in QuPath pixels.
    classes
        Class name of each nucleus, ``None`` for none.
    measurements
        Columns by name. A value that is not finite is left out: QuPath 0.4 cannot read it.

    Returns
    -------
    list of dict
        Ready for orjson with ``OPT_SERIALIZE_NUMPY``; rings are float64 arrays.
    """
    classifications = {name: _classification(name) for name in set(classes) if name is not None}
    rings = _rings(polygons)
    names = list(measurements)
    rows = _measurement_rows(
        names, [np.asarray(measurements[name], np.float32) for name in names], len(ids)
    )
    features = []
    for identity, coordinates, name, row in zip(ids, rings, classes, rows, strict=True):
        properties: Feature = {"objectType": "detection"}
        if name is not None:
            properties["classification"] = classifications[name]
        if row:
            properties["measurements"] = row
        features.append(
            {
                "type": "Feature",
                "id": identity,
                "geometry": {"type": "Polygon", "coordinates": coordinates},
                "properties": properties,
            }
        )
    return features


def annotation_feature(
    identity: str,
    geometry: shapely.Polygon | shapely.MultiPolygon,
    *,
    name: str | None = None,
    classification: str | None = None,
    locked: bool = False,
    measurements: Mapping[str, float] | None = None,
) -> Feature:
    """Describe a region as a QuPath annotation, in QuPath pixels."""
    properties: Feature = {"objectType": "annotation"}
    if name:
        properties["name"] = name
    if classification:
        properties["classification"] = _classification(classification)
    if locked:
        properties["isLocked"] = True
    finite = {k: float(v) for k, v in (measurements or {}).items() if math.isfinite(v)}
    if finite:
        properties["measurements"] = finite
    return {
        "type": "Feature",
        "id": identity,
        "geometry": _rounded_geometry(geometry),
        "properties": properties,
    }


def _classification(name: str) -> Feature:
    # QuPath 0.4 and later aborts the import of the whole file when the colour is missing.
    return {"name": name, "color": list(class_colour(name))}


def _rings(polygons: Polygons) -> list[list[npt.NDArray[np.float64]]]:
    """Split polygons into their closed rings, exterior first."""
    if len(polygons) == 0:
        return []
    _, coordinates, (ring_offsets, offsets) = shapely.to_ragged_array(polygons, include_z=False)
    rings = np.split(coordinates, ring_offsets[1:-1])
    return [rings[start:stop] for start, stop in pairwise(offsets)]


def _measurement_rows(
    names: list[str], columns: list[npt.NDArray[np.float32]], count: int
) -> list[dict[str, np.float32]]:
    # Values stay float32, as QuPath holds them: orjson then prints 0.1 and not 0.10000000149.
    if not names:
        return [{}] * count
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if all(np.isfinite(column).all() for column in columns):
        return rows
    return [{name: v for name, v in row.items() if math.isfinite(v)} for row in rows]


def _rounded_geometry(geometry: shapely.Geometry) -> Feature:
    geometry = shapely.transform(geometry, lambda points: np.round(points, 2))
    if not geometry.is_valid:
        geometry = shapely.set_precision(shapely.make_valid(geometry), 0.01)
    coordinates = _rings(np.array(polygon_parts(geometry), object))
    # QuPath before 0.6 fails on a MultiPolygon of one part.
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}
