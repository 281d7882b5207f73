"""Segmentations on disk: label images, and polygons in QuPath's GeoJSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.learn.images import read_labels
from wsi_engine.learn.metrics import Overlaps
from wsi_engine.learn.rasterise import rasterise
from wsi_engine.learn.targets import UNKNOWN
from wsi_engine.qupath.reader import read_objects

_GEOJSON = (".geojson", ".json", ".geojson.gz", ".json.gz")
_IMAGES = (".png", ".tif", ".tiff", ".npy")


@dataclass(frozen=True, slots=True)
class Polygons:
    """Nuclei as polygons in full-resolution pixels, with the names of their classes.

    Attributes
    ----------
    field
        Where all nuclei are known, or ``None`` for everywhere.
    """

    shapes: npt.NDArray[np.object_]
    classes: npt.NDArray[np.str_]
    field: shapely.Geometry | None = None

    def of_class(self, name: str) -> Polygons:
        """Return the nuclei of one class."""
        return self._where(self.classes == name)

    def within(self, field: shapely.Geometry) -> Polygons:
        """Return the nuclei whose centroid lies in a field."""
        shapely.prepare(field)
        x, y = self.centroids.T
        return self._where(shapely.intersects_xy(field, x, y))

    @property
    def centroids(self) -> npt.NDArray[np.float64]:
        """Centroid of each nucleus, shape (n, 2)."""
        return np.asarray(shapely.get_coordinates(shapely.centroid(self.shapes)), np.float64)

    def _where(self, chosen: npt.NDArray[np.bool_]) -> Polygons:
        return Polygons(self.shapes[chosen], self.classes[chosen], self.field)

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
    DatasetError, GeoJSONError
        If it cannot be read.
    """
    if is_geojson(path):
        return read_polygons(path)
    labels = read_labels(path)
    return np.where(labels == UNKNOWN, 0, labels)


def read_polygons(path: Path) -> Polygons:
    """Read the nuclei of a GeoJSON file.

    Detections and cells are nuclei, and the annotations beside them are the fields in which
    they were annotated. In a file without any detection, as when nuclei were drawn by hand, the
    annotations are the nuclei.

    Raises
    ------
    GeoJSONError
        If the file cannot be read.
    """
    areas = [item for item in read_objects(path) if item.geometry.area > 0]
    nuclei = [item for item in areas if item.object_type in ("detection", "cell")]
    fields = [item.geometry for item in areas if item.object_type == "annotation"]
    if not nuclei:
        nuclei, fields = areas, []
    return Polygons(
        np.array([item.geometry for item in nuclei], object),
        np.array([item.class_name or "" for item in nuclei], np.str_),
        shapely.union_all(fields) if fields else None,
    )


def polygon_overlaps(
    truth: npt.NDArray[np.object_], prediction: npt.NDArray[np.object_]
) -> Overlaps:
    """Find the pairs of polygons that share area, without drawing them."""
    true, predicted = shapely.STRtree(prediction).query(truth, predicate="intersects")
    shared = shapely.area(shapely.intersection(truth[true], prediction[predicted]))
    some = shared > 0
    return Overlaps(
        np.asarray(true[some], np.int64),
        np.asarray(predicted[some], np.int64),
        np.asarray(shared[some], np.float64),
        np.asarray(shapely.area(truth), np.float64),
        np.asarray(shapely.area(prediction), np.float64),
    )
