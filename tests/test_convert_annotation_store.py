"""Annotation stores: TIAToolbox reads what is written, and its own are read, without it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from tests.support.exports import EXPORTS_OF_EVERY_KIND, shared_export
from tests.support.same_objects import assert_same_objects
from wsi_engine.convert.annotation_store import read_annotation_store, write_annotation_store
from wsi_engine.convert.types import types_of
from wsi_engine.errors import ConversionError
from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.roi import ROI

storage = pytest.importorskip("tiatoolbox.annotation.storage", reason="extra `tiatoolbox`")

SHAPES = [
    shapely.box(10, 20, 30, 50),
    shapely.Point(12.5, 7.25),
    shapely.LineString([(0, 0), (5, 8), (9, 1)]),
    shapely.box(0, 0, 9, 9).difference(shapely.box(3, 3, 5, 5)),
    shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(4, 4, 6, 6)]),
]


@pytest.fixture(autouse=True)
def _python_without_loadable_extensions(monkeypatch):
    """TIAToolbox asks for them only to learn how SQLite was compiled, and fails without."""
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        return

    def compile_options():
        with sqlite3.connect(":memory:") as store:
            return [option for (option,) in store.execute("pragma compile_options")]

    monkeypatch.setattr(storage.SQLiteStore, "compile_options", staticmethod(compile_options))


def toolbox_store(path, annotations, keys=None, **settings):
    store = storage.SQLiteStore(path, **settings)
    keys = store.append_many(annotations, keys)
    store.close()
    return keys


def by_name(objects):
    """What is no finite number stands elsewhere, and comes last."""
    return [replace(o, measurements=dict(sorted(o.measurements.items()))) for o in objects]


@pytest.mark.parametrize("compression", ["zlib", None])
def test_what_tiatoolbox_wrote_is_read(tmp_path, compression):
    path = tmp_path / "slide.db"
    properties = {
        "type": "neopla",
        "prob": 0.75,
        "score": 3,
        "note": "pale",
        "flag": True,
        "x": None,
    }
    annotations = [storage.Annotation(shape, properties) for shape in SHAPES]
    keys = toolbox_store(path, annotations, compression=compression)
    found = list(read_annotation_store(path))
    assert shapely.equals_identical([item.roi.geometry for item in found], SHAPES).all()
    assert [item.id for item in found] == keys
    for item in found:
        assert (item.object_type, item.class_name) == ("detection", "neopla")
        assert item.measurements == {"Type probability": 0.75, "score": 3.0}
        assert item.metadata == {"note": "pale"}


@pytest.mark.parametrize(
    ("value", "types", "expected"),
    [
        ("Tumor", {}, PathClass.of("Tumor")),
        (2, {"2": ["inflam", [0, 255, 0]]}, PathClass(("inflam",), (0, 255, 0))),
        ("2", {"2": "inflam"}, PathClass.of("inflam")),
        (2, {}, PathClass.of("Type 2")),
        (None, {}, None),
        ("", {}, None),
        (" \n", {}, None),
        (" Tumor:\nPositive :", {}, PathClass.of("Tumor: Positive")),
    ],
)
def test_types_are_classes(tmp_path, value, types, expected):
    toolbox_store(tmp_path / "x.db", [storage.Annotation(SHAPES[0], {"type": value})])
    found = list(read_annotation_store(tmp_path / "x.db", types=types_of(types, "types")))
    assert found[0].classification == expected


def test_what_tiatoolbox_took_from_qupath_is_read(tmp_path):
    """Its import keeps QuPath's properties as they are, old measurements in their list."""
    properties = {
        "objectType": "annotation",
        "classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]},
        "name": "A",
        "isLocked": True,
        "measurements": [{"name": "Area", "value": 4.5}],
    }
    toolbox_store(tmp_path / "x.db", [storage.Annotation(SHAPES[0], properties)])
    (item,) = read_annotation_store(tmp_path / "x.db")
    assert (item.object_type, item.name, item.is_locked) == ("annotation", "A", True)
    assert item.classification == PathClass(("Tumor", "Positive"), (1, 2, 3))
    assert item.measurements == {"Area": 4.5}


