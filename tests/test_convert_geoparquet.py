"""GeoParquet there and back, the engine's own tables, and those of other libraries."""

from __future__ import annotations

import json
import math
import uuid
from dataclasses import replace

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from tests.support.exports import EXPORTS_OF_EVERY_KIND, shared_export
from tests.support.nuclei_by_hand import some_nuclei
from tests.support.same_objects import assert_same_objects
from wsi_engine.convert import geoparquet
from wsi_engine.convert.geoparquet import measurement_names, read_geoparquet, write_geoparquet
from wsi_engine.convert.types import types_of
from wsi_engine.errors import ConversionError
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.nuclei.labels import ADDED, EDITED, ENGINE, LABEL_COLUMNS, Labels
from wsi_engine.qupath.features import SCORE_NAME
from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.roi import ROI
from wsi_engine.results.nucleus_table import GeoParquetWriter

BOX = shapely.box(1, 2, 3, 5)


def there_and_back(path, objects):
    write_geoparquet(path, objects, measurement_names(objects))
    return list(read_geoparquet(path))


def by_name(objects):
    """Columns have one order for all rows."""
    return [replace(o, measurements=dict(sorted(o.measurements.items()))) for o in objects]


@pytest.mark.parametrize("name", EXPORTS_OF_EVERY_KIND)
def test_nothing_of_qupath_is_lost_on_the_way_there_and_back(tmp_path, name):
    objects = read_objects(shared_export(name))
    assert_same_objects(by_name(objects), by_name(there_and_back(tmp_path / "x.parquet", objects)))


def test_geopandas_opens_it(tmp_path):
    objects = read_objects(shared_export("07_detections_measurements_nan_inf.geojson"))
    path = tmp_path / "x.parquet"
    write_geoparquet(path, objects, measurement_names(objects))
    frame = geopandas.read_parquet(path)
    assert frame.crs is None
    assert frame["id"].tolist() == [item.id for item in objects]
    assert set(measurement_names(objects)) <= set(frame.columns)
    assert frame["objectType"].unique().tolist() == ["detection"]


def test_nan_is_a_value_and_missing_is_not(tmp_path):
    objects = [
        PathObject(object_type="detection", roi=ROI(BOX), measurements=measured)
        for measured in ({"a": 1.0}, {"a": math.nan, "b": math.inf}, {})
    ]
    found = there_and_back(tmp_path / "x.parquet", objects)
    assert [list(item.measurements) for item in found] == [["a"], ["a", "b"], []]
    assert math.isnan(found[1].measurements["a"])


@pytest.mark.parametrize("name", ["id", "class", "metadata", "measurement: id", "type", "score"])
def test_a_measurement_may_have_any_name(tmp_path, name):
    item = PathObject(object_type="detection", roi=ROI(BOX), measurements={name: 2.5})
    (found,) = there_and_back(tmp_path / "x.parquet", [item])
    assert found.measurements == {name: 2.5}
    assert (found.id, found.classification, found.metadata) == (None, None, {})


def test_row_groups_are_written_as_objects_come(tmp_path, monkeypatch):
    monkeypatch.setattr(geoparquet, "ROWS_AT_ONCE", 10)
    taken = []

    def objects():
        for k in range(25):
            taken.append(k)
            yield PathObject(object_type="detection", roi=ROI(BOX), measurements={"k": k})

    write_geoparquet(tmp_path / "x.parquet", objects(), ["k"])
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(3)] == [10, 10, 5]
    found = read_geoparquet(tmp_path / "x.parquet")
    assert [item.measurements["k"] for item in found] == taken


# The engine's own table says the same as its GeoJSON


def test_the_table_of_a_run_gives_the_detections_of_the_run(finished_run):
    shown = read_objects(finished_run / "nuclei.geojson.gz")
    found = list(read_geoparquet(finished_run / "nuclei.parquet"))
    assert all(item.metadata["ROI"] == "Tumor" for item in shown)
    for was, now in zip(shown, found, strict=True):
        # The table may measure more.
        now.measurements = {name: now.measurements[name] for name in was.measurements}
    assert_same_objects(shown, found)


