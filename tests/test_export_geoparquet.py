"""GeoParquet: other libraries open it, nothing is lost, and it grows by row groups."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from tests.support.nuclei_by_hand import some_nuclei
from wsi_engine.errors import ResultError
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.nuclei.measure.shape import measure_shape
from wsi_engine.nuclei.measure.view import OutlineView
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.results import nucleus_table as geoparquet
from wsi_engine.results.nucleus_table import GeoParquetReader, GeoParquetWriter, read_nuclei
from wsi_engine.slide.frames import Mpp
from wsi_engine.version import __version__

CLASSES = ("Tumor", "Stroma", "Other")


def ids_of(nuclei):
    return nucleus_ids(namespace_of("slide", "model"), nuclei.anchors)


def measured(nuclei):
    return measure_shape(OutlineView(nuclei.polygons, Mpp(0.25, 0.25)))


def write(path, *chunks, classes=CLASSES, measurements=None):
    names = list(measured(some_nuclei(1))) if measurements is None else measurements
    with GeoParquetWriter(path, classes, names, {"mpp": 0.25}) as writer:
        for nuclei in chunks:
            columns = measured(nuclei) if measurements is None else {}
            writer.write(ids_of(nuclei), nuclei, columns)
    return path


@pytest.fixture
def nuclei():
    return some_nuclei(50, len(CLASSES), seed=1, with_hole=[0, 9])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "nuclei.parquet"


def test_geopandas_opens_it(path, nuclei):
    frame = geopandas.read_parquet(write(path, nuclei))
    assert frame.crs is None  # pixels are no place on earth
    assert frame.geometry.name == "geometry"
    assert shapely.equals_identical(frame.geometry.to_numpy(), nuclei.polygons).all()
    assert list(frame.columns) == [
        *["id", "geometry", "x", "y", "class", "score", "slide"],
        *[f"probability: {name}" for name in CLASSES],
        *measured(nuclei),
    ]


def test_geopandas_reads_a_part_of_it(path):
    chunks = [some_nuclei(50, len(CLASSES), seed=k) for k in range(3)]
    shapes = np.concatenate([chunk.polygons for chunk in chunks])
    left, top, right, bottom = shapely.total_bounds(shapes)
    box = (left, top, (left + right) / 2, (top + bottom) / 2)
    found = geopandas.read_parquet(write(path, *chunks), bbox=box)
    bounds = shapely.bounds(shapes)
    expected = (bounds[:, :2] <= box[2:]).all(axis=1) & (bounds[:, 2:] >= box[:2]).all(axis=1)
    assert 0 < len(found) == expected.sum() < len(shapes)
    assert shapely.equals_identical(found.geometry.to_numpy(), shapes[expected]).all()


def test_every_column_holds_what_was_written(path, nuclei):
    table = pq.read_table(write(path, nuclei))
    assert table["id"].to_pylist() == ids_of(nuclei)
    np.testing.assert_array_equal(np.column_stack([table["x"], table["y"]]), nuclei.anchors)
    np.testing.assert_array_equal(table["score"], nuclei.scores)
    for k, name in enumerate(CLASSES):
        np.testing.assert_array_equal(table[f"probability: {name}"], nuclei.probabilities[:, k])
    for name, column in measured(nuclei).items():
        np.testing.assert_array_equal(table[name], column)
        assert table.schema.field(name).type == pa.float32()


def test_classes_are_names_and_none_is_null(path, nuclei):
    table = pq.read_table(write(path, nuclei))
    expected = [CLASSES[k] if k >= 0 else None for k in nuclei.classes]
    assert {None, *CLASSES} == set(expected)
    assert table["class"].to_pylist() == expected


def test_a_model_without_classes_has_no_class_and_no_probabilities(path):
    nuclei = some_nuclei(5)
    table = pq.read_table(write(path, nuclei, classes=()))
    assert table["class"].to_pylist() == [None] * 5
    assert not [name for name in table.column_names if name.startswith("probability")]


def test_probabilities_that_a_model_does_not_give_are_nan(path, nuclei):
    without = Nuclei(**{**nuclei.__dict__, "probabilities": np.empty((len(nuclei), 0), np.float32)})
    table = pq.read_table(write(path, without))
    for name in CLASSES:
        assert np.isnan(table[f"probability: {name}"].to_numpy()).all()


def test_without_measurements_there_are_no_such_columns(path, nuclei):
    table = pq.read_table(write(path, nuclei, measurements=[]))
    assert table.column_names[-1] == f"probability: {CLASSES[-1]}"


@pytest.mark.parametrize("classes", [(), CLASSES])
@pytest.mark.parametrize("chunks", [0, 1, 3], ids=lambda n: f"{n} empty chunks")
def test_a_slide_without_nuclei_gives_a_file_without_rows(path, classes, chunks):
    empty = some_nuclei(0, len(classes))
    frame = geopandas.read_parquet(write(path, *[empty] * chunks, classes=classes))
    assert len(frame) == 0
    assert frame.crs is None
    assert set(frame.columns) >= {"id", "geometry", "class", "score"}
    assert len(read_nuclei(path)) == 0
    assert read_nuclei(path).polygons.shape == (0,)


@pytest.mark.parametrize(
    ("chunks", "groups"),
    [
        ([4, 4, 4], [12]),
        ([9, 9, 9, 1], [18, 10]),
        ([20, 0, 3], [20, 3]),
        ([1] * 35, [10, 10, 10, 5]),
        ([0, 0, 10], [10]),
        ([5, 5], [10]),
        ([10], [10]),
        ([11, 9], [11, 9]),
    ],
)
def test_row_groups_are_written_as_they_fill_up(path, monkeypatch, chunks, groups):
    monkeypatch.setattr(geoparquet, "NUCLEI_IN_ROW_GROUP", 10)
    parts = [some_nuclei(n, len(CLASSES), seed=k) for k, n in enumerate(chunks)]
    file = pq.ParquetFile(write(path, *parts))
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == groups
    whole = Nuclei.concatenate(parts)
    table = read_nuclei(path)
    assert table.arrow["id"].to_pylist() == ids_of(whole)
    assert table.arrow["class"].to_pylist() == [
        CLASSES[k] if k >= 0 else None for k in whole.classes
    ]


def test_a_full_row_group_is_on_its_way_to_disk_before_the_file_is_closed(path, monkeypatch):
    """Memory must not grow with the slide."""
    monkeypatch.setattr(geoparquet, "NUCLEI_IN_ROW_GROUP", 100)
    with GeoParquetWriter(path, CLASSES, [], {}) as writer:
        sizes, held = [], []
        for seed in range(20):
            nuclei = some_nuclei(40, len(CLASSES), seed)
            writer.write(ids_of(nuclei), nuclei, {})
            sizes.append(path.stat().st_size)
            held.append(sum(len(table) for table in writer._held))
    assert max(held) < 100
    assert sizes[-1] > 3 * max(sizes[2], 1) > 3


def test_the_metadata_say_what_the_numbers_mean(path, nuclei):
    metadata = pq.read_schema(write(path, nuclei)).metadata
    geo = json.loads(metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"][geo["primary_column"]] == {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None,
        "edges": "planar",
        "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
    }
    facts = json.loads(metadata[b"wsi_engine"])
    assert facts == {
        "version": __version__,
        "unit": "full-resolution pixel, QuPath origin",
        "mpp": 0.25,
    }


def test_the_same_nuclei_give_the_same_bytes(tmp_path, nuclei):
    one, other = write(tmp_path / "a.parquet", nuclei), write(tmp_path / "b.parquet", nuclei)
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "read",
    [
        lambda path: GeoParquetReader(path).group(0),
        lambda path: list(GeoParquetReader(path).groups(["geometry"])),
        lambda path: GeoParquetReader(path).column("x"),
        lambda path: GeoParquetReader(path).take([3], ["x"]),
        read_nuclei,
    ],
    ids=["group", "groups", "column", "take", "all"],
)
def test_damaged_pages_are_said_in_one_sentence(path, nuclei, read):
    """The footer is whole: that they are damaged shows only when they are read."""
    raw = bytearray(write(path, nuclei).read_bytes())
    footer = int.from_bytes(raw[-8:-4], "little") + 8
    raw[4:-footer] = bytes(len(raw) - footer - 4)
    path.write_bytes(raw)
    with pytest.raises(ResultError, match=r"nuclei\.parquet cannot be read"):
        read(path)


# The table that a user of the Python interface gets


def test_the_table_offers_polygons_a_geodataframe_and_arrow(path, nuclei):
    table = read_nuclei(write(path, nuclei))
    assert len(table) == len(nuclei)
    assert shapely.equals_identical(table.polygons, nuclei.polygons).all()
    frame = table.to_geopandas()
    assert isinstance(frame, geopandas.GeoDataFrame)
    assert shapely.equals_identical(frame.geometry.to_numpy(), nuclei.polygons).all()
    assert frame["id"].tolist() == ids_of(nuclei)
    assert pa.table(table).num_rows == len(nuclei)  # by the Arrow stream protocol
