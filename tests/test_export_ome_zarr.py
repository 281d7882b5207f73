"""Label images in OME-Zarr, read again by zarr and ome-zarr-py."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from numcodecs import Blosc
from ome_zarr.format import FormatV04
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Multiscales, Reader

from tests.support.exported import case, corrected, polygons, truth, with_slide
from tests.support.results import write_result
from tests.test_export_labels import expected_labels, scattered, write_in_portions
from wsi_engine.errors import ExportError
from wsi_engine.export import ome_zarr_labels
from wsi_engine.export.export import export_result
from wsi_engine.slide.readers import is_slide_folder

SIZE = {"x": 0, "y": 0, "width": 1700, "height": 2300}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A slide of 1700 x 2300 pixels of 0.25 x 0.5 µm, larger than a chunk."""
    rng = np.random.default_rng(5)
    anchors = np.round(rng.uniform(-5, [1700, 2300], (2000, 2)), 2) + 0.003
    folder = write_result(tmp_path / "Präparat 1", anchors)
    return with_slide(folder, bounds=SIZE, mpp={"x": 0.25, "y": 0.5})


def image_of(path: Path) -> zarr.Group:
    return zarr.open_group(path / "labels" / "nuclei", mode="r")


def attributes(path: Path) -> dict:
    return image_of(path).attrs.asdict()


# --- pixels ----------------------------------------------------------------------------------


def test_every_level_holds_the_nuclei_at_its_pixel_centres(small):
    (path,) = export_result(small, "ome-zarr")
    assert path.name == "Präparat 1_labels.ome.zarr"
    image = image_of(path)
    sizes = [(2300, 1700), (1150, 850), (575, 425), (287, 212), (143, 106)]
    assert [image[str(k)].shape for k in range(5)] == sizes
    for k, size in enumerate(sizes):
        found = image[str(k)][:]
        assert found.dtype == np.uint32
        np.testing.assert_array_equal(found, expected_labels(polygons(small), size, (2**k, 2**k)))


@pytest.mark.parametrize("at_once", [1, 2])
def test_rows_of_few_and_of_many_chunks_are_drawn_alike(small, monkeypatch, at_once):
    (expected,) = export_result(small, "ome-zarr", small.parent / "expected.zarr")
    monkeypatch.setattr(ome_zarr_labels, "MOST_DRAWN_AT_ONCE", at_once)
    (path,) = export_result(small, "ome-zarr")
    for k in range(5):
        np.testing.assert_array_equal(image_of(path)[str(k)][:], image_of(expected)[str(k)][:])


def test_no_more_than_the_nuclei_of_a_low_row_are_held(tmp_path, monkeypatch):
    """A row of chunks of a coarse level is as high as the slide: its nuclei pass through."""
    folder = write_in_portions(tmp_path, scattered(1000))
    with_slide(folder, bounds={"x": 0, "y": 0, "width": 700, "height": 1300})
    monkeypatch.setattr(ome_zarr_labels, "CHUNK", 128)
    monkeypatch.setattr(ome_zarr_labels, "MOST_DRAWN_AT_ONCE", 2)
    alive: list[weakref.ref] = []
    most = 0
    made = ome_zarr_labels._Band.of

    def counted(rows):
        nonlocal most
        band = made(rows)
        alive[:] = [one for one in alive if one() is not None] + [weakref.ref(band)]
        most = max(most, sum(len(one().rows.polygons) for one in alive if one() is not None))
        return band

    monkeypatch.setattr(ome_zarr_labels._Band, "of", counted)
    (path,) = export_result(folder, "ome-zarr")
    assert most < 600  # of 1000: those of 512 of 1300 rows of pixels
    expected = expected_labels(polygons(folder), (1300, 700), (1, 1))
    np.testing.assert_array_equal(image_of(path)["0"][:], expected)


def test_they_are_those_of_the_tiff(small):
    for mpp in (None, 0.7):
        target = small.parent / f"{mpp}.zarr"
        (path,) = export_result(small, "ome-zarr", target, mpp=mpp)
        (tiff,) = export_result(small, "labels", mpp=mpp)
        np.testing.assert_array_equal(image_of(path)["0"][:], tifffile.imread(tiff))


def test_a_chunk_without_nuclei_is_left_out(tmp_path):
    folder = with_slide(write_result(tmp_path / "slide", [(1200, 100)]), bounds=SIZE)
    (path,) = export_result(folder, "ome-zarr")
    level = path / "labels" / "nuclei" / "0"
    chunks = [file.relative_to(level).as_posix() for file in level.rglob("*") if file.is_file()]
    assert sorted(chunks) == [".zarray", "0/1"]
    assert image_of(path)["0"][100, 1200] == 1


def test_no_nuclei_give_an_empty_image(tmp_path):
    (path,) = export_result(case(tmp_path, "nothing found"), "ome-zarr")
    assert not image_of(path)["0"][:].any()
    assert "properties" not in attributes(path)["image-label"]


