"""What QuPath makes of a file: one row for each statement of its dialect."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.exports import shared_export
from tests.support.json_values import json_values
from wsi_engine.qupath.rules import (
    classification,
    container,
    feature,
    geometry,
    measurements,
    properties,
    repetition,
    shape,
)
from wsi_engine.qupath.rules.rule import NEWEST, VERSIONS, RuleTable, Severity, spelled
from wsi_engine.qupath.validation import EXAMPLES, Report, validate

UUIDS = (f"9f0d26a1-0000-4000-8000-{number:012x}" for number in itertools.count())
RING = [[0, 0], [8, 0], [8, 5.25], [0, 5], [0, 0]]
POLYGON = {"type": "Polygon", "coordinates": [RING]}
TUMOUR = {"name": "Tumor", "color": [200, 0, 0]}


def box(x, y=0, width=10, height=10, corner=0.5):
    """A ring that is no rectangle: QuPath before 0.6 made an exception of those."""
    right, bottom = x + width, y + height
    return [[x, y], [right, y], [right + corner, bottom], [x, bottom], [x, y]]


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def multipolygon(*parts):
    return {"type": "MultiPolygon", "coordinates": list(parts)}


def an_object(geometry=POLYGON, /, *, without=(), outside=None, **stated):
    member = {
        "type": "Feature",
        "id": next(UUIDS),
        "geometry": geometry,
        "properties": {"objectType": "annotation"} | stated,
    } | (outside or {})
    return {key: value for key, value in member.items() if key not in without}


def a_cell(**outside):
    return an_object(objectType="cell", outside=outside)


def classified(value):
    return an_object(classification=value)


def measured(value):
    return an_object(measurements=value)


def validated(folder: Path, document, name="x.geojson") -> Report:
    path = folder / name
    if not isinstance(document, str | bytes):
        document = json.dumps(document)
    path.write_bytes(document.encode() if isinstance(document, str) else document)
    return validate(path)


def collection(*features, **members):
    return {"type": "FeatureCollection", "features": list(features)} | members


# What nearly every file of today has, and only QuPath 0.2 and 0.3 mind.
OLD_NEWS = {
    *("ids-before-0.3", "written-for-0.4", "classes-before-0.4", "geometry-empty-before-0.4"),
    *("ellipse-before-0.4", "children-before-0.4", "gzip-before-0.4"),
}


def found(report: Report) -> dict[str, str]:
    return {
        tally.rule.id: spelled(tally.rule.severities)
        for tally in report.tallies
        if tally.rule.id not in OLD_NEWS
    }


CLEAN: dict[str, str] = {}
BEFORE_06 = "aborts up to 0.5"
INVALID = {"polygon-arrives-invalid": "changed up to 0.5"}
SINCE_04, SINCE_06 = "aborts since 0.4", "aborts since 0.6"
ABORTS, LOST, CHANGED, ADVICE = "aborts always", "lost always", "changed always", "advice always"

ODD_FEATURES = {
    # §2 Feature
    "fine": (an_object(), CLEAN),
    "no type": ([an_object(without=["type"])], {"feature-without-type": LOST}),
    "other type": ([an_object(outside={"type": "feature"})], {"feature-without-type": LOST}),
    "id null": (an_object(outside={"id": None}), {"id-null": ABORTS}),
    "id of no one": (an_object(outside={"id": ["7", "8"]}), {"id-null": ABORTS}),
    "id in a list": (
        an_object(outside={"id": ["9f0d26a1-0000-4000-8000-0000000fffff"]}),
        {"id-rewritten": "changed since 0.4"},
    ),
    "id text": (an_object(outside={"id": "7"}), {"id-not-a-uuid": "changed since 0.4"}),
    "id number": (an_object(outside={"id": 7}), {"id-not-a-uuid": "changed since 0.4"}),
    "id without dashes": (
        an_object(outside={"id": "9f0d26a1000040008000000000000001"}),
        {"id-not-a-uuid": "changed since 0.4"},
    ),
    "id urn": (
        an_object(outside={"id": "urn:uuid:9f0d26a1-0000-4000-8000-0000000fffff"}),
        {"id-not-a-uuid": "changed since 0.4"},
    ),
    "id upper case": (
        an_object(outside={"id": "9F0D26A1-0000-4000-8000-0000000FFFFF"}),
        {"id-rewritten": "changed since 0.4"},
    ),
    "id short": (an_object(outside={"id": "1-1-1-1-1"}), {"id-rewritten": "changed since 0.4"}),
    "id missing": (an_object(without=["id"]), {"id-missing": "advice since 0.4"}),
    "id of QuPath 0.2": (
        {"type": "Feature", "id": "PathDetectionObject", "geometry": POLYGON},
        {"id-missing": "advice since 0.4"},
    ),
    "no geometry": (an_object(without=["geometry"]), {"geometry-missing": ABORTS}),
    "geometry null": (an_object(None), {"geometry-missing": ABORTS}),
    "geometry text": (an_object("POINT (1 1)"), {"geometry-missing": ABORTS}),
    "geometry empty": (an_object({}), {"geometry-empty": ABORTS}),
    "geometry empty, nucleus": (
        an_object({}, objectType="cell", outside={"nucleusGeometry": POLYGON}),
        CLEAN,
    ),
    "geometry empty, cell": (an_object({}, objectType="cell"), {"geometry-empty": ABORTS}),
    "geometry of no type, nucleus": (
        an_object({"plane": {"z": 1}}, objectType="cell", outside={"nucleusGeometry": POLYGON}),
        CLEAN,
    ),
    "geometry of no type": (an_object({"coordinates": [[]]}), {"geometry-empty": ABORTS}),
    "nucleus": (a_cell(nucleusGeometry=POLYGON), CLEAN),
    "nucleus true": (a_cell(nucleusGeometry=True), {"nucleus-unreadable": ABORTS}),
    "nucleus of text": (a_cell(nucleusGeometry="POINT (1 1)"), {"nucleus-unreadable": ABORTS}),
    "nucleus null": (a_cell(nucleusGeometry=None), {"nucleus-unreadable": ABORTS}),
    "nucleus of a detection": (
        an_object(objectType="detection", outside={"nucleusGeometry": POLYGON}),
        {"nucleus-of-no-cell": LOST},
    ),
    "nucleus that crosses itself": (
        a_cell(nucleusGeometry=polygon([[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]])),
        INVALID | {"polygon-invalid": SINCE_06},
    ),
    "no properties": (an_object(without=["properties"]), CLEAN),
    "properties null": (an_object(outside={"properties": None}), {"properties-unreadable": ABORTS}),
    "properties list": (an_object(outside={"properties": []}), {"properties-unreadable": ABORTS}),
    "type beside properties": (
        an_object(outside={"objectType": "detection"}),
        {"misplaced-member": LOST},
    ),
    "unknown member": (an_object(outside={"bbox": [0, 0, 8, 5]}), {"unknown-member": LOST}),
    # §3 properties
    "every type": (
        collection(*(an_object(objectType=t) for t in ("annotation", "detection", "cell", "tile"))),
        CLEAN,
    ),
    "type of another case": (an_object(objectType="Detection"), {"object-type-unknown": CHANGED}),
    "type null": (an_object(objectType=None), {"object-type-unreadable": ABORTS}),
    "type of QuPath 0.3": (
        an_object(outside={"properties": {"object_type": "detection"}}),
        {"object-type-alias": "advice since 0.4"},
    ),
    "type alias": (
        an_object(outside={"properties": {"type": "tile"}}),
        {"object-type-alias": "advice since 0.4"},
    ),
    "type alias for something else": (
        an_object(outside={"properties": {"type": "nucleus"}}),
        {"object-type-alias": "advice since 0.4", "object-type-unknown": CHANGED},
    ),
    "root": (an_object({}, objectType="root"), {"root-object": "lost since 0.6, aborts up to 0.5"}),
    "root with children": (
        an_object({}, objectType="root", childObjects=[an_object()]),
        {"root-object": "lost since 0.6, aborts up to 0.5"},
    ),
    "type in a list": (an_object(objectType=["tile"]), CLEAN),
    "type in a list of two": (
        an_object(objectType=["tile", "cell"]),
        {"object-type-unreadable": ABORTS},
    ),
    "name": (an_object(name="a ≥ b"), CLEAN),
    "name null": (an_object(name=None), {"name-unreadable": ABORTS}),
    "name object": (an_object(name={}), {"name-unreadable": ABORTS}),
    "name number": (an_object(name=3), {"name-not-text": CHANGED}),
    "name in a list": (an_object(name=["a"]), {"name-not-text": CHANGED}),
    "name of two": (an_object(name=["a", "b"]), {"name-unreadable": ABORTS}),
    "colour": (an_object(color=[1, 2, 255]), CLEAN),
    "colour null": (an_object(color=None), CLEAN),
    "colour packed": (an_object(color=-65536), CLEAN),
    "colour packed, no alpha": (an_object(color=255), {"colour-transparent": CHANGED}),
    "colour with alpha": (an_object(color=[1, 2, 3, 4]), {"colour-ignored": LOST}),
    "colour hex": (an_object(color="#ff0000"), {"colour-unreadable": ABORTS}),
    "colour of text": (an_object(color=[1, "2", [3]]), CLEAN),
    "colour of words": (an_object(color=[1, "2.5", 3]), {"colour-unreadable": ABORTS}),
    "colour of null": (an_object(color=[1, None, 3]), {"colour-unreadable": ABORTS}),
    "colour packed as text": (an_object(color="-65536"), CLEAN),
    "colour fraction": (an_object(color=[0.5, 0, 0]), {"colour-out-of-range": CHANGED}),
    "colour 256": (an_object(color=[256, 0, 0]), {"colour-out-of-range": CHANGED}),
    "locked": (an_object(isLocked=True), CLEAN),
    "locked null": (an_object(isLocked=None), CLEAN),
    "locked as text": (an_object(isLocked="true"), CLEAN),
    "locked number": (an_object(isLocked=1), {"flag-not-boolean": CHANGED}),
    "metadata": (an_object(metadata={"Case ID": "7"}), CLEAN),
    "metadata number": (an_object(metadata={"Case ID": 7}), {"metadata-not-text": CHANGED}),
    "metadata null": (an_object(metadata={"Case ID": None}), {"metadata-ignored": LOST}),
    "metadata of a detection": (
        an_object(objectType="detection", metadata={"a": "b"}),
        {"metadata-before-0.6": "lost up to 0.5"},
    ),
    "metadata of a tile": (
        an_object(objectType="tile", metadata={"a": "b"}),
        {"metadata-before-0.6": "lost up to 0.5"},
    ),
    "children": (an_object(childObjects=[an_object(), an_object()]), CLEAN),
    "children by alias": (an_object(children=[an_object()]), CLEAN),
    "bad child": (an_object(childObjects=[an_object(None)]), {"geometry-missing": ABORTS}),
    "child null": (an_object(childObjects=[None]), {"children-unreadable": SINCE_04}),
    "children object": (an_object(childObjects={}), {"children-ignored": "lost since 0.4"}),
    "unknown property": (an_object(area=5), {"unknown-property": LOST}),
    "plane in properties": (an_object(plane={"z": 1}), {"misplaced-geometry": LOST}),
    "TMA core": (
        an_object(polygon(box(0, corner=0)), objectType="tmaCore", isMissing=False),
        {"tma-core-by-dialog": ADVICE, "outline-of-no-ellipse": "changed since 0.4"},
    ),
    # §4 classification
    "class": (classified(TUMOUR), CLEAN),
    "class null": (classified(None), {"class-not-an-object": "aborts up to 0.3"}),
    "class text": (
        classified("Tumor: Positive"),
        {"class-not-an-object": "aborts up to 0.3"},
    ),
    "class empty": (classified({}), CLEAN),
    "class of no names": (classified({"names": [], "color": [1, 2, 3]}), CLEAN),
    "class derived": (
        classified({"names": ["Tumor", "Positive"], "color": [200, 50, 50]}),
        CLEAN,
    ),
    "class derived by a colon": (classified(TUMOUR | {"name": "Tumor: Positive"}), CLEAN),
    "class with alpha": (classified(TUMOUR | {"color": [1, 2, 3, 128]}), CLEAN),
    "class colour null": (classified(TUMOUR | {"color": None}), CLEAN),
    "class colour empty": (classified(TUMOUR | {"color": []}), CLEAN),
    "class colour packed": (classified(TUMOUR | {"color": [-65536]}), CLEAN),
    "class of QuPath 0.2": (
        classified(
            {"parentClass": {"name": "Tumor", "colorRGB": -1}, "name": "Positive", "colorRGB": -2}
        ),
        CLEAN,
    ),
    "class without colour": (classified({"name": "Tumor"}), {"class-without-colour": SINCE_04}),
    "class without name": (classified({"color": [1, 2, 3]}), {"class-without-name": SINCE_04}),
    "class colour of two": (
        classified(TUMOUR | {"color": [1, 2]}),
        {"class-colour-unreadable": SINCE_04},
    ),
    "class colour int": (
        classified(TUMOUR | {"color": -65536}),
        {"class-colour-unreadable": SINCE_04},
    ),
    "class colour hex": (
        classified(TUMOUR | {"color": "#ff0000"}),
        {"class-colour-unreadable": SINCE_04},
    ),
    "class colour fractions": (
        classified(TUMOUR | {"color": [0.8, 0, 0]}),
        {"class-colour-out-of-range": "changed since 0.4"},
    ),
    "class colour of text": (classified(TUMOUR | {"color": ["200", 0, 0]}), CLEAN),
    "class colour of lists": (
        classified(TUMOUR | {"color": [[200], 0, 0]}),
        {"class-colour-unreadable": SINCE_04},
    ),
    "class colour packed as a list": (
        classified({"name": "Tumor", "colorRGB": [200, 0, 0]}),
        {"class-packed-colour-unreadable": ABORTS},
    ),
    "class colour packed as a list, beside a colour": (
        classified(TUMOUR | {"colorRGB": [200, 0, 0]}),
        {"class-packed-colour-unreadable": ABORTS},
    ),
    "class colour packed in a parent": (
        classified({"name": "a", "parentClass": {"name": "b", "colorRGB": "red"}}),
        {"class-packed-colour-unreadable": ABORTS},
    ),
    "class colour packed as text": (classified({"name": "Tumor", "colorRGB": "-1"}), CLEAN),
    "class parent of text": (
        classified(TUMOUR | {"parentClass": "cell"}),
        {"class-parent-unreadable": ABORTS},
    ),
    "class parent null": (classified(TUMOUR | {"parentClass": None}), CLEAN),
    "class names of text": (
        classified({"names": "Tumor", "color": [1, 2, 3]}),
        {"class-names-unreadable": SINCE_04},
    ),
    "class names of text, beside a name": (
        classified(TUMOUR | {"names": "Tumor"}),
        {"class-names-unreadable": SINCE_04, "class-names-ignored": "lost since 0.4"},
    ),
    "class name number": (classified(TUMOUR | {"name": 7}), {"class-name-not-text": CHANGED}),
    "class name list": (classified(TUMOUR | {"name": ["a"]}), {"class-name-unreadable": ABORTS}),
    "class of a trailing colon and blank": (
        classified(TUMOUR | {"name": "Tumor: "}),
        {"class-name-ends-blank": SINCE_04, "class-name-trimmed": CHANGED},
    ),
    "class text of a trailing colon and blank": (
        classified("Tumor: "),
        {"class-name-ends-blank": SINCE_04, "class-name-trimmed": CHANGED}
        | {"class-not-an-object": "aborts up to 0.3"},
    ),
    "class of two trailing colons": (
        classified(TUMOUR | {"name": "a::"}),
        {"class-name-trimmed": CHANGED},
    ),
    "class of colons alone": (
        classified(TUMOUR | {"name": ":"}),
        {"class-name-unreadable": ABORTS} | {"class-name-trimmed": CHANGED},
    ),
    "class of JSON in a text": (
        classified(json.dumps(TUMOUR)),
        {"class-of-json-text": "changed since 0.4", "class-not-an-object": "aborts up to 0.3"},
    ),
    "class number": (classified(3), {"class-unreadable": ABORTS}),
    "class list": (classified(["Tumor"]), {"class-unreadable": ABORTS}),
    "class of a colon in names": (
        classified({"names": ["Tumor: Positive"], "color": [1, 2, 3]}),
        {"class-name-unreadable": ABORTS},
    ),
    "class blank": (
        classified(TUMOUR | {"name": " "}),
        {"class-name-unreadable": ABORTS, "class-name-trimmed": CHANGED},
    ),
    "class of a line break": (
        classified(TUMOUR | {"name": "a\nb"}),
        {"class-name-unreadable": ABORTS, "class-name-odd": ADVICE},
    ),
    "class of a leading colon": (
        classified(TUMOUR | {"name": ":a"}),
        {"class-name-unreadable": ABORTS},
    ),
    "class of a trailing colon": (
        classified(TUMOUR | {"name": "a:"}),
        {"class-name-trimmed": CHANGED},
    ),
    "class of blanks": (classified(TUMOUR | {"name": " a "}), {"class-name-trimmed": CHANGED}),
    "class name and names": (
        classified(TUMOUR | {"names": ["Stroma"]}),
        {"class-names-ignored": "lost since 0.4"},
    ),
    "class odd": (classified(TUMOUR | {"name": "CD3⁺"}), {"class-name-odd": ADVICE}),
    "class of other letters": (classified(TUMOUR | {"name": "Опухоль"}), CLEAN),
    # §5 measurements
    "measurements": (measured({"Area µm^2": 0.1, "": 0, "n": 2**24}), CLEAN),
    "measurements null": (measured(None), CLEAN),
    "measurements of QuPath 0.3": (measured([{"name": "a", "value": 1.5}]), CLEAN),
    "measurements text": (measured("a"), {"measurements-ignored": LOST}),
    "listed without value": (measured([{"name": "a"}]), {"measurement-list-broken": ABORTS}),
    "listed null": (
        measured([{"name": "a", "value": None}]),
        {"measurement-list-broken": ABORTS},
    ),
    "NaN": (measured({"a": math.nan}), {"measurement-nan": "aborts in 0.4"}),
    "NaN as text": (measured({"a": "NaN"}), {"measurement-as-text": "aborts in 0.4"}),
    "infinity as text": (measured({"a": "-Infinity"}), {"measurement-as-text": "aborts in 0.4"}),
    "measurement of text": (measured({"a": "high"}), {"measurement-not-a-number": SINCE_04}),
    "measurement null": (
        measured({"a": None}),
        {"measurement-dropped": "lost since 0.5, aborts in 0.4"},
    ),
    "measurement true": (
        measured({"a": True}),
        {"measurement-dropped": "lost since 0.5, aborts in 0.4"},
    ),
    "too large": (measured({"a": 1e300}), {"measurement-out-of-range": CHANGED}),
    "too small": (measured({"a": 1e-60}), {"measurement-out-of-range": CHANGED}),
    "no float32": (measured({"a": 16777217}), {"measurement-rounded": CHANGED}),
    # §6 geometry
    "points and lines": (
        collection(
            an_object({"type": "Point", "coordinates": [1, 2]}),
            an_object({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}),
            an_object({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}),
        ),
        CLEAN,
    ),
    "either orientation": (an_object(polygon(RING[::-1])), CLEAN),
    "unknown geometry": (
        an_object({"type": "Circle", "coordinates": [1, 2]}),
        {"geometry-type-unknown": ABORTS},
    ),
    "collection of geometries": (
        an_object({"type": "GeometryCollection", "geometries": [POLYGON]}),
        {"geometry-collection": "aborts since 0.6, changed up to 0.5"},
    ),
    "lines together": (
        an_object({"type": "MultiLineString", "coordinates": [[[1, 2], [3, 4]]]}),
        {"multilinestring": "lost since 0.6"},
    ),
    "no coordinates": (an_object({"type": "Polygon"}), {"coordinates-unreadable": ABORTS}),
    "flat coordinates": (an_object(polygon([1, 2, 3])), {"coordinates-unreadable": ABORTS}),
    "coordinate null": (
        an_object(polygon([[0, 0], [None, 0], [4, 4], [0, 0]])),
        {"coordinates-unreadable": ABORTS},
    ),
    "coordinates of text": (
        an_object(polygon([["0", "0"], ["4", "0"], ["4", "4"], ["0", "0"]])),
        CLEAN,
    ),
    "coordinates in lists": (
        an_object(polygon([[[0], 0], [4, 0], [4, 4], [0, 0]])),
        CLEAN,
    ),
    "line to NaN": (
        an_object({"type": "LineString", "coordinates": [[0, 0], [math.nan, 1]]}),
        {"position-not-finite": LOST},
    ),
    "point at NaN": (
        an_object({"type": "Point", "coordinates": [math.nan, 1]}),
        {"position-not-finite": LOST},
    ),
    "coordinate NaN": (
        an_object(polygon([[0, 0], [math.nan, 0], [4, 4], [0, 0]])),
        {"coordinate-not-finite": ABORTS},
    ),
    "third coordinate": (
        an_object(polygon([[0, 0, 1], [4, 0, 1], [4, 4, 1], [0, 0, 1]])),
        {"third-coordinate": LOST},
    ),
    "open ring": (an_object(polygon(RING[:-1])), {"ring-open": ABORTS}),
    "line of one": (
        an_object({"type": "LineString", "coordinates": [[1, 2]]}),
        {"line-too-short": ABORTS},
    ),
    "ring of two": (an_object(polygon([[0, 0], [0, 0]])), {"ring-too-short": ABORTS}),
    "crossing itself": (
        an_object(polygon([[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]])),
        INVALID | {"polygon-invalid": SINCE_06},
    ),
    "hole outside": (
        an_object(polygon(box(0), box(20, width=2, height=2))),
        INVALID | {"polygon-invalid": SINCE_06},
    ),
    "hole across the shell": (
        an_object(polygon(box(0), box(8, 8, 9, 9))),
        INVALID | {"polygon-invalid": SINCE_06},
    ),
    "parts that overlap": (
        an_object(multipolygon([box(0)], [box(5, 5)])),
        INVALID | {"polygon-invalid": SINCE_06},
    ),
    "parts that touch": (
        an_object(multipolygon([box(0, corner=0)], [box(10, corner=0)])),
        INVALID | {"polygon-altered": "changed since 0.6"},
    ),
    "parts apart": (an_object(multipolygon([box(0)], [box(30)])), CLEAN),
    "one part": (an_object(multipolygon([box(0)])), {"multipolygon-of-one": BEFORE_06}),
    "one part, a rectangle": (an_object(multipolygon([box(0, corner=0)])), CLEAN),
    "spike": (
        an_object(polygon([[0, 0], [10, 0], [10, 10], [15, 10], [10, 10], [0, 10], [0, 0]])),
        INVALID | {"polygon-altered": "changed since 0.6"},
    ),
    "ring that touches itself": (
        an_object(polygon([[0, 0], [5, 5], [0, 10], [10, 10], [5, 5], [10, 0], [0, 0]])),
        INVALID | {"polygon-altered": "changed since 0.6"},
    ),
    "hole in a hole": (
        an_object(polygon(box(0, width=20, height=20), box(2, 2), box(4, 4, 2, 2))),
        INVALID | {"polygon-stays-invalid": "changed since 0.6"},
    ),
    "hole of one point": (
        an_object(polygon(RING, [[3, 3]] * 4)),
        INVALID | {"polygon-altered": "changed since 0.6", "repeated-positions": ADVICE},
    ),
    "part of one point": (
        an_object(multipolygon([RING], [[[50, 50]] * 5])),
        INVALID | {"polygon-altered": "changed since 0.6", "repeated-positions": ADVICE},
    ),
    "part and hole of one point": (
        an_object(multipolygon([RING, [[3, 3]] * 4], [[[50, 50]] * 5])),
        INVALID | {"polygon-altered": "changed since 0.6", "repeated-positions": ADVICE},
    ),
    "all of one point": (
        an_object(polygon([[3, 3]] * 4)),
        {"shape-vanishes": LOST, "repeated-positions": ADVICE},
    ),
    "smallest square": (
        an_object(polygon([[0, 0], [0.02, 0], [0.02, 0.02], [0, 0.02], [0, 0]])),
        CLEAN,
    ),
    "repeated position": (
        an_object(polygon([RING[0], RING[0], *RING[1:]])),
        {"repeated-positions": ADVICE},
    ),
    "no area": (
        an_object(polygon([[0, 0], [9, 0], [5, 0], [0, 0]])),
        {"shape-vanishes": LOST},
    ),
    "three positions": (
        an_object(polygon([[0, 0], [9, 0], [0, 0]])),
        {"shape-vanishes": LOST},
    ),
    "below the grid": (
        an_object(polygon([[0, 0], [0.001, 0], [0.001, 0.001], [0, 0]])),
        {"shape-vanishes": LOST, "coordinates-rounded": CHANGED},
    ),
    "no ring": (an_object(polygon()), {"shape-vanishes": LOST}),
    "no points": (
        an_object({"type": "MultiPoint", "coordinates": []}),
        {"shape-vanishes": LOST},
    ),
    "three decimals": (
        an_object(polygon([[0, 0], [8.125, 0], [8, 5], [0, 0]])),
        {"coordinates-rounded": CHANGED},
    ),
    "valid until rounded": (
        an_object(polygon([[0, 0], [10, 0], [10, 10], [5, 0.004], [0, 10], [0, 0]])),
        {"coordinates-rounded": CHANGED, "polygon-altered": "changed since 0.6"},
    ),
    "fine up to 131072 px": (an_object(polygon(box(131_000.01))), CLEAN),
    "coarse beyond": (
        an_object(polygon(box(262_144.01))),
        {"coordinates-coarse": CHANGED},
    ),
    "whole pixels beyond": (an_object(polygon(box(400_000))), CLEAN),
    "plane": (an_object(POLYGON | {"plane": {"z": 2}}), CLEAN),
    "plane of text": (an_object(POLYGON | {"plane": {"z": "2"}}), CLEAN),
    "plane between": (an_object(POLYGON | {"plane": {"z": 1.5}}), {"plane-cut": CHANGED}),
    "plane of words": (an_object(POLYGON | {"plane": {"z": "two"}}), {"plane-unreadable": ABORTS}),
    "plane null": (an_object(POLYGON | {"plane": None}), {"plane-unreadable": ABORTS}),
    "plane of another key": (
        an_object(POLYGON | {"plane": {"z": 1, "name": "x"}}),
        {"plane-unreadable": ABORTS},
    ),
    "plane below": (an_object(POLYGON | {"plane": {"z": -1}}), {"plane-unreadable": ABORTS}),
    "plane of a TMA core": (
        an_object(POLYGON | {"plane": {"z": 1}}, objectType="tmaCore"),
        {
            "tma-core-plane": LOST,
            "tma-core-by-dialog": ADVICE,
            "outline-of-no-ellipse": "changed since 0.4",
        },
    ),
    "isEllipse null": (
        an_object(POLYGON | {"isEllipse": None}),
        {"ellipse-unreadable": SINCE_04},
    ),
    "isEllipse of a square": (
        an_object(POLYGON | {"isEllipse": True}),
        {"outline-of-no-ellipse": "changed since 0.4"},
    ),
    "unknown geometry member": (
        an_object(POLYGON | {"crs": {}}),
        {"geometry-member-unknown": LOST},
    ),
    # §0, §2, §4: among features
    "ids twice": (
        collection(an_object(outside={"id": "1-1-1-1-1"}), an_object(outside={"id": "1-1-1-1-1"})),
        {"id-repeated": "advice since 0.4", "id-rewritten": "changed since 0.4"},
    ),
    "two colours of a class": (
        collection(classified(TUMOUR), classified(TUMOUR | {"color": [1, 2, 3]})),
        {"class-colour-differs": CHANGED},
    ),
}


@pytest.mark.parametrize(("document", "expected"), ODD_FEATURES.values(), ids=ODD_FEATURES)
def test_what_becomes_of_a_feature(tmp_path, document, expected):
    assert found(validated(tmp_path, document)) == expected


DOCUMENTS = {
    # §1 containers
    "collection": (collection(an_object()), "x.geojson", CLEAN),
    "bare array": ([an_object()], "x.json", CLEAN),
    "array of collections": ([collection(an_object()), [an_object()]], "x.json", CLEAN),
    "single feature": (an_object(), "x.geojson", CLEAN),
    "empty collection": (collection(), "x.geojson", CLEAN),
    "empty array": ([], "x.geojson", CLEAN),
    "bare geometry": (
        POLYGON,
        "x.geojson",
        {"bare-geometry": ADVICE, "id-missing": "advice since 0.4"},
    ),
    "bare geometry on a plane": (
        POLYGON | {"plane": {"z": 1}},
        "x.geojson",
        {"bare-geometry": ADVICE, "bare-geometry-plane": LOST, "id-missing": "advice since 0.4"},
    ),
    "no type": ({"features": [an_object()]}, "x.geojson", {"nothing-in-it": LOST}),
    "empty file": (b"", "x.geojson", {"nothing-in-it": LOST}),
    "null": (b"null", "x.geojson", {"nothing-in-it": LOST}),
    "no features": ({"type": "FeatureCollection"}, "x.geojson", {"nothing-in-it": LOST}),
    "features null": (collection() | {"features": None}, "x.geojson", {"nothing-in-it": LOST}),
    "hierarchy": ({"root": {}, "tmaGrid": {}}, "x.json", {"nothing-in-it": LOST}),
    "feature null": (collection(None), "x.geojson", {"element-null": ABORTS}),
    "geometry for a feature": (
        collection(POLYGON),
        "x.geojson",
        {"element-not-a-feature": ABORTS, "feature-without-type": LOST}
        | {"geometry-missing": ABORTS, "id-missing": "advice since 0.4", "unknown-member": LOST},
    ),
    "number for a feature": (collection(5), "x.geojson", {"element-not-a-feature": ABORTS}),
    "number in an array": ([5], "x.geojson", {"element-ignored": LOST}),
    "lines": (
        "\n".join(json.dumps(an_object()) for _ in range(2)),
        "x.geojson",
        {"several-documents": ABORTS},
    ),
    "trailing comma": (
        '{"type": "FeatureCollection", "features": [' + json.dumps(an_object()) + ",]}",
        "x.geojson",
        {"element-null": ABORTS},
    ),
    "comma missing": (
        json.dumps([an_object(), an_object()]).replace('}, {"type"', '} {"type"'),
        "x.geojson",
        {"comma-missing": ABORTS},
    ),
    "truncated": (json.dumps([an_object()])[:-5], "x.geojson", {"unreadable": ABORTS}),
    "comments": ("// by hand\n" + json.dumps([an_object()]) + "# end", "x.geojson", CLEAN),
    "single quotes": (json.dumps([an_object()]).replace('"', "'"), "x.geojson", CLEAN),
    "byte order mark": ("\ufeff" + json.dumps([an_object()]), "x.geojson", CLEAN),
    "UTF-16": (json.dumps([an_object()]).encode("utf-16"), "x.geojson", {"unreadable": ABORTS}),
    "Latin-1": (
        json.dumps([an_object(name="µ")], ensure_ascii=False).encode("latin-1"),
        "x.geojson",
        {"not-utf8": "changed since 0.4"},
    ),
    "crs": (collection(crs={"type": "name"}), "x.geojson", {"unknown-collection-member": LOST}),
    "bbox after": (
        json.dumps(collection(an_object(), bbox=[0, 0, 9, 9])),
        "x.geojson",
        {"unknown-collection-member": LOST},
    ),
    "extension": ([an_object()], "x.txt", {"wrong-extension": LOST}),
    "capitals": ([an_object()], "X.GeoJSON", CLEAN),
    "gzip": (gzip.compress(json.dumps([an_object()]).encode()), "x.geojson.gz", CLEAN),
    "gzip alone": (
        gzip.compress(json.dumps([an_object()]).encode()),
        "x.gz",
        {"wrong-extension": LOST},
    ),
    "gzip by another name": (
        gzip.compress(json.dumps([an_object()]).encode()),
        "x.geojson",
        {"packed-otherwise": ABORTS},
    ),
    "plain by the name of gzip": ([an_object()], "x.geojson.gz", {"packed-otherwise": ABORTS}),
    "plain by the name of zip": (
        [an_object()],
        "x.zip",
        {"packed-otherwise": ABORTS, "wrong-extension": LOST},
    ),
    "data file of QuPath": (b"\xac\xed\x00\x05w\x14", "x.qpdata", {"qupath-data": ADVICE}),
    "data file of QuPath, zipped": (
        gzip.compress(b"\xac\xed\x00\x05w\x14"),
        "x.qpdata.gz",
        {"qupath-data": ADVICE},
    ),
    "data file of QuPath by another name": (
        b"\xac\xed\x00\x05w\x14",
        "x.geojson",
        {"unreadable": ABORTS},
    ),
    "by the name of a data file": ([an_object()], "x.qpdata", {"qupath-data-by-name": ABORTS}),
    # §7 size
    "annotations": (
        [an_object() for _ in range(container.MANY_ANNOTATIONS + 1)],
        "x.geojson",
        {"many-annotations": ADVICE},
    ),
    "as many detections": (
        [an_object(objectType="detection") for _ in range(container.MANY_ANNOTATIONS + 1)],
        "x.geojson",
        CLEAN,
    ),
}


@pytest.mark.parametrize(("document", "name", "expected"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_what_becomes_of_a_file(tmp_path, document, name, expected):
    assert found(validated(tmp_path, document, name)) == expected


ONLY_THE_OLDEST_MIND = {
    "type": (an_object(objectType="tile"), "x.geojson", "written-for-0.4"),
    "measurements": (measured({"a": 1}), "x.geojson", "written-for-0.4"),
    "ellipse": (an_object(POLYGON | {"isEllipse": True}), "x.geojson", "ellipse-before-0.4"),
    "children": (an_object(childObjects=[an_object()]), "x.geojson", "children-before-0.4"),
    "gzip": (gzip.compress(b"[]"), "x.geojson.gz", "gzip-before-0.4"),
    "class": (classified(TUMOUR), "x.geojson", "classes-before-0.4"),
    "names of a class": (classified({"names": ["a"], "color": []}), "x.json", "classes-before-0.4"),
    "no shape": (
        an_object({}, objectType="cell", outside={"nucleusGeometry": POLYGON}),
        "x.geojson",
        "geometry-empty-before-0.4",
    ),
}


@pytest.mark.parametrize(
    ("document", "name", "rule"), ONLY_THE_OLDEST_MIND.values(), ids=ONLY_THE_OLDEST_MIND
)
def test_what_qupath_0_3_does_not_know(tmp_path, document, name, rule):
    report = validated(tmp_path, document, name)
    (tally,) = (tally for tally in report.tallies if tally.rule.id == rule)
    assert tally.rule.severity("0.3") >= Severity.CHANGED
    assert not any(tally.rule.severity(version) for version in ("0.4", "0.5", "0.6", "0.7"))


def test_qupath_0_2_looks_for_the_type_in_the_id(tmp_path):
    report = validated(tmp_path, [an_object()])
    assert report.aborts("0.2")
    assert not report.aborts("0.3")
    assert not validate(shared_export("old_v0.2.3_mixed_feature_collection.geojson")).aborts("0.2")


def test_a_file_of_very_many_objects_comes_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "MANY_OBJECTS", 3)
    features = [an_object() for _ in range(4)]
    assert found(validated(tmp_path, features)) == {"many-objects": ADVICE}
    assert found(validated(tmp_path, features[1:])) == CLEAN


def zipped(folder: Path, **entries: bytes) -> Path:
    path = folder / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("_", "."), data)
    return path


def test_each_entry_of_an_archive_is_named(tmp_path):
    good, bad = json.dumps([an_object()]).encode(), json.dumps([an_object(None)]).encode()
    report = validate(zipped(tmp_path, a_geojson=good, b_geojson=bad, c_txt=b"?"))
    (finding,) = (f for f in report.findings if f.rule.id not in OLD_NEWS)
    assert (finding.place.document, finding.rule.id) == ("x.zip/b.geojson", "geometry-missing")
    assert report.objects == 2
    # The others arrive, and QuPath does not say that one is missing.
    assert {report.severity(version) for version in VERSIONS[1:]} == {Severity.LOST}
    assert finding.rule.effect.endswith(
        "Of an archive, the entry alone is missing, without a word."
    )


def test_an_archive_without_objects_gives_nothing(tmp_path):
    assert found(validate(zipped(tmp_path, c_txt=b"?"))) == {"nothing-in-it": LOST}


# Reports


def test_a_report_counts_all_and_keeps_a_few(tmp_path):
    features = [an_object(without=["id"], area=5) for _ in range(50)]
    report = validated(tmp_path, features)
    assert report.count("unknown-property") == 50
    assert report.count("ring-open") == 0
    first = [finding for finding in report.findings if finding.rule.id == "unknown-property"]
    assert [finding.place.index for finding in first] == list(range(EXAMPLES))


def test_a_finding_says_where(tmp_path):
    bow_tie = an_object(polygon([[0, 0], [4, 4], [4, 0], [0, 4], [0, 0]]))
    report = validated(tmp_path, collection(an_object(), bow_tie))
    finding = next(f for f in report.findings if f.rule.id == "polygon-invalid")
    assert (finding.place.index, finding.place.id) == (1, bow_tie["id"])
    assert str(finding.place) == f"feature 1 ({bow_tie['id']})"
    assert finding.detail == "geometry Self-intersection[2 2]"


def test_the_worst_comes_first_and_decides(tmp_path):
    report = validated(
        tmp_path, [an_object(area=5), classified({"name": "a"}), measured({"a": 1e99})]
    )
    rules = [tally.rule.id for tally in report.tallies_in(NEWEST)]
    assert rules == ["class-without-colour", "unknown-property", "measurement-out-of-range"]
    assert [report.severity(version) for version in VERSIONS] == [
        Severity.ABORTS,
        Severity.LOST,
        *[Severity.ABORTS] * 4,
    ]
    assert report.aborts()
    assert not report.aborts("0.3")
    assert not report.is_clean


def test_advice_leaves_a_file_clean(tmp_path):
    report = validated(tmp_path, [an_object(without=["id"])])
    assert report.count("id-missing") == 1
    assert report.is_clean


# Files that QuPath itself wrote

EXPORTS = {
    "01_annotations_all_shapes.geojson": CLEAN,
    "01_annotations_all_shapes.geojson.gz": CLEAN,
    "01_annotations_all_shapes.zip": CLEAN,
    "01_annotations_all_shapes_bare_array.geojson": CLEAN,
    "01_annotations_all_shapes_compact.geojson": CLEAN,
    "02_single_feature_object.geojson": CLEAN,
    "03_geometry_only_polygon.geojson": {
        "bare-geometry": ADVICE,
        "id-missing": "advice since 0.4",
    },
    "04_annotations_locked_named_coloured.geojson": CLEAN,
    "05_annotation_class_colour_with_alpha.geojson": CLEAN,
    "05_annotations_classified_and_derived.geojson": CLEAN,
    "06_annotation_measurements_excluded.geojson": CLEAN,
    "06_annotation_measurements_metadata.geojson": CLEAN,
    "07_detections_measurements_nan_inf.geojson": {"measurement-as-text": "aborts in 0.4"},
    "07_detections_other_rois.geojson": CLEAN,
    "08_cells_nucleus_geometry.geojson": CLEAN,
    "09_tma_cores_incl_missing.geojson": {"tma-core-by-dialog": ADVICE},
    "10_tiles.geojson": CLEAN,
    "11_planes_z_t_c.geojson": CLEAN,
    "12_hierarchy_flat_all_objects.geojson": CLEAN,
    "12_hierarchy_json_with_tma_grid.json": {"nothing-in-it": LOST},
    "12_hierarchy_nested_childObjects.geojson": CLEAN,
    "12_hierarchy_root_object.geojson": {"root-object": "lost since 0.6, aborts up to 0.5"},
    "13_empty_bare_array.geojson": CLEAN,
    "13_empty_feature_collection.geojson": CLEAN,
    "13_empty_rois.geojson": {"shape-vanishes": LOST, "repeated-positions": ADVICE},
    "14_unicode_names.geojson": CLEAN,
    **{
        f"old_v0.2.3_mixed_{form}.geojson": {
            "tma-core-by-dialog": ADVICE,
            "id-missing": "advice since 0.4",
            "measurement-nan": "aborts in 0.4",
        }
        for form in ("bare_array", "feature_collection")
    },
    **{
        f"old_v{version}_mixed_{form}.geojson": {
            "tma-core-by-dialog": ADVICE,
            rule: "aborts in 0.4",
        }
        for version, rule in (("0.4.4", "measurement-nan"), ("0.6.0", "measurement-as-text"))
        for form in ("bare_array", "feature_collection")
    },
}


@pytest.mark.parametrize(("name", "expected"), EXPORTS.items(), ids=EXPORTS)
def test_what_qupath_wrote_it_takes(name, expected):
    assert found(validate(shared_export(name))) == expected


# Hostile files

HOSTILE = {
    "nothing but brackets": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "nested in a feature": b'[{"type":"Feature","geometry":' + b"[" * 50_000,
    "nested collections": b'{"type":"GeometryCollection","geometries":[' * 10_000,
    "zeros": b"\0" * 100_000,
    "quotes": b'"' * 99_999,
    "half a gzip": gzip.compress(b"[]" * 5000)[:-12],
    "gzip of nothing": b"\x1f\x8b\x08\x00",
    "half a zip": b"PK\x03\x04" + b"x" * 100,
    "end of a zip": b"PK\x05\x06" + b"\0" * 18,
    "lone surrogate": b'[{"type":"Feature","id":"\\ud800","geometry":{}}]',
    "huge exponent": b'[{"type":"Feature","geometry":{"type":"Point","coordinates":[1e999,1]}}]',
    "huge number": b'[{"type":"Point","coordinates":[' + b"9" * 5000 + b",1]}]",
    "class within class": (
        b'[{"type":"Feature","properties":{"classification":'
        + b'{"name":"a","colorRGB":1,"parentClass":' * 900
        + b"1"
        + b"}" * 901
        + b"}]"
    ),
    "child within child": (
        b'[{"type":"Feature","properties":{"childObjects":[' * 300 + b"]}}]" * 300
    ),
    "coordinates within coordinates": (
        b'[{"type":"Feature","geometry":{"type":"Polygon","coordinates":'
        + b"[" * 900
        + b"]" * 900
        + b"}}]"
    ),
    "types that are lists": b'[{"type":["Feature"],"properties":{"objectType":[],"type":{}}}]',
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", ["x.geojson", "x.geojson.gz", "x.zip"])
def test_hostile_bytes_are_findings(tmp_path, raw, name):
    report = validated(tmp_path, raw, name)
    assert report.severity() >= Severity.LOST


def test_a_bomb_is_a_finding(tmp_path):
    report = validated(tmp_path, gzip.compress(b" " * (300 << 20), 9), "x.geojson.gz")
    assert found(report) == {"unreadable": ABORTS}
    assert "unpacks to more than 100 times" in report.findings[0].detail


any_bytes = st.one_of(
    st.binary(max_size=300),
    json_values().map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda value, cut: json.dumps(value).encode()[cut:-cut], json_values(), st.integers(1, 9)
    ),
)


@given(raw=any_bytes, packed=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_are_an_exception(tmp_path_factory, raw, packed):
    path = tmp_path_factory.getbasetemp() / "any.geojson"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    report = validate(path)
    assert len(report.findings) <= EXAMPLES * len(report.tallies)
    json.dumps(report.as_dict())


@given(members=st.dictionaries(st.sampled_from(["id", "geometry", "properties"]), json_values()))
@settings(max_examples=300, deadline=None)
def test_no_feature_is_an_exception(tmp_path_factory, members):
    path = tmp_path_factory.getbasetemp() / "feature.geojson"
    path.write_text(json.dumps([{"type": "Feature", "geometry": POLYGON} | members]))
    assert validate(path).objects >= 1


# The tables of rules

TABLES: dict[str, RuleTable] = {
    "feature": feature.FEATURE,
    "properties": properties.PROPERTY,
    "classification": classification.CLASSIFICATION,
    "measurements": measurements.MEASUREMENT,
    "readability": geometry.READABILITY,
    "geometry": geometry.GEOMETRY,
    "shape": shape.SHAPE,
    "repetition": repetition.REPETITION,
    "document": container.DOCUMENT,
    "element": container.ELEMENT,
}


def test_rules_have_names_of_their_own_and_say_what_to_do():
    rules = [rule for table in TABLES.values() for rule in table]
    names = [rule.id for rule in rules]
    assert len(set(names)) == len(names)
    for rule in rules:
        assert len(rule.severities) == len(VERSIONS)
        assert rule.worst > Severity.FINE
        assert rule.effect.endswith(".")
        assert rule.advice.endswith(".")


def test_every_rule_has_a_row_in_these_tests():
    tested = {rule for case in (*ODD_FEATURES.values(), *DOCUMENTS.values()) for rule in case[-1]}
    rules = {rule.id for table in TABLES.values() for rule in table}
    tested |= {rule for _, _, rule in ONLY_THE_OLDEST_MIND.values()}
    # These have tests of their own.
    assert rules - tested == {"many-objects", "ids-before-0.3"}


ORDINARY = {
    "feature": json_values().map(
        lambda value: an_object(outside={"properties": {"objectType": "tile"}, "x": value})
    ),
    "properties": json_values().map(lambda v: {"objectType": "tile", "classification": v}),
    "classification": json_values().map(lambda value: {"name": value, "color": [1, 2, value]}),
    "measurements": st.dictionaries(st.text(), st.floats()),
    "readability": json_values().map(lambda value: polygon([[0, 0], [1, value], [1, 1], [0, 0]])),
}


@pytest.mark.parametrize("name", ORDINARY)
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_no_rule_objects_to_what_is_ordinary(name, data):
    table = TABLES[name]
    value = data.draw(ORDINARY[name] | json_values())
    if name not in ("classification", "measurements") and not isinstance(value, dict):
        return
    assert table.is_ordinary is not None
    if table.is_ordinary(value):
        assert [rule.id for rule in table if rule.check(value) is not None] == []


@pytest.mark.parametrize(
    ("severities", "words"),
    [
        ((Severity.FINE,) * 6, ""),
        ((Severity.LOST,) * 6, "lost always"),
        ((Severity.FINE, Severity.FINE, *[Severity.ABORTS] * 4), "aborts since 0.4"),
        ((*[Severity.ABORTS] * 4, Severity.FINE, Severity.FINE), "aborts up to 0.5"),
        (
            (
                Severity.FINE,
                Severity.FINE,
                Severity.ABORTS,
                Severity.LOST,
                Severity.LOST,
                Severity.CHANGED,
            ),
            "changed since 0.7, lost in 0.5 to 0.6, aborts in 0.4",
        ),
    ],
)
def test_severities_in_words(severities, words):
    assert spelled(severities) == words
    assert NEWEST == "0.7"


# Size


def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.geojson"
        with path.open("w") as file:
            file.write("[" + json.dumps(an_object(objectType="detection")))
            for _ in range(count - 1):
                file.write("," + json.dumps(an_object(objectType="detection")))
            file.write("]")
        tracemalloc.start()
        assert validate(path).objects == count
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(10)
    # A parsed object takes some 2.5 kB; of one that went by, only its id is remembered.
    assert peak(20_000) - peak(5_000) < 15_000 * 1000
