"""The regions of a slide: the slide itself, its pieces of tissue, what a pathologist drew."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import shapely

from wsi_engine.errors import RegionError
from wsi_engine.nuclei.polygons import polygon_parts
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.reader import read_objects

log = logging.getLogger(__name__)

Kind = Literal["slide", "tissue", "annotation"]


@dataclass(frozen=True)
class Region:
    """A part of a slide.

    Attributes
    ----------
    kind
        The whole slide, a piece of tissue that the engine found, or an annotation.
    name
        Name of the region, which others may have, too.
    geometry
        Polygon or MultiPolygon, QuPath pixels.
    source
        The annotation as it was read; ``None`` for the slide.
    """

    kind: Kind
    name: str
    geometry: shapely.Geometry
    source: PathObject | None = None

    @property
    def id(self) -> str | None:
        """UUID of the annotation."""
        return None if self.source is None else self.source.id

    @property
    def class_name(self) -> str | None:
        """Class of the annotation."""
        return None if self.source is None else self.source.class_name


def read_regions(path: Path, kind: Kind) -> list[Region]:
    """Read the annotations of a GeoJSON file as regions, nested ones too, in their order.

    Points and lines have no area: they are passed over with a warning.

    Raises
    ------
    GeoJSONError
        When the file cannot be read.
    """
    annotations = _read_annotations(path)
    regions = []
    for index, item in enumerate(annotations, start=1):
        geometry = areal(item.geometry)
        if geometry.is_empty:
            continue
        identity = item.id or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{index} {geometry.wkt}"))
        name = item.name or f"{item.class_name or 'Annotation'} {index}"
        locked = item.is_locked or kind == "tissue"
        regions.append(Region(kind, name, geometry, replace(item, id=identity, is_locked=locked)))
    if len(regions) < len(annotations):
        log.warning(
            "%s: %d annotations are points or lines and have no area to count in",
            path.name,
            len(annotations) - len(regions),
        )
    return regions


def read_drawn_regions(path: Path) -> list[Region]:
    """Read what a pathologist drew.

    Raises
    ------
    GeoJSONError
        When the file cannot be read.
    RegionError
        When no annotation in it has an area.
    """
    regions = read_regions(path, "annotation")
    if not regions:
        raise RegionError(f"{path.name} holds no annotation with an area: draw one in QuPath")
    return regions


def _read_annotations(path: Path) -> Sequence[PathObject]:
    """Return all annotations and TMA cores of a file, nested ones too, each for itself."""
    return [
        replace(item, children=[])
        for top in read_objects(path)
        for item in top.flattened()
        if item.object_type in ("annotation", "tmaCore")
    ]


def areal(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return the polygons in a geometry, without its points and lines, and valid."""
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry)
    parts = polygon_parts(geometry)
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