def test_the_same_nuclei_give_the_same_bytes(small):
    def content(name: str) -> dict[str, bytes]:
        (path,) = export_result(small, "ome-zarr", small.parent / f"{name}.ome.zarr")
        files = (file for file in path.rglob("*") if file.is_file())
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}

    assert content("one") == content("two")


# --- what it says ----------------------------------------------------------------------------


def test_ome_zarr_py_reads_it(finished_run, tmp_path):
    folder = corrected(finished_run, tmp_path)
    (path,) = export_result(folder, "ome-zarr")
    location = parse_url(path / "labels" / "nuclei", mode="r")
    assert location is not None
    assert isinstance(location.fmt, FormatV04)
    (node,) = [node for node in Reader(location)() if node.load(Multiscales)]
    assert node.load(Label)
    labels = tifffile.imread(*export_result(folder, "labels"))
    np.testing.assert_array_equal(node.data[0].compute(), labels)
    rows = truth(folder).to_pylist()
    described = node.metadata["properties"]
    assert [described[k + 1]["id"] for k in range(len(rows))] == [row["id"] for row in rows]
    assert [described[k + 1].get("class") for k in range(len(rows))] == [
        row["class"] for row in rows
    ]
    assert described[1]["score"] == pytest.approx(rows[0]["score"], abs=1e-4)
    # As in QuPath: the class that was given there has its colour, the others a grey.
    assert node.metadata["color"][1] == [1 / 255, 2 / 255, 3 / 255, 1.0]
    assert node.metadata["color"][2] == [128 / 255] * 3 + [1.0]
    assert set(node.metadata["color"]) == set(range(1, len(rows) + 1))


def test_without_classes_viewers_choose_the_colours(small):
    (path,) = export_result(small, "ome-zarr")
    said = attributes(path)["image-label"]
    assert "colors" not in said
    assert len(said["properties"]) == 2000
    assert said["source"] == {"image": "../../"}


def test_pixels_have_their_size_and_coarser_ones_lie_between_finer_ones(small):
    (path,) = export_result(small, "ome-zarr")
    (multiscale,) = attributes(path)["multiscales"]
    assert multiscale["version"] == "0.4"
    assert multiscale["axes"] == [
        {"name": name, "type": "space", "unit": "micrometer"} for name in "yx"
    ]
    for k, level in enumerate(multiscale["datasets"]):
        scale, shift = level["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [0.5 * 2**k, 0.25 * 2**k]}
        assert shift["translation"] == [0.5 * (2**k - 1) / 2, 0.25 * (2**k - 1) / 2]


def test_of_very_many_nuclei_the_metadata_do_not_tell(small, monkeypatch, caplog):
    monkeypatch.setattr(ome_zarr_labels, "MOST_DESCRIBED", 1999)
    (path,) = export_result(small, "ome-zarr")
    assert attributes(path)["image-label"].keys() == {"version", "source"}
    assert "has 2000 nuclei, more than 1999" in caplog.text


def test_a_score_that_is_not_defined_is_left_out(tmp_path):
    folder = write_result(tmp_path / "slide", scattered(2))
    table = pq.read_table(folder / "nuclei.parquet")
    scores = pa.array([float("nan"), 0.25], pa.float32())
    place = table.schema.get_field_index("score")
    pq.write_table(
        table.set_column(place, table.schema.field(place), scores), folder / "nuclei.parquet"
    )
    (path,) = export_result(folder, "ome-zarr")
    text = (path / "labels" / "nuclei" / ".zattrs").read_text("utf-8")
    said = json.loads(text, parse_constant=pytest.fail)["image-label"]["properties"]
    assert [one.get("score") for one in said] == [None, 0.25]


def test_chunks_are_packed_by_what_every_reader_of_zarr_2_has(small):
    (path,) = export_result(small, "ome-zarr")
    said = json.loads((path / "labels" / "nuclei" / "0" / ".zarray").read_text())
    assert said["compressor"]["id"] == "blosc"
    chunk = (path / "labels" / "nuclei" / "0" / "0" / "0").read_bytes()
    assert len(Blosc().decode(chunk)) == 4 * 1024**2


# --- where it goes ---------------------------------------------------------------------------


def test_a_folder_that_is_there_is_left_alone(small):
    (path,) = export_result(small, "ome-zarr")
    before = attributes(path)
    with pytest.raises(ExportError, match=r"_labels\.ome\.zarr is there already"):
        export_result(small, "ome-zarr")
    assert attributes(path) == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_breaks_off_leaves_nothing(small, monkeypatch):
    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(ome_zarr_labels, "draw_rows", fail)
    with pytest.raises(RuntimeError):
        export_result(small, "ome-zarr")
    assert list((small / "exports").iterdir()) == []


def test_a_label_image_is_no_slide(small):
    (path,) = export_result(small, "ome-zarr")
    assert not is_slide_folder(path)
    assert not is_slide_folder(path / "labels" / "nuclei")
