"""Rules on a file as a whole, and on the elements of its list of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from wsi_engine.qupath.containers import has_extension
from wsi_engine.qupath.elements import HIERARCHY, ParsedElement
from wsi_engine.qupath.json_stream import GEOMETRY_TYPES
from wsi_engine.qupath.rules.rule import (
    RuleTable,
    Severity,
    always,
    shown,
    since,
    until,
)

MANY_OBJECTS = 200_000
MANY_ANNOTATIONS = 100

Packing = Literal["plain", "gzip", "zip"]


@dataclass(slots=True)
class Document:
    """What was learnt of one JSON document while its features went by.

    Attributes
    ----------
    name
        Name of the file, or of the entry of an archive.
    packing
        What the file is by its content; none of an entry of an archive.
    members
        Names of the document's own members; none where it is a bare list.
    problems
        What the `FeatureStream` found odd.
    unreadable
        Why reading ended early, if it did.
    not_utf8
        Index of a feature that is not UTF-8, if there is one.
    objects, annotations
        Number of objects, and of annotations among them.
    is_data_file
        Whether it is a file that QuPath keeps its own data in.
    is_modern
        Whether any object states its type, or its measurements, as QuPath 0.4 and later do.
    has_modern_classes
        Whether any class states its colour, or its names, as QuPath 0.4 and later do.
    has_modern_ids
        Whether the id of any feature is not its type, as in QuPath 0.2.
    """

    name: str
    packing: Packing | None = None
    members: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unreadable: str | None = None
    not_utf8: int | None = None
    objects: int = 0
    annotations: int = 0
    is_data_file: bool = False
    is_modern: bool = False
    has_modern_classes: bool = False
    has_modern_ids: bool = False

    def problem(self, *beginnings: str) -> str | None:
        """Return the first problem that begins like this."""
        return next((text for text in self.problems if text.startswith(beginnings)), None)


DOCUMENT: RuleTable[Callable[[Document], str | None]] = RuleTable()
"""Each check is given a document that was read as far as it goes."""

ELEMENT: RuleTable[Callable[[ParsedElement], str | None]] = RuleTable()
"""Each check is given an element of a list, a feature or whatever else it is."""


@DOCUMENT.rule(
    "wrong-extension",
    always(Severity.LOST),
    "QuPath imports nothing from a file of this name, and does not say so.",
    "Name it .geojson, .json, .geojson.gz or .zip.",
)
def _(document: Document) -> str | None:
    name = document.name.lower()
    readable = has_extension(name) or (document.packing == "zip" and name.endswith(".zip"))
    return None if readable else document.name


@DOCUMENT.rule(
    "packed-otherwise",
    always(Severity.ABORTS),
    "QuPath tells from the name alone whether a file is packed.",
    "Let the name end in .gz, or in .zip, exactly if the file is packed so.",
)
def _(document: Document) -> str | None:
    name = document.name.lower()
    if document.packing is None:
        return None
    if document.packing == "zip":
        return None if name.endswith(".zip") or not has_extension(name) else "it is a zip archive"
    if name.endswith(".zip"):
        return "it is no zip archive"
    if name.endswith(".gz") != (document.packing == "gzip") and has_extension(name):
        return "it is gzipped" if document.packing == "gzip" else "it is not gzipped"
    return None


@DOCUMENT.rule(
    "gzip-before-0.4",
    until("0.3", Severity.LOST),
    "QuPath 0.2 and 0.3 import nothing from gzipped files.",
    "Use QuPath 0.4 or later.",
)
def _(document: Document) -> str | None:
    return document.name if document.packing == "gzip" else None


@DOCUMENT.rule(
    "written-for-0.4",
    until("0.3", Severity.CHANGED),
    "QuPath 0.2 and 0.3 read neither objectType nor measurements that are an object: all "
    "become annotations without measurements.",
    "Use QuPath 0.4 or later.",
)
def _(document: Document) -> str | None:
    return "objectType, or measurements as an object" if document.is_modern else None


@DOCUMENT.rule(
    "classes-before-0.4",
    until("0.3", Severity.LOST),
    "QuPath 0.2 and 0.3 know neither the color of a class nor its names: classes have other "
    "colours, and derived ones are lost.",
    "Use QuPath 0.4 or later.",
)
def _(document: Document) -> str | None:
    return "color, or names, of a classification" if document.has_modern_classes else None


@DOCUMENT.rule(
    "ids-before-0.3",
    until("0.2", Severity.ABORTS),
    "QuPath 0.2 looks for the type of the object in id: without it, the import ends.",
    "Use QuPath 0.3 or later.",
)
def _(document: Document) -> str | None:
    return "an id that is no type of object" if document.has_modern_ids else None


@DOCUMENT.rule(
    "qupath-data",
    always(Severity.ADVICE),
    "It is QuPath's own data file: QuPath reads its objects, but nothing is known of them here.",
    "Export them from QuPath as GeoJSON.",
)
def _(document: Document) -> str | None:
    return document.name if document.is_data_file and is_named_data(document.name) else None


@DOCUMENT.rule(
    "qupath-data-by-name",
    always(Severity.ABORTS),
    "QuPath takes a file of this name for its own data file.",
    "Name it .geojson.",
)
def _(document: Document) -> str | None:
    by_name = is_named_data(document.name) and document.packing != "zip"
    return document.name if by_name and not document.is_data_file else None


@DOCUMENT.rule(
    "unreadable",
    always(Severity.ABORTS),
    "What is damaged or no JSON ends the import.",
    "Write the file again.",
)
def _(document: Document) -> str | None:
    if document.is_data_file:
        return None if is_named_data(document.name) else "it is a data file of QuPath"
    return document.unreadable


@DOCUMENT.rule(
    "comma-missing",
    always(Severity.ABORTS),
    "A comma that is missing between features ends the import.",
    "Write the file with a JSON library.",
)
def _(document: Document) -> str | None:
    return document.problem("no comma stands")


@DOCUMENT.rule(
    "several-documents",
    always(Severity.ABORTS),
    "QuPath reads one JSON document; a feature per line ends the import.",
    "Put the features into one FeatureCollection.",
)
def _(document: Document) -> str | None:
    return document.problem("it holds more than one")


@DOCUMENT.rule(
    "nothing-in-it",
    always(Severity.LOST),
    "QuPath imports nothing from it, and does not say so.",
    'Write {"type": "FeatureCollection", "features": […]}.',
)
def _(document: Document) -> str | None:
    return document.problem(
        "it is empty",
        "it holds no features",
        "it is a FeatureCollection without",
        "its type is",
        HIERARCHY,
    )


@DOCUMENT.rule(
    "not-utf8",
    since("0.4", Severity.CHANGED),
    "What is not UTF-8 turns into question marks.",
    "Write the file in UTF-8.",
)
def _(document: Document) -> str | None:
    return None if document.not_utf8 is None else f"feature {document.not_utf8}"


@DOCUMENT.rule(
    "unknown-collection-member",
    always(Severity.LOST),
    "QuPath passes over members of a collection beside its features, such as crs and bbox.",
    "Leave them out; coordinates are always pixels.",
)
def _(document: Document) -> str | None:
    if "features" not in document.members:
        return None
    unknown = [name for name in document.members if name not in ("type", "features")]
    return ", ".join(shown(name) for name in unknown[:3]) if unknown else None


@DOCUMENT.rule(
    "many-objects",
    always(Severity.ADVICE),
    "QuPath holds some 15 times the size of the file in memory while it imports.",
    "Split the file: run with --split 200000, or give QuPath more memory.",
)
def _(document: Document) -> str | None:
    return f"{document.objects:,} objects" if document.objects > MANY_OBJECTS else None


@DOCUMENT.rule(
    "many-annotations",
    always(Severity.ADVICE),
    "QuPath draws and sorts annotations one by one, and becomes slow.",
    'Write nuclei as "objectType": "detection".',
)
def _(document: Document) -> str | None:
    many = document.annotations > MANY_ANNOTATIONS
    return f"{document.annotations:,} annotations" if many else None


def is_named_data(name: str) -> bool:
    """Tell whether QuPath takes a file of this name for its own data file."""
    return name.lower().removesuffix(".gz").endswith(".qpdata")


@ELEMENT.rule(
    "element-null",
    always(Severity.ABORTS),
    "A feature that is null, or a comma after the last one, ends the import.",
    "Write no comma after the last feature.",
)
def _(element: ParsedElement) -> str | None:
    return "it is null" if element.value is None else None


@ELEMENT.rule(
    "element-not-a-feature",
    always(Severity.ABORTS),
    "In a FeatureCollection, what is no feature ends the import.",
    'Wrap geometries: {"type": "Feature", "geometry": …}.',
)
def _(element: ParsedElement) -> str | None:
    value = element.value
    if not element.in_collection or value is None:
        return None
    if not isinstance(value, dict):
        return f"it is {shown(value)}"
    kind = value.get("type")
    bare = isinstance(kind, str) and kind in GEOMETRY_TYPES and "geometry" not in value
    return f"it is a {kind}" if bare else None


@ELEMENT.rule(
    "element-ignored",
    always(Severity.LOST),
    "In a list, what is no feature is passed over.",
    "Write features.",
)
def _(element: ParsedElement) -> str | None:
    odd = not element.in_collection and isinstance(element.value, str | int | float)
    return f"it is {shown(element.value)}" if odd else None


@ELEMENT.rule(
    "bare-geometry",
    always(Severity.ADVICE),
    "A geometry by itself becomes an annotation without name and class.",
    'Wrap it: {"type": "Feature", "geometry": …}.',
)
def _(element: ParsedElement) -> str | None:
    return f"a {element.value['type']}" if element.is_bare_geometry else None


@ELEMENT.rule(
    "bare-geometry-plane",
    always(Severity.LOST),
    "A geometry by itself loses its plane, and is no ellipse.",
    'Wrap it: {"type": "Feature", "geometry": …}.',
)
def _(element: ParsedElement) -> str | None:
    if not element.is_bare_geometry:
        return None
    lost = [key for key in ("plane", "isEllipse") if key in element.value]
    return ", ".join(lost) if lost else None
