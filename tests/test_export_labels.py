"""Label pyramids: every pixel is asked of the outlines, whatever the order of the table."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tests.support.exported import case, corrected, polygons, with_slide
from tests.support.results import SIDE_PX, write_result
from wsi_engine.convert.label_image import LABEL, read_label_image
from wsi_engine.errors import ExportError
from wsi_engine.export.bands import MOST_HELD, Bands
from wsi_engine.export.export import export_result
from wsi_engine.export.label_pyramid import level_sizes
from wsi_engine.nuclei.raster import draw
from wsi_engine.results import nucleus_table as geoparquet
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.nucleus_table import GeoParquetReader

OME = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}


def expected_labels(shapes, size: tuple[int, int], step) -> np.ndarray:
    """Ask of every pixel centre in which outline it lies; the last one wins."""
    height, width = size
    x, y = np.meshgrid((np.arange(width) + 0.5) * step[0], (np.arange(height) + 0.5) * step[1])
    labels = np.zeros(size, np.uint32)
    for number, shape in enumerate(shapes, start=1):
        left, top, right, bottom = shape.bounds
        window = np.s_[
            max(0, int(top / step[1]) - 1) : max(0, int(bottom / step[1]) + 2),
            max(0, int(left / step[0]) - 1) : max(0, int(right / step[0]) + 2),
        ]
        inside = shapely.contains_xy(shape, x[window], y[window])
        labels[window][inside] = number
    return labels


def scattered(count: int, seed: int = 0) -> np.ndarray:
    """Places of nuclei, some of them beyond the border, many of them overlapping."""
    rng = np.random.default_rng(seed)
    return np.round(rng.uniform(-5, [700, 1300], (count, 2)), 2) + 0.003


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A slide of 700 x 1300 pixels of 0.25 x 0.5 µm."""
    folder = write_result(tmp_path / "Präparat 1", scattered(400))
    size = {"x": 0, "y": 0, "width": 700, "height": 1300}
    return with_slide(folder, bounds=size, mpp={"x": 0.25, "y": 0.5})


# --- pixels ----------------------------------------------------------------------------------


def test_every_level_holds_the_nuclei_at_its_pixel_centres(small):
    (path,) = export_result(small, "labels")
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        sizes = [(1300, 700), (650, 350), (325, 175), (162, 87)]
        assert [level.shape for level in series.levels] == sizes
        for k, level in enumerate(series.levels):
            found = level.asarray()
            assert found.dtype == np.uint32
            step = (2**k, 2**k)
            np.testing.assert_array_equal(found, expected_labels(polygons(small), sizes[k], step))


def test_a_pixel_size_of_ones_own(small):
    (path,) = export_result(small, "labels", mpp=0.7)
    with tifffile.TiffFile(path) as tiff:
        found = tiff.series[0].levels[0].asarray()
    assert found.shape == (int(1300 * 0.5 / 0.7), int(700 * 0.25 / 0.7))
    step = (0.7 / 0.25, 0.7 / 0.5)
    np.testing.assert_array_equal(found, expected_labels(polygons(small), found.shape, step))


def test_zarr_reads_a_part_of_it(small):
    (path,) = export_result(small, "labels")
    store = tifffile.imread(path, aszarr=True, level=0)
    pixels = zarr.open(store, mode="r")
    expected = expected_labels(polygons(small), (1300, 700), (1, 1))
    np.testing.assert_array_equal(pixels[400:900, 500:700], expected[400:900, 500:700])
    store.close()


def test_holes_stay_empty_and_corrections_are_there(finished_run, tmp_path):
    folder = corrected(finished_run, tmp_path)
    (path,) = export_result(folder, "labels")
    labels = tifffile.imread(path)
    shapes = polygons(folder)
    assert shapes[-1].interiors
    rows, columns = np.nonzero(labels != expected_labels(shapes, labels.shape, (1, 1)))
    # A centre may lie on an outline: there both are right.
    doubtful = shapely.points(columns + 0.5, rows + 0.5)
    outlines = shapely.union_all(shapely.boundary(shapes))
    assert shapely.distance(outlines, doubtful).max(initial=0) < 1e-9
    assert (labels[700, 700], labels[700, 705]) == (0, len(shapes))


def test_labels_are_outlined_again_by_convert(tmp_path):
    folder = case(tmp_path, "one nucleus")
    (path,) = export_result(folder, "labels", tmp_path / "x.ome.tif", mpp=0.5)
    (found,) = read_label_image(path)
    assert found.metadata[LABEL] == "1"
    doubled = shapely.transform(found.geometry, lambda xy: xy * 2)
    (shape,) = polygons(folder)
    assert doubled.hausdorff_distance(shape) < 2


def test_no_nuclei_give_an_empty_image(tmp_path):
    (path,) = export_result(case(tmp_path, "nothing found"), "labels")
    labels = tifffile.imread(path)
    assert labels.shape == (SIDE_PX, SIDE_PX)
    assert not labels.any()


@pytest.mark.parametrize(("mpp", "allowed"), [(0.125, True), (0.124, False), (0.0005, False)])
def test_label_pixels_are_no_finer_than_a_quarter_of_the_slides(small, mpp, allowed):
    run, step = SlideResult(small), mpp / np.array([0.25, 0.5])
    if allowed:
        assert level_sizes(run, step)[0] == (5200, 1400)
    else:
        with pytest.raises(ExportError, match=r"0\.25 x 0\.5 µm; give 0\.125 or more"):
            level_sizes(run, step)


# --- what the file says ----------------------------------------------------------------------


