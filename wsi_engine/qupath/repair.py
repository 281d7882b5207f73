"""Writing the nearest file that QuPath takes as it is, and saying what was changed.

No feature goes missing in silence. What QuPath would pass over is kept where it has a place for
it: numbers as measurements, all else as metadata.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsi_engine.errors import GeoJSONError, OutputError, SettingsError
from wsi_engine.qupath.containers import Part, begins_serialised, has_extension, open_parts
from wsi_engine.qupath.elements import ElementStream
from wsi_engine.qupath.json_stream import GEOMETRY_TYPES
from wsi_engine.qupath.repair_columns import without_columns
from wsi_engine.qupath.repair_geometry import RING, mended_geometry
from wsi_engine.qupath.repair_properties import keep_unknown, mended_properties, mended_type
from wsi_engine.qupath.rules.classification import class_names
from wsi_engine.qupath.rules.feature import (
    LEGACY_IDS,
    MEMBERS,
    PROPERTIES,
    java_uuid,
    type_name,
)
from wsi_engine.qupath.rules.gson import alone
from wsi_engine.qupath.rules.properties import GEOMETRY_MEMBERS, children_member
from wsi_engine.qupath.rules.rule import NEWEST, VERSIONS
from wsi_engine.qupath.validation import Place, without_collector
from wsi_engine.qupath.writer import GeoJSONWriter
from wsi_engine.writing import atomic_path, clear_write_errors

Feature = dict[str, Any]

NAMESPACE = uuid.UUID("0c4c33f5-0f4c-5d0a-9a53-2f2b8f3c7d11")
"""Namespace of ids that are made here: the same file is given the same ids every time."""

WRITTEN_FOR = VERSIONS[VERSIONS.index("0.4") :]
"""Versions of QuPath that read the dialect in which files are mended."""

MAX_GENERATIONS = 50
"""The most generations of children that are kept: QuPath's parser takes 255 levels of JSON."""


@dataclass(slots=True)
class Change:
    """One kind of change: how often, and where first."""

    what: str
    first: Place
    count: int = 0


@dataclass(slots=True)
class Repair:
    """What was done to a file.

    Attributes
    ----------
    written
        Objects in the new file, children included.
    left_out
        Features of the old file that are not in the new one; their children may be.
    """

    written: int = 0
    left_out: int = 0
    _changes: dict[str, Change] = field(default_factory=dict)

    @property
    def changes(self) -> list[Change]:
        """Changes in the order in which they first were made."""
        return list(self._changes.values())

    def say(self, what: str, place: Place) -> None:
        """Note a change."""
        self._changes.setdefault(what, Change(what, place)).count += 1


def repair(source: str | Path, target: str | Path, version: str = NEWEST) -> Repair:
    """Write the nearest file that QuPath takes as it is.

    Parameters
    ----------
    source
        Anything that `validate` takes; the entries of an archive are joined.
    target
        Compressed if it ends in ``.gz``. It appears whole or not at all, and may be the source.
    version
        QuPath that is to take it, 0.4 or later; 0.4 reads no measurement that is no number.

    Raises
    ------
    GeoJSONError
        When there is no such file, it may not be read, or it is QuPath's own data file.
    OutputError
        When the target cannot be written, or QuPath would read no file of such a name.
    SettingsError
        When that QuPath is older.
    """
    if version not in WRITTEN_FOR:
        raise SettingsError(f"files are mended for QuPath {', '.join(WRITTEN_FOR)}, not {version}")
    target = Path(target)
    if not has_extension(target.name):
        raise OutputError(f"{target.name}: QuPath reads .geojson, .json and .geojson.gz only")
    done = Repair()
    mender = _Mender(done, with_nan=version != "0.4")
    with (
        clear_write_errors(target),
        atomic_path(target) as partial,
        GeoJSONWriter(partial, name=target.name) as writer,
        without_collector(),
    ):
        for part in open_parts(source):
            for feature in mender.document(part):
                writer.write([feature])
    return done


def _is_geometry(value: Any) -> bool:
    if not isinstance(value, dict) or "geometry" in value:
        return False
    kind = value.get("type")
    return isinstance(kind, str) and (kind in GEOMETRY_TYPES or kind == RING)


