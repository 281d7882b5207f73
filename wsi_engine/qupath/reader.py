"""Reading the objects of a QuPath GeoJSON file."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely

from wsi_engine.errors import GeoJSONError

GEOMETRY_TYPES = frozenset(
    {"Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"}
)


@dataclass(frozen=True, slots=True)
class QuPathObject:
    """One object: its geometry is in QuPath pixels."""

    object_type: str
    geometry: shapely.Geometry
    identity: str | None = None
    name: str | None = None
    classification: str | None = None


def read_objects(path: str | Path) -> list[QuPathObject]:
    """Read the objects of a GeoJSON file, plain or gzipped.

    A FeatureCollection, a bare array of features, a single feature and a bare geometry are
    all read, as QuPath does.

    Raises
    ------
    GeoJSONError
        When the file is absent or malformed; the message names the feature.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        document = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except FileNotFoundError:
        raise GeoJSONError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise GeoJSONError(f"{path} cannot be read: {error}") from None
    except orjson.JSONDecodeError as error:
        raise GeoJSONError(f"{path.name} is not JSON: {error}") from None
    features = _features(document)
    if not isinstance(features, list):
        raise GeoJSONError(f"{path.name}: its features are not a list")
    objects = []
    for index, feature in enumerate(features):
        try:
            objects.append(_object(feature))
        except (KeyError, TypeError, ValueError, AttributeError, shapely.GEOSException) as error:
            raise GeoJSONError(f"{path.name}: feature {index} is malformed: {error}") from None
    return objects


def _features(document: Any) -> Any:
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return []
    if document.get("type") == "FeatureCollection":
        return document.get("features") or []
    if document.get("type") == "Feature":
        return [document]
    if document.get("type") in GEOMETRY_TYPES:
        return [{"type": "Feature", "geometry": document}]
    return []


def _object(feature: dict[str, Any]) -> QuPathObject:
    properties = feature.get("properties") or {}
    classification = properties.get("classification")
    if isinstance(classification, dict):
        names = classification.get("names")
        classification = classification.get("name") or (": ".join(names) if names else None)
    return QuPathObject(
        object_type=properties.get("objectType", "annotation"),
        geometry=_geometry(feature["geometry"]),
        identity=feature.get("id"),
        name=properties.get("name"),
        classification=classification,
    )


def _geometry(member: dict[str, Any]) -> shapely.Geometry:
    if not member:
        return shapely.GeometryCollection()
    if member.get("type") not in GEOMETRY_TYPES:
        raise ValueError(f"geometry of type {member.get('type')!r}")
    geometry = shapely.from_geojson(orjson.dumps(member))
    if member.get("isEllipse"):
        return _ellipse(geometry)
    return geometry if geometry.is_valid else shapely.make_valid(geometry)


def _ellipse(outline: shapely.Geometry) -> shapely.Polygon:
    """QuPath takes the bounding box of the outline for the ellipse's."""
    left, top, right, bottom = outline.bounds
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    x = (left + right) / 2 + (right - left) / 2 * np.cos(angle)
    y = (top + bottom) / 2 + (bottom - top) / 2 * np.sin(angle)
    return shapely.Polygon(np.column_stack([x, y]))
