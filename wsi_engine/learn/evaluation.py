"""Comparing a result with the truth, file against file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely

from wsi_engine.errors import GeoJSONError
from wsi_engine.learn.matching import Matching, match_polygons
from wsi_engine.qupath.reader import QuPathObject, read_objects


def evaluate_files(predicted: Path, truth: Path, min_iou: float = 0.5) -> Matching:
    """Match the nuclei of two GeoJSON files.

    Parameters
    ----------
    predicted
        Detections or cells that the engine found.
    truth
        The true ones. Where this file has annotations with an area, only predictions whose
        centroid lies in one are judged: outside, nobody annotated.

    Raises
    ------
    GeoJSONError
        When a file cannot be read, or the truth holds no nuclei.
    """
    found, true = read_objects(predicted), read_objects(truth)
    nuclei = np.array([o.geometry for o in found if _is_nucleus(o)], object)
    true_nuclei = np.array([o.geometry for o in true if _is_nucleus(o)], object)
    if len(true_nuclei) == 0:
        raise GeoJSONError(f"{truth.name} holds no detections to compare with")
    fields = [o.geometry for o in true if not _is_nucleus(o) and o.geometry.area > 0]
    if fields:
        centres = shapely.get_coordinates(shapely.centroid(nuclei))
        judged = shapely.union_all(fields)
        shapely.prepare(judged)
        nuclei = nuclei[shapely.contains_xy(judged, *centres.T)]
    return match_polygons(nuclei, true_nuclei, min_iou)


def _is_nucleus(item: QuPathObject) -> bool:
    return item.object_type in ("detection", "cell")
