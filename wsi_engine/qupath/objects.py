"""The objects of a QuPath image: what pathologists draw and what the engine finds.

Names are QuPath's own (``PathObject``, ``PathClass``, ``ROI``, ``ImagePlane``), so that its
users find their way. All coordinates are QuPath pixels: full resolution, pixel corners, from
the top-left of the image as QuPath shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import geojson
import shapely

from wsi_engine.qupath.colours import class_colour

ObjectType = Literal["annotation", "detection", "cell", "tile", "tmaCore", "root"]
OBJECT_TYPES: tuple[ObjectType, ...] = get_args(ObjectType)

RGB = tuple[int, int, int]
RGBA = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ImagePlane:
    """Which plane of a stack a shape lies on: channel (-1 for all), focal plane, time."""

    c: int = -1
    z: int = 0
    t: int = 0


FIRST_PLANE = ImagePlane()


@dataclass(frozen=True, slots=True)
class ROI:
    """A shape on a plane.

    Attributes
    ----------
    geometry
        Point, MultiPoint, LineString, Polygon or MultiPolygon; empty where QuPath wrote a shape
        that holds nothing.
    is_ellipse
        QuPath then shows the ellipse in the geometry's bounding box.
    """

    geometry: shapely.Geometry
    plane: ImagePlane = FIRST_PLANE
    is_ellipse: bool = False


@dataclass(frozen=True, slots=True)
class PathClass:
    """A classification, such as ``Tumor`` or, derived from it, ``Tumor: Positive``.

    Attributes
    ----------
    names
        From the base class to the last derived one.
    colour
        RGB, or RGBA where the class is shown translucent.
    """

    names: tuple[str, ...]
    colour: RGB | RGBA

    @classmethod
    def of(cls, name: str) -> PathClass:
        """Return the class of a name like ``Tumor: Positive``, in QuPath's colour of it."""
        names = tuple(part.strip() for part in name.split(":"))
        return cls(names, class_colour(": ".join(names)))

    def __str__(self) -> str:
        return ": ".join(self.names)


@dataclass(slots=True, kw_only=True)
class PathObject:
    """One object with all that QuPath keeps of it.

    Attributes
    ----------
    id
        UUID, lower case; ``None`` where the file has none that QuPath would keep.
    roi
        ``None`` for a root object, and for a cell of which only the nucleus is known.
    nucleus
        Of a cell.
    colour
        Of this object alone, over that of its class.
    is_missing
        Of a TMA core.
    measurements
        In their order; QuPath holds them as float32. NaN and the infinities are values.
    children
        As nested in the file. QuPath's own exports are flat.
    unknown, unknown_properties
        Members of the feature and of its properties that QuPath does not know, kept so that
        they can be written back.
    """

    object_type: ObjectType
    roi: ROI | None
    id: str | None = None
    nucleus: ROI | None = None
    name: str | None = None
    classification: PathClass | None = None
    colour: RGB | None = None
    is_locked: bool = False
    is_missing: bool = False
    measurements: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    children: list[PathObject] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)
    unknown_properties: dict[str, Any] = field(default_factory=dict)

    @property
    def geometry(self) -> shapely.Geometry:
        """The shape: of a cell without boundary the nucleus, of a root an empty collection."""
        roi = self.roi or self.nucleus
        return shapely.GeometryCollection() if roi is None else roi.geometry

    @property
    def class_name(self) -> str | None:
        """Name of the classification, such as ``Tumor: Positive``."""
        return None if self.classification is None else str(self.classification)

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """The object as a GeoJSON mapping, as geopandas, shapely and others take it."""
        # Features are made of objects: imported at the top, each would need the other first.
        from wsi_engine.qupath.object_features import plain_feature

        return plain_feature(self)

    def to_geojson(self) -> geojson.Feature:
        """Return the object as a feature of the package ``geojson``, in QuPath's dialect."""
        return geojson.Feature(**{k: v for k, v in self.__geo_interface__.items() if k != "type"})

    def flattened(self) -> Iterator[PathObject]:
        """Yield this object and all below it, parents first."""
        pending = [self]
        while pending:
            item = pending.pop()
            yield item
            pending.extend(reversed(item.children))
