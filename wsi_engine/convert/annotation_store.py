"""TIAToolbox's annotation stores: SQLite files, read and written without TIAToolbox.

A store has one row per annotation in ``annotations`` (key, type of geometry, centroid, WKB,
properties as JSON, area), its bounding box in ``rtree``, and ``metadata`` that says how
geometry is packed. A point has no WKB: it is its centroid.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import shapely

from wsi_engine.convert.properties import object_of_properties, properties_of_object
from wsi_engine.convert.types import Types
from wsi_engine.errors import ConversionError
from wsi_engine.qupath.objects import PathObject

VERSION = "1.0.1"
COMPRESSION_LEVEL = 3
ROWS_AT_ONCE = 1000

_SCHEMA = """
CREATE TABLE metadata (key TEXT UNIQUE, value TEXT);
CREATE VIRTUAL TABLE rtree USING rtree(id, min_x, max_x, min_y, max_y);
CREATE TABLE annotations(
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, objtype TEXT, cx FLOAT NOT NULL, cy FLOAT NOT NULL,
    geometry BLOB, properties TEXT, area FLOAT NOT NULL
);
"""


def read_annotation_store(path: str | Path, *, types: Types | None = None) -> Iterator[PathObject]:
    """Read the annotations of a store as QuPath objects, one after the other.

    The property ``type`` is the class; numbers become measurements, texts metadata. Areas are
    detections, unless the store was written from QuPath and says what they are.

    Parameters
    ----------
    path
        A ``.db`` file.
    types
        Classes of types that are numbers.

    Raises
    ------
    ConversionError
        When the file is no annotation store, or damaged; the message names the annotation.
    """
    path = Path(path)
    if not path.is_file():
        raise ConversionError(f"{path}: no such file")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as store:
            packing = _packing(store, path.name)
            rows = store.execute(
                "SELECT key, cx, cy, geometry, properties FROM annotations ORDER BY id"
            )
            for index, (key, cx, cy, packed, properties) in enumerate(rows):
                where = f"{path.name}: annotation {index} ({key})"
                geometry = _geometry(packed, cx, cy, packing, where)
                try:
                    values = json.loads(properties) if properties else {}
                except ValueError as error:
                    raise ConversionError(f"{where}: its properties are no JSON: {error}") from None
                if not isinstance(values, dict):
                    raise ConversionError(f"{where}: its properties are no object")
                yield object_of_properties(geometry, key, values, types or {}, where)
    except sqlite3.Error as error:
        raise ConversionError(f"{path.name} cannot be read as annotation store: {error}") from None


def write_annotation_store(path: Path, objects: Iterable[PathObject]) -> None:
    """Write objects as an annotation store.

    Class, name and all else that TIAToolbox has no place for are properties, measurements by
    their own names: its viewer colours by ``type`` and by any measurement. Objects without a
    shape, such as the root, are left out; children become annotations of their own.

    Parameters
    ----------
    path
        File that must not exist yet.
    objects
        Objects in their final coordinates, each with its id.
    """
    shown = (part for item in objects for part in item.flattened() if not part.geometry.is_empty)
    count = 0
    with closing(sqlite3.connect(path)) as store:
        store.executescript(_SCHEMA)
        facts = {"version": VERSION, "compression": "zlib", "compression_level": COMPRESSION_LEVEL}
        store.executemany(
            "INSERT INTO metadata VALUES (?, ?)", [(k, json.dumps(v)) for k, v in facts.items()]
        )
        while group := list(islice(shown, ROWS_AT_ONCE)):
            numbered = list(enumerate(group, count + 1))
            store.executemany(
                "INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(number, item) for number, item in numbered],
            )
            boxes = [(n, *shapely.bounds(item.geometry)[[0, 2, 1, 3]]) for n, item in numbered]
            store.executemany("INSERT INTO rtree VALUES (?, ?, ?, ?, ?)", boxes)
            count += len(group)
        store.execute("CREATE INDEX area ON annotations(area)")
        store.commit()


def _row(number: int, item: PathObject) -> tuple[Any, ...]:
    geometry = item.geometry
    x, y = shapely.get_coordinates(shapely.centroid(geometry))[0].tolist()
    packed = None
    if geometry.geom_type != "Point":
        packed = zlib.compress(shapely.to_wkb(geometry), COMPRESSION_LEVEL)
    properties = orjson.dumps(properties_of_object(item)).decode()
    return number, item.id, geometry.geom_type, x, y, packed, properties, geometry.area


def _packing(store: sqlite3.Connection, name: str) -> str | None:
    tables = {row[0] for row in store.execute("SELECT name FROM sqlite_master")}
    if not {"annotations", "metadata"} <= tables:
        raise ConversionError(f"{name} is a database, but no annotation store of TIAToolbox")
    found = dict(store.execute("SELECT key, value FROM metadata"))
    packing = json.loads(found.get("compression", "null"))
    if packing not in (None, "zlib"):
        raise ConversionError(f"{name}: its geometry is packed with {packing!r}, which is unknown")
    return str(packing) if packing else None


def _geometry(
    packed: bytes | None, x: float, y: float, packing: str | None, where: str
) -> shapely.Geometry:
    if packed is None:
        return shapely.Point(x, y)
    try:
        raw = zlib.decompress(packed) if packing == "zlib" else packed
        read = shapely.from_wkt if isinstance(raw, str) else shapely.from_wkb
        return shapely.force_2d(read(raw))
    except (zlib.error, TypeError, shapely.GEOSException) as error:
        raise ConversionError(f"{where}: its geometry cannot be read: {error}") from None