def test_tiatoolbox_reads_what_is_written(tmp_path):
    path = tmp_path / "x.db"
    objects = [
        PathObject(
            object_type="detection",
            roi=ROI(shape),
            id=str(uuid.uuid4()),
            classification=PathClass.of("Tumor"),
            measurements={"Area µm^2": 12.5 + k},
        )
        for k, shape in enumerate(SHAPES)
    ]
    write_annotation_store(path, objects)
    store = storage.SQLiteStore(path)
    for item in objects:
        annotation = store[item.id]
        assert shapely.equals_identical(annotation.geometry, item.geometry)
        assert annotation.properties["type"] == "Tumor"
        assert annotation.properties["Area µm^2"] == item.measurements["Area µm^2"]
    # Its spatial index, its columns and its queries work on the file.
    assert set(store.query((11, 21, 12, 22))) == {objects[0].id}
    assert len(store.query((0, 0, 100, 100), where="props['Area µm^2'] > 13")) == 4
    assert store.pquery("props['type']", unique=True) == {"Tumor"}
    some = storage.Annotation(SHAPES[0], {"type": "new"})
    key = store.append(some)
    assert store[key].properties == {"type": "new"}
    store.close()


@pytest.mark.parametrize("name", EXPORTS_OF_EVERY_KIND)
def test_nothing_of_qupath_is_lost_on_the_way_there_and_back(tmp_path, name):
    objects = read_objects(shared_export(name))
    write_annotation_store(tmp_path / "x.db", objects)
    found = list(read_annotation_store(tmp_path / "x.db"))
    assert_same_objects(by_name(objects), by_name(found))


def test_children_become_annotations_of_their_own(tmp_path):
    objects = read_objects(shared_export("12_hierarchy_nested_childObjects.geojson"))
    write_annotation_store(tmp_path / "x.db", objects)
    flat = [replace(part, children=[]) for item in objects for part in item.flattened()]
    assert_same_objects(flat, list(read_annotation_store(tmp_path / "x.db")))


@pytest.mark.parametrize("name", ["type", "name", "metadata", "prob", "measurements", "class"])
def test_a_measurement_may_have_any_name(tmp_path, name):
    item = PathObject(object_type="detection", roi=ROI(SHAPES[0]), measurements={name: 2.5})
    write_annotation_store(tmp_path / "x.db", [replace(item, id=str(uuid.uuid4()))])
    (found,) = read_annotation_store(tmp_path / "x.db")
    assert found.measurements == {name: 2.5}
    assert (found.name, found.classification, found.metadata) == (None, None, {})


def test_tiatoolbox_is_not_needed(tmp_path):
    toolbox_store(tmp_path / "x.db", [storage.Annotation(SHAPES[0], {"type": "a"})])
    code = (
        "import sys; sys.modules['tiatoolbox'] = None\n"
        "from wsi_engine.convert.annotation_store import read_annotation_store\n"
        f"print(len(list(read_annotation_store({str(tmp_path / 'x.db')!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout.strip() == "1"


def change(path, sql, *values):
    with sqlite3.connect(path) as store:
        store.execute(sql, values)
    store.close()


@pytest.mark.parametrize(
    ("sql", "values", "words"),
    [
        ("UPDATE annotations SET geometry = ?", [b"nonsense"], "annotation 0"),
        ("UPDATE annotations SET properties = ?", ["{"], "no JSON"),
        ("UPDATE annotations SET properties = ?", ["[1]"], "no object"),
        ("UPDATE annotations SET properties = ?", ['{"objectType": "blob"}'], "blob"),
        ("UPDATE annotations SET properties = ?", ['{"color": "red"}'], "red"),
        ("UPDATE annotations SET properties = ?", ['{"type": [1]}'], "type"),
        ("UPDATE metadata SET value = ? WHERE key = 'compression'", ['"lzma"'], "lzma"),
        ("DROP TABLE annotations", [], "no annotation store"),
    ],
)
def test_what_is_broken_is_said(tmp_path, sql, values, words):
    path = tmp_path / "x.db"
    toolbox_store(path, [storage.Annotation(SHAPES[0], {"type": "a"})])
    change(path, sql, *values)
    with pytest.raises(ConversionError, match=r"x\.db") as caught:
        list(read_annotation_store(path))
    assert words in str(caught.value)


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"SQLite format 3\0" + bytes(np.arange(200, dtype=np.uint8)))
    with pytest.raises(ConversionError, match="cannot be read"):
        list(read_annotation_store(path))
    with pytest.raises(ConversionError, match="no such file"):
        list(read_annotation_store(tmp_path / "absent.db"))
    assert json.dumps([p.name for p in tmp_path.iterdir()]) == '["x.db"]'  # none was created
