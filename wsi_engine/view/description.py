"""What a page is told of a result before it asks for nuclei: `view.json` and `regions.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import shapely

from wsi_engine.nuclei.polygons import polygon_parts
from wsi_engine.qupath.colours import class_colour
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.quality_files import read_flags
from wsi_engine.results.region import Region
from wsi_engine.version import __version__

FORMAT = 1
"""Counted up when a page of before would misread what it is told."""

USUAL_DIAMETER_UM = 7.0
AREA = "Area µm^2"

FINEST_SHARE = 1 / 8000
"""Borders of regions are simplified by this share of the slide's longer side, at most."""


def describe_result(result: SlideResult, columns: Sequence[str]) -> dict[str, Any]:
    """Return what does not depend on how nuclei are sent: slide, classes, columns.

    Parameters
    ----------
    result
        The result.
    columns
        Names of the columns of numbers.
    """
    record = result.record
    own = record.model.class_colours
    return {
        "format": FORMAT,
        "version": __version__,
        "name": result.name,
        "model": record.model.name,
        "finished": record.finished,
        "width": record.slide.bounds.width,
        "height": record.slide.bounds.height,
        "mpp": {"x": result.mpp.x, "y": result.mpp.y},
        "classes": [
            {"name": name, "colour": own.get(name, class_colour(name))} for name in result.classes
        ],
        "columns": [
            {
                "name": name,
                "unit": result.unit(name),
                "formula": result.described(name).formula,
                "essential": result.described(name).essential,
            }
            for name in columns
        ],
    }


def usual_diameter_um(areas_um2: npt.NDArray[np.float32] | None) -> float:
    """Return the diameter of a disc of the median area, that of a small nucleus if unknown."""
    if areas_um2 is None or not (known := areas_um2[areas_um2 > 0]).size:
        return USUAL_DIAMETER_UM
    return float(2 * np.sqrt(np.median(known) / np.pi))


def describe_regions(result: SlideResult) -> dict[str, Any]:
    """Return the tissue, the regions of interest and the doubtful places, and all flags."""
    longer = max(result.record.slide.bounds.width, result.record.slide.bounds.height)
    flags = read_flags(result) or []
    places = [
        _region("quality", flag.name, place, longer, level=flag.level)
        for flag in flags
        for place in flag.where
    ]
    regions = [
        _region(region.kind, region.name, region.geometry, longer, **_class_of(region))
        for region in (*result.tissue, *result.drawn)
    ]
    told = [{"name": flag.name, "level": flag.level, "sentence": flag.sentence} for flag in flags]
    return {"regions": [*regions, *places], "flags": told}


def _class_of(region: Region) -> dict[str, Any]:
    name = region.class_name
    return {"class": name, "colour": None if name is None else class_colour(name)}


def _region(
    kind: str, name: str, geometry: shapely.Geometry, longer_px: int, **facts: Any
) -> dict[str, Any]:
    simple = shapely.simplify(geometry, max(0.5, longer_px * FINEST_SHARE))
    rings = [
        [np.round(shapely.get_coordinates(ring)[:-1], 1).tolist() for ring in _rings(part)]
        for part in polygon_parts(simple)
    ]
    return {"kind": kind, "name": name, "polygons": rings, **facts}


def _rings(polygon: shapely.Polygon) -> list[Any]:
    return [polygon.exterior, *polygon.interiors]


def dumped(content: dict[str, Any]) -> bytes:
    """Return JSON."""
    return orjson.dumps(content)
