"""Features in the dialect of GeoJSON that QuPath 0.4 to 0.7 reads without loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.qupath.colours import class_colour
from wsi_engine.qupath.object_features import Feature, class_member, object_feature, rings_of
from wsi_engine.qupath.objects import ROI, PathClass, PathObject

__all__ = ["Feature", "annotation_feature", "detection_features"]


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
    classifications = {
        name: class_member(PathClass((name,), class_colour(name)))
        for name in set(classes)
        if name is not None
    }
    rings = rings_of(polygons)
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
    return object_feature(
        PathObject(
            object_type="annotation",
            roi=ROI(geometry),
            id=identity,
            name=name or None,
            classification=PathClass.of(classification) if classification else None,
            is_locked=locked,
            measurements=dict(measurements or {}),
        )
    )


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
