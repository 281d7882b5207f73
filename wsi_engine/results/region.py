"""The regions of a slide: the slide itself, its pieces of tissue, what a pathologist drew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import shapely

from wsi_engine.errors import RegionError
from wsi_engine.nuclei.polygons import polygon_parts
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.regions import read_annotations

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

    @property
    def is_core(self) -> bool:
        """Whether it is a core of a tissue microarray."""
        return self.source is not None and self.source.object_type == "tmaCore"

    @property
    def is_missing(self) -> bool:
        """Whether it is a core that was marked as holding no tissue: nothing is told of it."""
        return self.source is not None and self.source.is_missing

    @property
    def metadata(self) -> dict[str, str]:
        """What was noted of it in QuPath, such as ``Case ID``."""
        return {} if self.source is None else self.source.metadata


def read_regions(path: Path, kind: Kind) -> list[Region]:
    """Read the regions of a GeoJSON file, as `wsi_engine.qupath.regions` has them.

    Raises
    ------
    GeoJSONError
        When the file cannot be read.
    """
    regions = []
    for number, item in read_annotations(path).items():
        name = item.name or f"{item.class_name or 'Annotation'} {number}"
        source = replace(item, is_locked=item.is_locked or kind == "tissue")
        regions.append(Region(kind, name, areal(item.geometry), source))
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


def areal(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return the polygons in a geometry, without its points and lines, and valid."""
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry)
    parts = polygon_parts(geometry)
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
