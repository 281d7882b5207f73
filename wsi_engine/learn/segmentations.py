"""Segmentations on disk: label images, and polygons in QuPath's GeoJSON."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import shapely

from wsi_engine.learn.errors import DatasetError
from wsi_engine.learn.images import read_labels
from wsi_engine.learn.metrics import Overlaps
from wsi_engine.learn.rasterise import rasterise
from wsi_engine.learn.targets import UNKNOWN

_GEOJSON = (".geojson", ".json", ".geojson.gz", ".json.gz")
_IMAGES = (".png", ".tif", ".tiff", ".npy")


@dataclass(frozen=True, slots=True)
class Polygons:
    """Nuclei as polygons in full-resolution pixels, with the names of their classes."""

    shapes: npt.NDArray[np.object_]
    classes: npt.NDArray[np.str_]

    def of_class(self, name: str) -> Polygons:
        """Return the nuclei of one class."""
        chosen = self.classes == name
        return Polygons(self.shapes[chosen], self.classes[chosen])

    def draw(self, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
        """Draw the exteriors into a label image."""
        parts = shapely.get_parts(self.shapes)
        rings = shapely.get_exterior_ring(parts)
        xy, ring = shapely.get_coordinates(rings, return_index=True)
        offsets = np.searchsorted(ring, np.arange(len(rings) + 1))
        return rasterise(xy, offsets.astype(np.int64), shape)


Segmentation = npt.NDArray[np.integer[Any]] | Polygons


def is_segmentation(path: Path) -> bool:
    """Tell whether a file can hold a segmentation, by its name."""
    return path.name.lower().endswith(_GEOJSON + _IMAGES)


def is_geojson(path: Path) -> bool:
    """Tell whether a file holds GeoJSON, by its name."""
    return path.name.lower().endswith(_GEOJSON)


def stem_of(path: Path) -> str:
    """Return the name of a file without what says its kind."""
    for suffix in sorted(_GEOJSON + _IMAGES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def read_segmentation(path: Path) -> Segmentation:
    """Read a label image or a GeoJSON file.

    Raises
    ------
    DatasetError
        If it cannot be read.
    """
    if is_geojson(path):
        return read_polygons(path)
    labels = read_labels(path)
    return np.where(labels == UNKNOWN, 0, labels)


def read_polygons(path: Path) -> Polygons:
    """Read the nuclei of a GeoJSON file.

    Detections and cells are nuclei, a cell with its nucleus where it has one. Annotations
    are nuclei only in a file without any detection, as when they were drawn by hand.

    Raises
    ------
    DatasetError
        If the file is not GeoJSON or a geometry is not valid.
    """
    try:
        content = path.read_bytes()
        document = orjson.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        features = document.get("features", [document]) if isinstance(document, dict) else document
        objects = [_object(feature) for feature in features]
        nuclei = [entry for entry in objects if entry[0] in ("detection", "cell")] or objects
        nuclei = [entry for entry in nuclei if entry[2]["type"] in ("Polygon", "MultiPolygon")]
        shapes = shapely.from_geojson([orjson.dumps(geometry) for *_, geometry in nuclei])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is not GeoJSON: {error}") from error
    except shapely.GEOSException as error:
        raise DatasetError(f"{path} holds a geometry that is no polygon: {error}") from error
    shapes = np.asarray(shapes, dtype=object)
    invalid = np.flatnonzero(~shapely.is_valid(shapes))
    if len(invalid):
        raise DatasetError(
            f"{path}: nucleus {invalid[0]} is not a valid polygon "
            f"({shapely.is_valid_reason(shapes[invalid[0]])})."
        )
    return Polygons(shapes, np.array([name for _, name, _ in nuclei], dtype=np.str_))


def _object(feature: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Return kind, class and geometry of a feature."""
    properties = feature.get("properties") or {}
    kind = str(properties.get("objectType", "annotation")).lower()
    classification = properties.get("classification") or {}
    name = classification.get("name") or ":".join(classification.get("names", []))
    return kind, name, feature.get("nucleusGeometry") or feature["geometry"]


def polygon_overlaps(truth: Polygons, prediction: Polygons) -> Overlaps:
    """Find the pairs of nuclei that share area, without drawing them."""
    tree = shapely.STRtree(prediction.shapes)
    true, predicted = tree.query(truth.shapes, predicate="intersects")
    shared = shapely.area(shapely.intersection(truth.shapes[true], prediction.shapes[predicted]))
    some = shared > 0
    return Overlaps(
        np.asarray(true[some], np.int64),
        np.asarray(predicted[some], np.int64),
        np.asarray(shared[some], np.float64),
        np.asarray(shapely.area(truth.shapes), np.float64),
        np.asarray(shapely.area(prediction.shapes), np.float64),
    )
