"""Features made into objects, in every dialect that QuPath has written since 0.2."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from wsi_engine.qupath.classification import read_class, read_colour, text_of
from wsi_engine.qupath.json_stream import GEOMETRY_TYPES, Element
from wsi_engine.qupath.lenient_json import JSONError, parse_json
from wsi_engine.qupath.objects import OBJECT_TYPES, ObjectType, PathObject
from wsi_engine.qupath.problems import Note, Problem, UnreadableError, describe
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.shapes import (
    PolygonBatch,
    ellipse_within,
    read_number,
    read_roi,
    read_truth,
)

TYPE_NAMES: dict[str, ObjectType] = {name: name for name in OBJECT_TYPES} | {
    "tma_core": "tmaCore",
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "TMACoreObject": "tmaCore",
    "PathRootObject": "root",
}
_TYPE_KEYS = ("objectType", "object_type", "type")
_MEMBERS = frozenset({"type", "id", "geometry", "nucleusGeometry", "properties"})
_UUID = re.compile(r"-".join(rf"([0-9a-fA-F]{{1,{n}}})" for n in (8, 4, 4, 4, 12)))
_PLAIN_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

OnProblem = Callable[[Problem], None]


def parse_block(
    elements: Iterable[Element], source: str, report: OnProblem, *, in_collection: bool = False
) -> Iterator[PathObject]:
    """Make features into objects, a block at a time: their polygons are built together.

    Parameters
    ----------
    elements
        Some thousand features.
    source
        Name of the file, for problems.
    report
        Takes each problem; what it raises ends the reading.
    in_collection
        Whether they stand in a FeatureCollection, where QuPath refuses bare geometries.
    """
    parsed: list[tuple[int, Any]] = []
    batch = PolygonBatch()
    for element in elements:
        try:
            value = parse_json(element.raw) if element.raw else None
        except JSONError as error:
            report(Problem(source, element.index, None, f"it is not JSON: {error}", skipped=True))
            continue
        features = [value]
        if (
            not in_collection
            and isinstance(value, dict)
            and value.get("type") == "FeatureCollection"
        ):
            # A bare array may hold whole collections.
            inner = value.get("features")
            features = inner if isinstance(inner, list) else features
        for feature in features:
            _add_shapes(batch, feature)
            parsed.append((element.index, feature))
    batch.build()
    for index, feature in parsed:
        notes: list[str] = []
        item = None
        try:
            if _is_geometry(feature):
                if in_collection:
                    notes.append("it is a bare geometry, which QuPath refuses in a collection")
                feature = {"type": "Feature", "geometry": feature}
            item = parse_feature(feature, notes.append)
        except UnreadableError as error:
            # That it is left out says more than what was odd about it.
            notes = [str(error)]
        if notes:
            identity = _given_id(feature) if item is None else item.id
            for note in notes:
                report(Problem(source, index, identity, note, skipped=item is None))
        if item is not None:
            yield item


def parse_feature(feature: Any, note: Note) -> PathObject:
    """Make one feature, with the objects nested in it, into an object.

    Parameters
    ----------
    feature
        Parsed JSON, which is used up: polygons take the place of coordinates.
    note
        Takes what is odd about it.

    Raises
    ------
    UnreadableError
        If it cannot be read at all.
    """
    item, nested = _parse(feature, note)
    pending = [(item, nested)] if nested else []
    while pending:
        parent, features = pending.pop()
        batch = PolygonBatch()
        for child_feature in features:
            _add_shapes(batch, child_feature)
        batch.build()
        for child_feature in features:
            try:
                child, nested = _parse(child_feature, note)
            except UnreadableError as error:
                named = _given_id(child_feature) or "without id"
                note(f"a child of it ({named}) is left out: {error}")
                continue
            parent.children.append(child)
            if nested:
                pending.append((child, nested))
    return item


def _parse(feature: Any, note: Note) -> tuple[PathObject, list[Any]]:
    """Parse a feature by itself; return it with the features nested in it."""
    if not isinstance(feature, dict):
        raise UnreadableError(f"it is {describe(feature)} and no Feature")
    if feature.get("type") != "Feature":
        raise UnreadableError(f"its type is {describe(feature.get('type'))} and not Feature")
    properties = feature.get("properties", {})
    if properties is None:
        note("its properties are null, which QuPath refuses: it is an annotation")
        properties = {}
    elif not isinstance(properties, dict):
        raise UnreadableError(f"its properties are {describe(properties)}")
    identity = feature.get("id")
    object_type = _object_type(properties, identity, note)
    roi, nucleus = _rois(feature, object_type, note)
    item = PathObject(object_type=object_type, roi=roi, nucleus=nucleus)
    if "id" in feature:
        item.id = _uuid(identity, note)
    if not feature.keys() <= _MEMBERS:
        item.unknown = {name: v for name, v in feature.items() if name not in _MEMBERS}
    if object_type != "cell" and feature.get("nucleusGeometry"):
        note("it has a nucleus but is no cell, so that QuPath passes over the nucleus")
        item.unknown["nucleusGeometry"] = feature["nucleusGeometry"]
    nested = _read_properties(item, properties, note)
    return item, nested


def _read_properties(item: PathObject, properties: dict[str, Any], note: Note) -> list[Any]:
    """Set what the properties say; return the features nested in them."""
    nested: list[Any] = []
    has_type = not properties.keys().isdisjoint(_TYPE_KEYS[:2])
    for name, value in properties.items():
        if name == "classification":
            item.classification = read_class(value, note)
        elif name == "measurements":
            item.measurements = _measurements(value, note)
        elif name == "name":
            item.name = text_of(value)
            if item.name is None:
                note(f"its name is {describe(value)}, which QuPath refuses: it has none")
        elif name == "color":
            item.colour = read_colour(value, note)
        elif name == "isLocked":
            item.is_locked = value is not None and read_truth(value, name, note)
        elif name == "isMissing" and item.object_type == "tmaCore":
            item.is_missing = read_truth(value, name, note)
        elif name == "metadata":
            item.metadata = _metadata(value, note)
        elif name in ("childObjects", "children"):
            if isinstance(value, list):
                nested = nested + value
            else:
                note(f"its {name} are {describe(value)} and no list: they are left out")
        elif name not in _TYPE_KEYS or (name == "type" and (has_type or not _is_type(value))):
            if name == "plane":
                note("it has a plane outside of its geometry, which QuPath passes over")
            item.unknown_properties[name] = value
    return nested


def _object_type(properties: dict[str, Any], identity: Any, note: Note) -> ObjectType:
    for key in _TYPE_KEYS:
        if key in properties:
            name = properties[key]
            known = TYPE_NAMES.get(name) if isinstance(name, str) else None
            if known is None:
                note(f"its {key} is {describe(name)}: it is read as an annotation, as by QuPath")
            return known or "annotation"
    # QuPath 0.2 wrote the type in place of an id.
    return TYPE_NAMES.get(identity, "annotation") if isinstance(identity, str) else "annotation"


def _is_type(value: Any) -> bool:
    return isinstance(value, str) and value in TYPE_NAMES


def _rois(
    feature: dict[str, Any], object_type: ObjectType, note: Note
) -> tuple[ROI | None, ROI | None]:
    shape = feature.get("geometry")
    if shape is None and object_type not in ("cell", "root"):
        raise UnreadableError("it has no geometry")
    if shape is None:
        note("it has no geometry, which QuPath refuses")
        shape = {}
    if not isinstance(shape, dict):
        raise UnreadableError(f"its geometry is {describe(shape)}")
    roi = read_roi(shape, note) if shape else None
    nucleus = None
    if "nucleusGeometry" in feature:
        inner = feature["nucleusGeometry"]
        if inner is None:
            note("its nucleusGeometry is null, which QuPath refuses")
        elif object_type == "cell":
            if not isinstance(inner, dict):
                raise UnreadableError(f"its nucleusGeometry is {describe(inner)}")
            nucleus = read_roi(inner, note) if inner else None
    if roi is None and nucleus is None and object_type != "root":
        raise UnreadableError("it has no geometry")
    if roi is not None and object_type == "tmaCore" and not roi.is_ellipse:
        # As QuPath has it, a core is always the ellipse in its bounding box.
        roi = ROI(ellipse_within(roi.geometry), roi.plane, is_ellipse=True)
    return roi, nucleus


def _uuid(value: Any, note: Note) -> str | None:
    """Normalise a UUID as Java does; anything else QuPath replaces by a new one."""
    if isinstance(value, str):
        if _PLAIN_UUID.fullmatch(value):
            return value
        match = _UUID.fullmatch(value)
        if match is not None:
            parts = zip(match.groups(), (8, 4, 4, 4, 12), strict=True)
            return "-".join(part.lower().rjust(width, "0") for part, width in parts)
        if value in TYPE_NAMES:
            return None
    refused = ", which QuPath refuses" if value is None else ""
    note(f"its id is {describe(value)} and no UUID{refused}: it has none")
    return None


def _measurements(value: Any, note: Note) -> dict[str, float]:
    """Read numbers by name, to float32 as QuPath does."""
    if isinstance(value, list):
        value = _listed(value, note)
    if not isinstance(value, dict):
        if value is not None:
            note(f"its measurements are {describe(value)}: they are left out")
        return {}
    if not set(map(type, value.values())) <= {int, float}:
        value = _numbers(value, note)
    try:
        return dict(zip(value, array("f", value.values()), strict=True))
    except OverflowError:
        return _numbers(value, note)


def _numbers(values: dict[str, Any], note: Note) -> dict[str, float]:
    numbers = {}
    for name, value in values.items():
        number = read_number(value)
        if number is None:
            note(f"its measurement {describe(name)} is {describe(value)}: it is left out")
        else:
            with np.errstate(over="ignore"):
                numbers[name] = float(np.float32(number))
    return numbers


def _listed(rows: list[Any], note: Note) -> dict[str, Any]:
    """Read the list of names and values that QuPath wrote before 0.4."""
    measurements = {}
    for row in rows:
        name = text_of(row.get("name")) if isinstance(row, dict) else None
        if name is None:
            note(f"its list of measurements holds {describe(row)} without a name")
        else:
            measurements[name] = row.get("value")
    return measurements


def _metadata(value: Any, note: Note) -> dict[str, str]:
    if not isinstance(value, dict):
        note(f"its metadata is {describe(value)}: it is left out")
        return {}
    texts = {name: text_of(text) for name, text in value.items()}
    for name, text in texts.items():
        if text is None:
            note(f"its metadata {describe(name)} is {describe(value[name])}: it is left out")
    return {name: text for name, text in texts.items() if text is not None}


def _is_geometry(value: Any) -> bool:
    kind = value.get("type") if isinstance(value, dict) else None
    return isinstance(kind, str) and kind in GEOMETRY_TYPES


def _add_shapes(batch: PolygonBatch, feature: Any) -> None:
    if isinstance(feature, dict):
        batch.add(feature.get("geometry"))
        properties = feature.get("properties")
        if "nucleusGeometry" in feature and isinstance(properties, dict):
            # What is no cell keeps its as a member that QuPath does not know.
            notes: list[str] = []
            if _object_type(properties, feature.get("id"), notes.append) == "cell":
                batch.add(feature["nucleusGeometry"])


def _given_id(feature: Any) -> str | None:
    identity = feature.get("id") if isinstance(feature, dict) else None
    return identity[:40] if isinstance(identity, str) else None
