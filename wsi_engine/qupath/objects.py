"""The objects of a QuPath image: what pathologists draw and what the engine finds.

Names are QuPath's own (``PathObject``, ``PathClass``, ``ROI``, ``ImagePlane``), so that its
users find their way. All coordinates are QuPath pixels: full resolution, pixel corners, from
the top-left of the image as QuPath shows it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import geojson
import numpy as np
import orjson
import shapely

from wsi_engine.errors import GeoJSONError
from wsi_engine.qupath.colours import Colour, ColourAlpha, class_colour
from wsi_engine.qupath.problems import Note
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.roi_members import roi_members

ObjectType = Literal["annotation", "detection", "cell", "tile", "tmaCore", "root"]
OBJECT_TYPES: tuple[ObjectType, ...] = get_args(ObjectType)

Feature = dict[str, Any]

NonFinite = Literal["omit", "string"]
"""What becomes of a measurement that is NaN or infinite.

``omit``: it is left out. QuPath shows a missing measurement as NaN, and QuPath 0.4 refuses a file
that holds one in any form. ``string``: it is written as QuPath 0.5 and later do, ``"NaN"``.
"""

_OWN_PROPERTIES = frozenset(
    {
        *("objectType", "object_type", "name", "color", "classification", "isLocked"),
        *("isMissing", "measurements", "metadata", "childObjects", "children"),
    }
)


@dataclass(frozen=True, slots=True)
class PathClass:
    """A classification, such as ``Tumor`` or, derived from it, ``Tumor: Positive``.

    Attributes
    ----------
    names
        Names from the base class to the last derived one.
    colour
        RGB, or RGBA where the class is shown translucent.
    """

    names: tuple[str, ...]
    colour: Colour | ColourAlpha

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
        The nucleus of a cell.
    colour
        Colour of this object alone, over that of its class.
    is_missing
        Whether a TMA core holds no tissue.
    measurements
        Numbers by name, in their order; QuPath holds them as float32. NaN and the infinities
        are values.
    children
        Objects nested in this one in the file. QuPath's own exports are flat.
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
    colour: Colour | None = None
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

    def is_of_class(self, names: Sequence[str]) -> bool:
        """Whether the classification is one of some, such as ``Tumor``, or derived from one."""
        if self.classification is None:
            return False
        own, stems = self.classification.names, [PathClass.of(name).names for name in names]
        return any(own[: len(stem)] == stem for stem in stems)

    @property
    def __geo_interface__(self) -> dict[str, Any]:
        """The object as a GeoJSON mapping, as geopandas, shapely and others take it."""
        dumped = orjson.dumps(object_feature(self), option=orjson.OPT_SERIALIZE_NUMPY)
        feature: Feature = orjson.loads(dumped)
        return feature | {"geometry": feature["geometry"] or None}

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


def object_feature(item: PathObject, *, non_finite: NonFinite = "omit") -> Feature:
    """Describe one object, with its children, as a feature.

    See `object_features`.
    """
    return object_features([item], non_finite=non_finite)[0]


def object_features(
    objects: Sequence[PathObject], *, non_finite: NonFinite = "omit", note: Note | None = None
) -> list[Feature]:
    """Describe objects as features; those nested in them stand in ``childObjects``.

    Shapes are rounded to 0.01 px, as QuPath keeps them, and then made valid: QuPath 0.6 and later
    refuses a whole file for one polygon that is not. An object without id gets a new one.

    Parameters
    ----------
    objects
        Each with a shape, except roots and cells of which the nucleus is known.
    non_finite
        What becomes of measurements that are no finite float32.
    note
        Takes what could not be kept.

    Returns
    -------
    list of dict
        Ready for orjson with ``OPT_SERIALIZE_NUMPY``; most rings are float64 arrays.

    Raises
    ------
    GeoJSONError
        If an object is nothing that QuPath could hold.
    """
    note = note or (lambda _: None)
    every = [item for top in objects for item in top.flattened()]
    rois = [roi for item in every for roi in _rois(item)]
    shapes = iter(roi_members(rois, note))
    features: dict[int, Feature] = {}
    for item in every:
        features[id(item)] = _feature(item, shapes, non_finite)
    for item in every:
        if item.children:
            properties = features[id(item)]["properties"]
            properties["childObjects"] = [features[id(child)] for child in item.children]
    return [features[id(item)] for item in objects]


def class_member(classification: PathClass) -> Feature:
    """Describe a class. QuPath 0.4 and later refuses a whole file for a class without colour."""
    names = classification.names
    named: Feature = {"name": names[0]} if len(names) == 1 else {"names": list(names)}
    return named | {"color": list(classification.colour)}


def finite_measurements(
    measurements: Mapping[str, float], non_finite: NonFinite = "omit"
) -> dict[str, Any]:
    """Return measurements as they are written, as float32.

    Values stay numpy's float32, as QuPath holds them: orjson then prints 0.1 and not
    0.10000000149.
    """
    with np.errstate(over="ignore"):
        values = np.array(list(measurements.values()), np.float32)
    if np.isfinite(values).all():
        return dict(zip(measurements, values, strict=True))
    if non_finite == "omit":
        pairs = zip(measurements, values, strict=True)
        return {name: value for name, value in pairs if np.isfinite(value)}
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return {
        name: value if np.isfinite(value) else words[str(float(value))]
        for name, value in zip(measurements, values, strict=True)
    }


def each_line(item: PathObject) -> list[PathObject]:
    """Split an object of several lines into one for each.

    QuPath reads a MultiLineString, and can then export nothing any more. The first keeps the
    id and the children.
    """
    if item.roi is None or item.roi.geometry.geom_type != "MultiLineString":
        return [item]
    lines = shapely.get_parts(shapely.line_merge(item.roi.geometry))
    if not len(lines):
        return [item]
    first, *others = (ROI(line, item.roi.plane) for line in lines)
    return [
        replace(item, roi=first),
        *(replace(item, roi=other, id=None, children=[]) for other in others),
    ]


def _rois(item: PathObject) -> list[ROI]:
    if item.roi is None and item.object_type != "root":
        if item.object_type != "cell" or item.nucleus is None:
            raise GeoJSONError(f"{_called(item)} has no shape: QuPath would refuse the whole file")
        return [item.nucleus]
    nucleus = item.nucleus if item.object_type == "cell" else None
    return [roi for roi in (item.roi, nucleus) if roi is not None]


def _called(item: PathObject) -> str:
    return f"the {item.object_type} {item.id or item.name or 'without id'}"


def _feature(item: PathObject, shapes: Iterator[Feature], non_finite: NonFinite) -> Feature:
    feature: Feature = {
        "type": "Feature",
        "id": item.id or str(uuid.uuid4()),
        "geometry": {} if item.roi is None else next(shapes),
    }
    if item.object_type == "cell" and item.nucleus is not None:
        feature["nucleusGeometry"] = next(shapes)
    properties: Feature = {"objectType": item.object_type}
    if item.name is not None:
        properties["name"] = item.name
    if item.colour is not None:
        properties["color"] = list(item.colour)
    if item.classification is not None:
        properties["classification"] = class_member(item.classification)
    if item.is_locked:
        properties["isLocked"] = True
    if item.object_type == "tmaCore":
        properties["isMissing"] = item.is_missing
    if item.measurements:
        values = finite_measurements(item.measurements, non_finite)
        if values:
            properties["measurements"] = values
    if item.metadata:
        properties["metadata"] = item.metadata
    for name, value in item.unknown_properties.items():
        if name not in _OWN_PROPERTIES:
            properties[name] = value
    feature["properties"] = properties
    for name, value in item.unknown.items():
        if value is not None:
            feature.setdefault(name, value)
    return feature