class _Mender:
    """Mends features in turn; ids and class colours must agree among all of them."""

    def __init__(self, done: Repair, *, with_nan: bool) -> None:
        self._done = done
        self._with_nan = with_nan
        self._seen: set[int] = set()
        self._colours: dict[str, list[int]] = {}
        self._place = Place("")

    def document(self, part: Part) -> Iterator[Feature]:
        """Yield the mended features of a document as far as it can be read."""
        try:
            is_data_file, stream = begins_serialised(part.stream)
        except GeoJSONError as error:
            self._done.say(f"left out the rest: {error}", Place(part.name))
            return
        if is_data_file:
            raise GeoJSONError(
                f"{part.name} is a data file of QuPath, no GeoJSON: export its objects from there"
            )
        yield from self._elements(ElementStream(stream, part.name))

    def _elements(self, elements: ElementStream) -> Iterator[Feature]:
        try:
            for element in elements.parsed():
                identity = element.value.get("id") if isinstance(element.value, dict) else None
                shown = identity if isinstance(identity, str) else None
                self._place = Place(elements.name, element.index, shown)
                if _is_geometry(element.value):
                    self._say("made a feature of a geometry")
                    yield from self._mended({"type": "Feature", "geometry": element.value})
                elif element.feature is None:
                    self._leave_out("left out what is no feature")
                else:
                    yield from self._mended(element.feature)
        except GeoJSONError as error:
            self._done.say(f"left out the rest: {error}", Place(elements.name))
        except RecursionError:
            self._say("left out the rest: a feature is nested too deeply")
        self._place = Place(elements.name)
        if elements.not_utf8 is not None:
            self._say("replaced characters that are not UTF-8")
        if "features" in elements.members and set(elements.members) - {"type", "features"}:
            self._say("left out members of the collection")
        for problem in elements.problems:
            self._say(f"passed over that {problem}")

    def _say(self, what: str) -> None:
        self._done.say(what, self._place)

    def _leave_out(self, why: str) -> None:
        self._done.left_out += 1
        self._say(why)

    def _mended(self, feature: Feature, generation: int = 0) -> list[Feature]:
        """Return what is to be written for a feature: nothing, itself, or several."""
        feature = without_columns(self._with_members_in_place(feature), self._say)
        if feature.get("type") != "Feature":
            self._say("stated the type Feature")
        properties = feature["properties"]
        kind = mended_type(type_name(feature), self._say)
        children = self._mended_children(properties, generation + 1)
        if kind == "root":
            self._leave_out("left out a root object, and kept its children")
            return children
        if kind == "detection" and feature.get("nucleusGeometry"):
            self._say("made a cell of a detection that has a nucleus")
            kind = "cell"
        nuclei = mended_geometry(feature.get("nucleusGeometry"), self._say)
        geometries = mended_geometry(
            feature.get("geometry"), self._say, as_ellipse=kind == "tmaCore"
        )
        if "nucleusGeometry" in feature and (kind != "cell" or len(nuclei) != 1):
            self._say("left out a nucleus, or parts of it, that QuPath would not take")
        if not geometries and kind == "cell" and nuclei:
            geometries = [{}]
        if not geometries:
            self._leave_out("left out a feature without a shape")
            return children
        mended = mended_properties(properties, kind, self._say, with_nan=self._with_nan)
        self._keep_unknown_members(feature, mended)
        self._agree_on_colour(mended)
        features = []
        for geometry in geometries:
            if kind == "tmaCore" and geometry.pop("plane", None):
                self._say("left out the plane of a TMA core")
            part: Feature = {"type": "Feature", "id": self._new_id(feature), "geometry": geometry}
            if kind == "cell" and nuclei:
                part["nucleusGeometry"] = nuclei[0]
            part["properties"] = dict(mended)
            features.append(part)
            self._done.written += 1
        if children and generation >= MAX_GENERATIONS:
            self._say("made features of children that are nested too deeply")
            return features + children
        if children:
            features[0]["properties"]["childObjects"] = children
        return features

    def _mended_children(self, properties: dict[str, Any], generation: int) -> list[Feature]:
        children = children_member(properties)
        if children is None:
            return []
        if not isinstance(children, list):
            self._say("left out children that are no list")
            return []
        mended = []
        for child in children:
            if isinstance(child, dict):
                mended.extend(self._mended(child, generation))
            else:
                self._leave_out("left out what is no feature")
        return mended

    def _with_members_in_place(self, feature: Feature) -> Feature:
        """Move members to where QuPath looks for them."""
        stated = feature.get("properties", {})
        if not isinstance(stated, dict):
            self._say("left out properties that are none")
            stated = {}
        outside = feature.keys() & (PROPERTIES | {"plane", "isEllipse"})
        inside = stated.keys() & set(GEOMETRY_MEMBERS)
        if not outside and not inside:
            return feature | {"properties": stated}
        self._say("moved members to where QuPath looks for them")
        moved = {key: value for key, value in feature.items() if key not in outside}
        properties = {key: value for key, value in stated.items() if key not in inside}
        geometry = moved.get("geometry")
        for key in sorted(outside) + sorted(inside):
            value = feature[key] if key in outside else stated[key]
            if key == "nucleusGeometry":
                moved.setdefault(key, value)
            elif key in PROPERTIES:
                properties.setdefault(key, value)
            elif isinstance(geometry, dict) and geometry:
                geometry = {key: value} | geometry
        return moved | {"geometry": geometry, "properties": properties}

    def _keep_unknown_members(self, feature: Feature, mended: dict[str, Any]) -> None:
        unknown = sorted(feature.keys() - MEMBERS)
        if not unknown:
            return
        measurements = mended.pop("measurements", {})
        metadata = mended.pop("metadata", {})
        for key in unknown:
            keep_unknown(key, feature[key], measurements, metadata, self._say)
        both = {"measurements": measurements, "metadata": metadata}
        mended.update({name: values for name, values in both.items() if values})

    def _agree_on_colour(self, mended: dict[str, Any]) -> None:
        classification = mended.get("classification")
        if classification is None:
            return
        name = ": ".join(class_names(classification))
        first = self._colours.setdefault(name, classification["color"])
        if first != classification["color"]:
            self._say("gave a class the colour that it had before")
            classification["color"] = first

    def _new_id(self, feature: Feature) -> str:
        """Return the id if it is a UUID of its own, else one that depends on it."""
        stated = alone(feature.get("id"))
        kept = java_uuid(stated)
        if kept is not None:
            if kept != stated:
                self._say("wrote a UUID as QuPath does")
            if self._is_new(kept):
                return kept
            self._say("gave an object another id than that of an earlier one")
        elif stated is None or (isinstance(stated, str) and stated in LEGACY_IDS):
            stated = None
            self._say("gave an object an id")
        else:
            self._say("gave an object a UUID in place of another id")
        name = str(stated) if isinstance(stated, str | int) else f"object {self._done.written}"
        while not self._is_new(made := str(uuid.uuid5(NAMESPACE, name))):
            name = f"{name} {self._done.written}"
        return made

    def _is_new(self, identity: str) -> bool:
        key = hash(identity)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True
