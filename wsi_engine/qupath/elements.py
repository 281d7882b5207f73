"""The elements of a GeoJSON document as parsed JSON, whatever they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wsi_engine.errors import GeoJSONError
from wsi_engine.qupath.json_stream import GEOMETRY_TYPES, Element, FeatureStream, Readable
from wsi_engine.qupath.lenient_json import JSONError, parse_json

HIERARCHY = "it is a whole hierarchy"
"""The words with which `FeatureStream` says that a document is none that QuPath imports."""

MAX_MEMBERS = 100


@dataclass(frozen=True, slots=True)
class ParsedElement:
    """One element of a list of features.

    Attributes
    ----------
    index
        Its place in the outermost list, from 0.
    value
        Any JSON value; mostly a feature.
    in_collection
        Whether the list is that of a FeatureCollection.
    """

    index: int
    value: Any
    in_collection: bool

    @property
    def feature(self) -> dict[str, Any] | None:
        """The element as QuPath takes it: itself, or a bare geometry wrapped into a feature."""
        if not isinstance(self.value, dict):
            return None
        return {"type": "Feature", "geometry": self.value} if self.is_bare_geometry else self.value

    @property
    def is_bare_geometry(self) -> bool:
        """Whether QuPath makes an annotation of it, though it is no feature."""
        if self.in_collection or not isinstance(self.value, dict):
            return False
        kind = self.value.get("type")
        return isinstance(kind, str) and kind in GEOMETRY_TYPES


class ElementStream(FeatureStream):
    """Parses the elements of a document as they go by.

    Attributes
    ----------
    members
        Names of the document's own members so far; none where it is a bare list.
    not_utf8
        Index of an element that is not UTF-8, if there is one. What is not is replaced.
    """

    def __init__(self, stream: Readable, name: str) -> None:
        super().__init__(stream, name)
        self.members: list[str] = []
        self.not_utf8: int | None = None

    def parsed(self) -> Iterator[ParsedElement]:
        """Yield the elements, those of collections within a list as well.

        Raises
        ------
        GeoJSONError
            Where the document is no JSON; what stands before was yielded.
        """
        for element in self:
            value = self._value_of(element) if element.raw else None
            pending = [(value, self.in_collection)]
            while pending:
                item, in_collection = pending.pop()
                if not in_collection and isinstance(item, list):
                    pending.extend((inner, False) for inner in reversed(item))
                    continue
                nested = None if in_collection else _features(item)
                if nested is not None:
                    pending.extend((inner, True) for inner in reversed(nested))
                else:
                    yield ParsedElement(element.index, item, in_collection)

    def _value_of(self, element: Element) -> Any:
        try:
            return parse_json(element.raw)
        except JSONError:
            text = element.raw.decode("utf-8", "replace")
        if text.encode() != element.raw:
            self.not_utf8 = element.index
        try:
            return parse_json(text.encode())
        except JSONError as error:
            raise GeoJSONError(f"{self.name}, feature {element.index}: {error}") from None

    def _name(self) -> str | None:
        name = super()._name()
        if name is not None and len(self.members) < MAX_MEMBERS:
            self.members.append(name)
        return name


def _features(item: Any) -> list[Any] | None:
    """Return the features of a collection; none of anything else."""
    if not isinstance(item, dict) or item.get("type") != "FeatureCollection":
        return None
    features = item.get("features")
    return features if isinstance(features, list) else None