def test_ome_xml_says_what_bio_formats_asks(small):
    (path,) = export_result(small, "labels", mpp=0.5)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        assert tiff.is_ome
        assert len(tiff.pages) == 1  # the levels are its SubIFDs
        assert (page.tilewidth, page.tilelength) == (256, 256)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert all(level.keyframe.subfiletype == 1 for level in tiff.series[0].levels[1:])
        root = ET.fromstring(tiff.ome_metadata)
    image = root.find("ome:Image", OME)
    assert image.get("Name") == "Präparat 1: labels of nuclei"
    said = image.find("ome:Pixels", OME).attrib
    expected = {"Type": "uint32", "SizeX": "350", "SizeY": "1300", "DimensionOrder": "XYCZT",
                "PhysicalSizeX": "0.5", "PhysicalSizeY": "0.5"}  # fmt: skip
    assert said | expected == dict(said)
    assert said.get("PhysicalSizeXUnit", "µm") == "µm"  # what the schema has by default
    # A UUID of version 1 would tell of the machine and the time.
    assert uuid.UUID(root.get("UUID")).version == 5


def test_pixels_need_not_be_square(small):
    (path,) = export_result(small, "labels")
    with tifffile.TiffFile(path) as tiff:
        said = ET.fromstring(tiff.ome_metadata).find("ome:Image/ome:Pixels", OME).attrib
    assert (said["PhysicalSizeX"], said["PhysicalSizeY"]) == ("0.25", "0.5")


# --- memory ----------------------------------------------------------------------------------


def test_few_row_groups_are_held_however_high_the_band(tmp_path):
    folder = write_in_portions(tmp_path, scattered(1000))
    with SlideResult(folder).table as table:
        bands = Bands(table)
        numbers = []
        for rows in bands.at(-10, 1400):
            numbers += rows.numbers.tolist()
            assert len(bands._held) <= MOST_HELD < len(table.group_starts) - 1
    assert numbers == list(range(1000))


def test_going_down_a_run_reads_each_row_group_once(tmp_path, monkeypatch):
    """As a run writes them: tile by tile, each row of tiles below the one before."""
    anchors = scattered(1000)
    folder = write_in_portions(tmp_path, anchors[np.argsort(anchors[:, 1])])
    with SlideResult(folder).table as table:
        bands = Bands(table)
        list(bands.at(0, 1))  # looks once at how far each group reaches
        read = []
        group = table.group
        monkeypatch.setattr(table, "group", lambda k, columns: read.append(k) or group(k, columns))
        found = set()
        for top in range(-10, 1400, 40):
            found |= {k for rows in bands.at(top, top + 40) for k in rows.numbers.tolist()}
    assert found == {*range(1000)}
    assert len(read) <= 20  # row groups


def write_in_portions(folder: Path, anchors: np.ndarray) -> Path:
    """Write a result whose table has many row groups."""
    whole = write_result(folder / "slide", anchors)
    with GeoParquetReader(whole / "nuclei.parquet") as table:
        rows = table.group(0)
    with geoparquet.pq.ParquetWriter(whole / "nuclei.parquet", rows.schema) as writer:
        for start in range(0, len(rows), 50):
            writer.write_table(rows.slice(start, 50))
    return whole


@pytest.mark.parametrize("order", ["down", "up", "none"])
def test_the_order_of_the_table_decides_on_numbers_alone(tmp_path, order):
    anchors = scattered(300, seed=3)
    if order != "none":
        anchors = anchors[np.argsort(anchors[:, 1] * (1 if order == "down" else -1))]
    folder = write_in_portions(tmp_path, anchors)
    with_slide(folder, bounds={"x": 0, "y": 0, "width": 700, "height": 1300})
    (path,) = export_result(folder, "labels")
    expected = expected_labels(polygons(folder), (1300, 700), (1, 1))
    np.testing.assert_array_equal(tifffile.imread(path), expected)


def test_an_empty_row_group_is_no_obstacle(tmp_path):
    folder = write_in_portions(tmp_path, scattered(10))
    with GeoParquetReader(folder / "nuclei.parquet") as table:
        rows = table.group(0)
    with geoparquet.pq.ParquetWriter(folder / "nuclei.parquet", rows.schema) as writer:
        for part in (rows.slice(0, 0), rows, rows.slice(0, 0)):
            writer.write_table(part)
    with SlideResult(folder).table as table:
        (rows,) = Bands(table).at(-10, 2000)
        assert rows.numbers.tolist() == list(range(10))


# --- the kernel ------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.floats(-3, 23), st.floats(-3, 23), st.floats(0.5, 9), st.integers(3, 9)),
        max_size=4,
    ),
    st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
)
def test_drawing_asks_for_the_centre_of_each_pixel(discs, origin):
    """Against shapely, for polygons with holes that overlap and reach over the border."""
    shapes = [
        shapely.Point(x, y).buffer(radius, quad_segs=segments)
        - shapely.Point(x + 0.1, y).buffer(radius / 2, quad_segs=segments)
        for x, y, radius, segments in discs
    ]
    labels = np.zeros((20, 18), np.uint32)
    if shapes:
        _, xy, (rings, polygons_of_rings) = shapely.to_ragged_array(shapes)
        numbers = np.arange(len(shapes)) + 7
        draw(xy - np.array(origin), rings, polygons_of_rings, numbers, labels)
    x, y = np.meshgrid(np.arange(18) + 0.5 + origin[0], np.arange(20) + 0.5 + origin[1])
    expected = np.zeros((20, 18), np.uint32)
    doubtful = np.zeros((20, 18), bool)
    for number, shape in enumerate(shapes, start=7):
        expected[shapely.contains_xy(shape, x, y)] = number
        doubtful |= shapely.distance(shape.boundary, shapely.points(x, y)) < 1e-9
    np.testing.assert_array_equal(labels[~doubtful], expected[~doubtful])
