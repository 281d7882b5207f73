"""Segmentations on disk: label images, and polygons in QuPath's GeoJSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.evaluation.drawings import read_drawing
from wsi_engine.evaluation.images import UNKNOWN, read_labels
from wsi_engine.evaluation.metrics import Overlaps
from wsi_engine.evaluation.pairing import is_geojson
from wsi_engine.evaluation.polygons import Polygons

Segmentation = npt.NDArray[np.integer[Any]] | Polygons


def read_segmentation(path: Path) -> Segmentation:
    """Read a label image or a GeoJSON file.

    Raises
    ------
    DatasetError, GeoJSONError
        If it cannot be read.
    """
    if is_geojson(path):
        return read_drawing(path).nuclei_of_image()
    labels = read_labels(path)
    return np.where(labels == UNKNOWN, 0, labels)


def polygon_overlaps(
    truth: npt.NDArray[np.object_], prediction: npt.NDArray[np.object_]
) -> Overlaps:
    """Find the pairs of polygons that share area, without drawing them."""
    true, predicted = shapely.STRtree(prediction).query(truth, predicate="intersects")
    shared = shapely.area(shapely.intersection(truth[true], prediction[predicted]))
    some = shared > 0
    all_true, all_predicted = (
        shapely.union_all(shapely.make_valid(s)) for s in (truth, prediction)
    )
    foreground = (all_true.area, all_predicted.area, (all_true & all_predicted).area)
    return Overlaps(
        np.asarray(true[some], np.int64),
        np.asarray(predicted[some], np.int64),
        np.asarray(shared[some], np.float64),
        np.asarray(shapely.area(truth), np.float64),
        np.asarray(shapely.area(prediction), np.float64),
        foreground,
    )
