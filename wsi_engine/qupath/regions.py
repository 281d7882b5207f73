"""Regions of interest that a pathologist drew in QuPath."""

from __future__ import annotations

import logging
from pathlib import Path

import shapely

from wsi_engine.errors import RegionError
from wsi_engine.qupath.reader import read_objects

log = logging.getLogger(__name__)


def read_region_of_interest(path: str | Path) -> shapely.Geometry:
    """Unite the areas of all annotations in a GeoJSON file, in QuPath pixels.

    Points and lines have no area: they are passed over with a warning.

    Raises
    ------
    GeoJSONError
        When the file cannot be read.
    RegionError
        When no annotation in it has an area.
    """
    annotations = [item for item in read_objects(path) if item.object_type == "annotation"]
    areas = [item.geometry for item in annotations if item.geometry.area > 0]
    if not areas:
        raise RegionError(f"{Path(path).name} holds no annotation with an area: draw one in QuPath")
    if len(areas) < len(annotations):
        log.warning(
            "%s: %d annotations are points or lines and cannot bound a region",
            Path(path).name,
            len(annotations) - len(areas),
        )
    return shapely.union_all(areas)
