"""Features in the dialect of GeoJSON that QuPath 0.4 to 0.7 reads without loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.qupath.colours import Colour, ColourAlpha
from wsi_engine.qupath.objects import Feature, PathClass, PathObject, class_member, object_feature
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.roi_members import rings_of

__all__ = ["PROBABILITY_NAME", "SCORE_NAME", "Feature", "annotation_feature", "detection_features"]

SCORE_NAME = "Detection score"
"""The measurement that holds the score of a nucleus."""

PROBABILITY_NAME = "Probability: "
"""What stands before the name of a class in the measurement of how probable it is."""


def detection_features(
    ids: Sequence[str],
    polygons: Polygons,
    classes: Sequence[str | None],
    measurements: Mapping[str, npt.NDArray[np.float32]],
    names: Sequence[str | None] | None = None,
    metadata: Sequence[Mapping[str, str]] | None = None,
    colours: Mapping[str, Colour | ColourAlpha] = MappingProxyType({}),
    own_colours: Sequence[Colour | None] = (),
    locks: Sequence[bool] = (),
    cells: Polygons | None = None,
) -> list[Feature]:
    """Describe nuclei as QuPath detections, or as cells.

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
    names, metadata
        What each nucleus has of them, if any has.
    colours
        Colours of classes that shall not have the one that ``class_colour`` gives.
    own_colours, locks
        Colour of each nucleus alone, and whether it is locked; empty where none has or is.
    cells
        Boundaries of cells around the nuclei, as valid and rounded as these.

    Returns
    -------
    list of dict
        Ready for orjson with ``OPT_SERIALIZE_NUMPY``; rings are float64 arrays.
    """
    known = {name: PathClass.of(name) for name in set(classes) if name is not None}
    classifications = {
        name: class_member(PathClass(kind.names, colours.get(name, kind.colour)))
        for name, kind in known.items()
    }
    rings = rings_of(polygons)
    columns = [np.asarray(column, np.float32) for column in measurements.values()]
    rows = _measurement_rows(list(measurements), columns, len(ids))
    features: list[Feature] = []
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
    if cells is not None:
        features = [
            _around(cell, feature) for cell, feature in zip(rings_of(cells), features, strict=True)
        ]
    for feature, name in zip(features, names or (), strict=names is not None):
        if name is not None:
            feature["properties"]["name"] = name
    for feature, colour in zip(features, own_colours, strict=bool(own_colours)):
        if colour is not None:
            feature["properties"]["color"] = list(colour)
    for feature, locked in zip(features, locks, strict=bool(locks)):
        if locked:
            feature["properties"]["isLocked"] = True
    for feature, pairs in zip(features, metadata or (), strict=metadata is not None):
        if pairs:
            feature["properties"]["metadata"] = pairs
    return features


def name_in_cell(name: str) -> str:
    """Return QuPath's name for a measurement of a nucleus that has a cell."""
    return name if name.startswith(_NOT_OF_THE_NUCLEUS) else f"Nucleus: {name}"


_NOT_OF_THE_NUCLEUS = (
    *("Nucleus", "Cytoplasm: ", "Cell: "),
    *("Density ", "Nearest ", "Delaunay: ", "Voronoi: "),
)
"""How measurements begin that are of the whole cell, or of its place among the others."""


def _around(cell: list[npt.NDArray[np.float64]], nucleus: Feature) -> Feature:
    """Make a cell of a boundary and the detection that is its nucleus; keys in QuPath's order."""
    return {
        "type": "Feature",
        "id": nucleus["id"],
        "geometry": {"type": "Polygon", "coordinates": cell},
        "nucleusGeometry": nucleus["geometry"],
        "properties": nucleus["properties"] | {"objectType": "cell"},
    }


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