def test_classes_and_labels_of_a_run_come_back(tmp_path):
    classes = ("Tumor", "Stroma")
    nuclei = some_nuclei(3, len(classes), seed=3)
    ids = nucleus_ids(namespace_of("slide", "model"), nuclei.anchors)
    labels = Labels(
        name=[None, None, "odd one"],
        source=[ENGINE, EDITED, ADDED],
        roi=[None, "Necrosis", None],
        roi_id=[None, ids[0], None],
        notes=[{}] * 3,
    )
    with GeoParquetWriter(tmp_path / "x.parquet", classes, [], {}, LABEL_COLUMNS) as writer:
        writer.write(ids, nuclei, {}, labels.columns())
    found = list(read_geoparquet(tmp_path / "x.parquet"))
    assert [item.class_name for item in found] == [
        (*classes, None)[index] for index in nuclei.classes
    ]
    assert [item.name for item in found] == labels.name
    assert [item.metadata for item in found] == labels.metadata()
    for item, score, row in zip(found, nuclei.scores, nuclei.probabilities, strict=True):
        shares = {f"probability: {name}": share for name, share in zip(classes, row, strict=True)}
        expected = {SCORE_NAME: score} | shares
        assert item.measurements == {name: float(str(value)) for name, value in expected.items()}


# Tables of other libraries


def frame(**columns):
    return geopandas.GeoDataFrame(columns, geometry=[BOX, shapely.box(0, 0, 1, 1)])


@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
@pytest.mark.parametrize(
    "shapes",
    [
        [BOX, BOX.buffer(3).difference(BOX)],
        [shapely.MultiPolygon([BOX]), shapely.MultiPolygon([BOX, shapely.box(9, 9, 10, 12)])],
        [shapely.Point(1, 2), shapely.Point(3, 4)],
        [shapely.LineString([(0, 0), (1, 2)]), shapely.LineString([(0, 0), (1, 2), (5, 5)])],
    ],
    ids=lambda shapes: shapes[0].geom_type,
)
def test_shapes_of_geopandas_in_both_encodings(tmp_path, encoding, shapes):
    table = geopandas.GeoDataFrame({"area": [1.5, 2.5]}, geometry=shapes)
    table.to_parquet(tmp_path / "x.parquet", geometry_encoding=encoding)
    found = list(read_geoparquet(tmp_path / "x.parquet"))
    assert shapely.equals_identical([item.roi.geometry for item in found], shapes).all()
    assert [item.measurements for item in found] == [{"area": 1.5}, {"area": 2.5}]


def test_columns_are_class_measurement_or_metadata(tmp_path):
    path = tmp_path / "x.parquet"
    known = str(uuid.uuid4())
    frame(
        object_id=[known, "cell-7"],
        cell_type=pd.Categorical(["Tumor", None]),
        area=np.array([0.1, np.nan], np.float32),
        count=[3, 4],
        flag=[True, False],
        slide=["a", "b"],
    ).to_parquet(path)
    first, second = read_geoparquet(path)
    assert (first.id, second.id) == (known, None)  # QuPath would replace it silently
    assert (first.classification, second.classification) == (PathClass.of("Tumor"), None)
    assert first.measurements == {"area": 0.1, "count": 3.0}
    assert second.measurements == {"count": 4.0}
    assert first.metadata == {"slide": "a"}
    assert first.object_type == "detection"


def test_classes_that_are_numbers(tmp_path):
    frame(type=[1, 2]).to_parquet(tmp_path / "x.parquet")
    found = read_geoparquet(tmp_path / "x.parquet", types=types_of({"1": "Tumor"}, "types"))
    assert [item.class_name for item in found] == ["Tumor", "Type 2"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"x": [1]}), "no geometry column, only x"),
        (pa.table({"geometry": [b"nonsense"]}), "cannot be read"),
        (pa.table({"geometry": pa.array([None, None], pa.binary())}), "row 0 has no geometry"),
        (
            pa.table({"geometry": [b""]}).replace_schema_metadata({"geo": "{"}),
            "geo metadata are broken",
        ),
        (
            pa.table({"g": [b""]}).replace_schema_metadata(
                {"geo": json.dumps({"primary_column": "g", "columns": {"g": {"encoding": "TWKB"}}})}
            ),
            "TWKB",
        ),
    ],
)
def test_what_is_broken_is_said(tmp_path, table, words):
    path = tmp_path / "x.parquet"
    pq.write_table(table, path)
    with pytest.raises(ConversionError, match=r"x\.parquet") as caught:
        list(read_geoparquet(path))
    assert words in str(caught.value)


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ConversionError, match="cannot be read as GeoParquet"):
        list(read_geoparquet(tmp_path / "x.parquet"))
