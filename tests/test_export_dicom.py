"""DICOM annotations and segmentations, as highdicom and pydicom read them again."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import highdicom
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from highdicom.spatial import ReferenceToImageTransformer
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian
from wsidicom.graphical_annotations import AnnotationInstance

import wsi_engine
from tests.support.archives import SETTINGS
from tests.support.dicom_slides import DOWN_AND_LEFT, write_whole_slide
from tests.support.exported import STRANGE, corrected, polygons, truth, with_slide
from tests.support.objects_by_hand import item
from tests.support.results import write_annotations_by_hand, write_result
from tests.support.slides import noise
from wsi_engine.cli import main
from wsi_engine.errors import ExportError, ResultError
from wsi_engine.export.dicom import outlines, slide, streaming
from wsi_engine.export.dicom.codes import SCHEME, nucleus_code, text, unit_code
from wsi_engine.export.dicom.regions import MOST_PIXELS, step_of
from wsi_engine.export.export import export_result
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.qupath.writer import write_objects
from wsi_engine.regions.measure import measure_regions
from wsi_engine.results.finished import SlideResult
from wsi_engine.slide.fingerprint import fingerprint

WIDTH, HEIGHT = 600, 400

MEASURED = {
    "Area µm^2": np.arange(40.0),
    "Solidity": np.where(np.arange(40) % 2, np.nan, 0.25),
    "Hematoxylin: Mean": np.full(40, np.nan),
}


def of_slide(folder: Path, file: Path, **facts) -> Path:
    """Say in a result that it is of a DICOM slide."""
    size = {"width": WIDTH, "height": HEIGHT}
    facts = {"vendor": "dicom", "fingerprint": fingerprint(file), **size} | facts
    with_slide(folder, **{"bounds": {"x": 0, "y": 0, **size}} | facts)
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["slide_path"] = str(file)
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    return folder


def result_of(file: Path, folder: Path, **changes) -> Path:
    """Write a result of 40 nuclei in two classes and in none."""
    rng = np.random.default_rng(3)
    made = {
        "anchors": np.round(rng.uniform(10, [WIDTH - 10, HEIGHT - 10], (40, 2)), 2),
        "classes": ("Tumor", "Immune cells"),
        "labels": np.arange(40) % 3 - 1,
        "measurements": MEASURED,
        "tissue": [shapely.box(50, 20, 350, 220)],
    }
    return of_slide(write_result(folder / "level0", **made | changes), file)


@pytest.fixture
def whole_slide(tmp_path: Path) -> Path:
    return write_whole_slide(tmp_path / "slide", noise(HEIGHT, WIDTH))


@pytest.fixture
def result(whole_slide: Path, tmp_path: Path) -> Path:
    return result_of(whole_slide, tmp_path / "out")


def rings_of(folder: Path, label: str | None) -> list[np.ndarray]:
    """The outlines of a class in the order of the table, without the point that closes them."""
    classes = truth(folder)["class"].to_pylist()
    shapes = [s for s, c in zip(polygons(folder), classes, strict=True) if c == label]
    return [shapely.get_coordinates(shape.exterior)[:-1] for shape in shapes]


# --- nuclei ----------------------------------------------------------------------------------


def test_highdicom_reads_outlines_classes_and_measurements_again(result):
    path, _ = export_result(result, "dicom")
    found = highdicom.ann.annread(path)
    groups = found.AnnotationGroupSequence
    assert path.name == "level0_nuclei.dcm"
    assert [group.label for group in groups] == ["Tumor", "Immune cells", "Nucleus"]
    rows = truth(result)
    for group, name in zip(groups, ("Tumor", "Immune cells", None), strict=True):
        mine = [k for k, label in enumerate(rows["class"].to_pylist()) if label == name]
        assert group.number_of_annotations == len(mine)
        for ring, expected in zip(
            group.get_graphic_data("2D"), rings_of(result, name), strict=True
        ):
            np.testing.assert_array_equal(ring, expected.astype(np.float32))
        names, values, units = group.get_measurements()
        of_columns = ["score", "probability: Tumor", "probability: Immune cells"]
        # Defined for none of the nuclei, the haematoxylin is left out.
        assert [n.meaning for n in names] == [*of_columns, "Area", "Solidity"]
        assert [n.scheme_designator for n in names] == [SCHEME] * 3 + ["SCT", SCHEME]
        assert [u.value for u in units] == ["1", "1", "1", "um2", "1"]
        for k, column in enumerate([*of_columns, "Area µm^2", "Solidity"]):
            expected = rows[column].to_numpy()[mine].astype(np.float32)
            np.testing.assert_array_equal(values[:, k], expected)


def test_pydicom_reads_the_numbers_as_the_standard_has_them(result):
    path, _ = export_result(result, "dicom")
    (group, *_) = dcmread(path).AnnotationGroupSequence
    points = np.frombuffer(group.PointCoordinatesData, "<f4")
    first = np.frombuffer(group.LongPrimitivePointIndexList, "<u4").astype(int) - 1
    expected = rings_of(result, "Tumor")
    assert len(first) == group.NumberOfAnnotations == len(expected)
    for (start, stop), ring in zip(pairwise([*first, len(points)]), expected, strict=True):
        np.testing.assert_allclose(points[start:stop].reshape(-1, 2), ring, atol=1e-4)
    solidity = group.MeasurementsSequence[-1].MeasurementValuesSequence[0]
    of = np.frombuffer(solidity.AnnotationIndexList, "<u4")
    mine = truth(result)["Solidity"].to_numpy()[np.arange(40) % 3 == 1]
    np.testing.assert_array_equal(of, np.flatnonzero(np.isfinite(mine)) + 1)
    assert len(np.frombuffer(solidity.FloatingPointValues, "<f4")) == len(of)


def test_wsidicom_reads_them_again(result):
    path, _ = export_result(result, "dicom")
    (found,) = AnnotationInstance.open([path])
    assert [group.label for group in found.groups] == ["Tumor", "Immune cells", "Nucleus"]
    for group, name in zip(found.groups, ("Tumor", "Immune cells", None), strict=True):
        for one, expected in zip(group.annotations, rings_of(result, name), strict=True):
            ring = np.array([(point.x, point.y) for point in one.geometry.points])
            np.testing.assert_allclose(ring, expected, atol=1e-4)
    first = {each.code.meaning: each for each in found.groups[0].annotations[0].measurements}
    assert (first["Area"].value, first["Area"].unit.value) == (1, "um2")
    assert {"probability: Immune cells", "score"} <= first.keys()


def test_they_are_of_the_slides_patient_study_specimen_and_finest_image(result, whole_slide):
    path, _ = export_result(result, "dicom")
    image, found = dcmread(whole_slide, stop_before_pixels=True), dcmread(path)
    same = ("PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "AccessionNumber")
    same += ("ContainerIdentifier", "SpecimenDescriptionSequence")
    assert all(found[keyword].value == image[keyword].value for keyword in same)
    assert found.PatientName == "Müller^Jörg"  # written in Latin 1 there, in UTF-8 here
    assert (found.SpecificCharacterSet, found.Modality) == ("ISO_IR 192", "ANN")
    assert found.SeriesInstanceUID != image.SeriesInstanceUID
    (series,) = found.ReferencedSeriesSequence
    (instance,) = series.ReferencedInstanceSequence
    assert series.SeriesInstanceUID == image.SeriesInstanceUID
    assert instance.ReferencedSOPInstanceUID == image.SOPInstanceUID
    (reference,) = found.ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert (found.AnnotationCoordinateType, found.PixelOriginInterpretation) == ("2D", "VOLUME")
    assert "FrameOfReferenceUID" not in found
    (scheme,) = found.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == SCHEME


@pytest.mark.parametrize("turned", [DOWN_AND_LEFT, [1, 0, 0, 0, 1, 0], [0, 1, 0, -1, 0, 0]])
def test_in_mm_they_lie_in_the_frame_of_reference(tmp_path, turned):
    file = write_whole_slide(tmp_path / "slide", noise(HEIGHT, WIDTH), orientation=turned)
    folder = result_of(file, tmp_path / "out")
    path, _ = export_result(folder, "dicom", mm=True)
    image, found = dcmread(file), highdicom.ann.annread(path)
    assert found.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert found.PositionReferenceIndicator == "SLIDE_CORNER"
    assert len(found.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 2
    to_pixels = ReferenceToImageTransformer.for_image(image, for_total_pixel_matrix=True)
    for group, name in zip(
        found.AnnotationGroupSequence, ("Tumor", "Immune cells", None), strict=True
    ):
        assert group.CommonZCoordinateValue == 0
        rings = group.get_graphic_data("3D")
        for ring, expected in zip(rings, rings_of(folder, name), strict=True):
            np.testing.assert_allclose(to_pixels(ring)[:, :2], expected, atol=1e-6)
    x, y, _ = found.AnnotationGroupSequence[0].get_graphic_data("3D")[0][0]
    column, row = rings_of(folder, "Tumor")[0][0]
    # By hand, as PS3.3, C.8.12.4.1.1 has it: the origin is the centre of the first pixel.
    across, down = np.array(turned, float).reshape(2, 3)
    expected = np.array([20, 40, 0]) + 0.00025 * (across * (column - 0.5) + down * (row - 0.5))
    np.testing.assert_allclose([x, y], expected[:2], atol=1e-9)


def test_large_slides_have_coordinates_of_double_precision(result, monkeypatch):
    monkeypatch.setattr(outlines, "FLOAT32_HOLDS_PX", WIDTH - 1)
    path, _ = export_result(result, "dicom")
    (group, *_) = highdicom.ann.annread(path).AnnotationGroupSequence
    assert "PointCoordinatesData" not in group
    for ring, expected in zip(group.get_graphic_data("2D"), rings_of(result, "Tumor"), strict=True):
        np.testing.assert_array_equal(ring, expected)


def test_a_row_group_is_in_memory_at_a_time(result, whole_slide):
    first, _ = export_result(result, "dicom")
    expected = first.read_bytes()
    table = pq.read_table(result / "nuclei.parquet")
    pq.write_table(table, result / "nuclei.parquet", row_group_size=7)
    run = SlideResult(result)
    found = outlines.Outlines(run, slide.dicom_slide_of(run, None), in_mm=False)
    parts = list(found.values(0)[outlines._POINTS].parts())
    assert len(parts) == 6
    assert len(b"".join(parts)) == found.length(0)
    export_result(result, "dicom")
    # UIDs are made of the digest of the table, and differ.
    (group, *_), (other, *_) = (
        dcmread(source).AnnotationGroupSequence for source in (BytesIO(expected), first)
    )
    assert group.PointCoordinatesData == other.PointCoordinatesData == b"".join(parts)


def test_slides_in_implicit_value_representation(tmp_path):
    file = write_whole_slide(tmp_path / "slide", noise(HEIGHT, WIDTH))
    image = dcmread(file)
    image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    image.save_as(file, implicit_vr=True, enforce_file_format=True)
    path, _ = export_result(result_of(file, tmp_path / "out"), "dicom")
    found = highdicom.ann.annread(path)
    assert found.PatientName == "Müller^Jörg"
    assert found.SpecimenDescriptionSequence[0].SpecimenIdentifier == "Block 2"


def test_outlines_keep_two_decimals_in_float32():
    px = np.round(outlines.FLOAT32_HOLDS_PX - np.arange(1, 100_000) / 100, 2)
    np.testing.assert_array_equal(np.round(px.astype(np.float32).astype(float), 2), px)


def test_what_qupath_crops_off_is_added_again(whole_slide, tmp_path):
    folder = of_slide(
        write_result(tmp_path / "level0", [(100, 120)]),
        whole_slide,
        bounds={"x": 30, "y": 50, "width": 500, "height": 300},
    )
    path, regions = export_result(folder, "dicom")
    (group,) = highdicom.ann.annread(path).AnnotationGroupSequence
    centre = group.get_graphic_data("2D")[0].mean(axis=0)
    np.testing.assert_allclose(centre, (130, 170), atol=1e-3)
    labels = highdicom.seg.segread(regions).get_total_pixel_matrix(combine_segments=True)
    assert not labels[:50].any()
    assert not labels[:, :30].any()
    assert labels[50, 30] == 1


def test_a_run_on_a_dicom_slide_is_exported_as_it_lies(finished_run, tmp_path):
    pixels = np.full((HEIGHT, WIDTH, 3), (235, 190, 210), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels[np.hypot(x - 150, y - 90) < 16] = (90, 50, 130)
    file = write_whole_slide(tmp_path / "slide", pixels)
    folder = wsi_engine.run(file, tmp_path / "out", **SETTINGS).folder
    path, *_ = export_result(folder, "dicom")
    (group,) = highdicom.ann.annread(path).AnnotationGroupSequence
    ((left, top), (right, bottom)) = (
        limit(group.get_graphic_data("2D")[0], axis=0) for limit in (np.min, np.max)
    )
    assert (left + right) / 2 == pytest.approx(150.5, abs=1)
    assert (top + bottom) / 2 == pytest.approx(90.5, abs=1)


def test_corrections_are_in_them_and_make_them_semiautomatic(finished_run, tmp_path):
    folder = corrected(finished_run, tmp_path)
    bounds = json.loads((folder / "run.json").read_text("utf-8"))["slide"]["bounds"]
    small = np.full((bounds["height"], bounds["width"], 3), 255, np.uint8)
    file = write_whole_slide(tmp_path / "slide", small)
    size = {"width": bounds["width"], "height": bounds["height"]}
    of_slide(folder, file, **size, bounds={"x": 0, "y": 0, **size}, vendor="aperio")
    path, _ = export_result(folder, "dicom", slide=file)
    groups = highdicom.ann.annread(path).AnnotationGroupSequence
    assert {group.AnnotationGroupGenerationType for group in groups} == {"SEMIAUTOMATIC"}
    assert sum(group.number_of_annotations for group in groups) == len(truth(folder))
    (drawn,) = [group for group in groups if group.label == "Drawn; new"]
    # Its hole is not in it: polygons of annotations have none.
    (ring,) = drawn.get_graphic_data("2D")
    (expected,) = rings_of(folder, "Drawn; new")
    np.testing.assert_array_equal(ring, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("which", "columns"),
    [("none", 1), ("essential", 3), ("all", 6)],
)
def test_measurements_can_be_chosen(result, which, columns):
    names = ("Area µm^2", "Solidity", "Hematoxylin: Mean")
    described = [
        {"name": name, "unit": "", "formula": "f", "source": "s", "essential": k < 2}
        for k, name in enumerate(names)
    ]
    (result / "columns.json").write_text(json.dumps(described), "utf-8")
    path, _ = export_result(result, "dicom", measurements=which)
    (group, *_) = highdicom.ann.annread(path).AnnotationGroupSequence
    left_out = which == "all"
    assert len(group.MeasurementsSequence) == columns - left_out


def test_the_same_result_gives_the_same_bytes_over_an_earlier_export(result):
    files = export_result(result, "dicom")
    first = [path.read_bytes() for path in files]
    export_result(result, "dicom")
    assert [path.read_bytes() for path in files] == first
    export_result(result, "dicom", measurements="none")
    assert dcmread(files[0]).SOPInstanceUID not in first[0].decode("latin1")


def test_strange_names_of_classes_and_columns(whole_slide, tmp_path):
    long = "a very long name of a class " * 4
    classes = (*STRANGE, long, "back\\slash", "中性粒细胞")
    folder = result_of(
        whole_slide,
        tmp_path / "out",
        classes=classes,
        labels=np.arange(40) % len(classes),
        measurements={"=a, \"b\"": np.arange(40.0), "Überlänge " * 9: np.arange(40.0)},
    )  # fmt: skip
    path, _ = export_result(folder, "dicom")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups = highdicom.ann.annread(path).AnnotationGroupSequence
    assert [group.label for group in groups[:4]] == [name.strip() for name in STRANGE]
    assert groups[4].label == long[:64].strip()
    assert groups[4].AnnotationGroupDescription.strip() == long.strip()
    assert [group.label for group in groups[5:]] == ["back/slash", "中性粒细胞"]
    assert groups[4].annotated_property_type.meaning == long[:64].strip()
    assert len({group.annotated_property_type.value for group in groups}) == len(classes)


# --- codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scheme", "value"),
    [
        (None, "SCT", "84640000"),
        ("Tumor", "SCT", "252987004"),
        ("tumour cells", "SCT", "252987004"),
        ("Neoplastic", "SCT", "252987004"),
        ("Lymphocytes", "SCT", "56972008"),
        ("Plasma cell", "SCT", "113335003"),
        ("Non-Neoplastic Epithelial", "SCT", "4212006"),
        ("Mitosis", "SCT", "75167008"),
        ("Immune cells", SCHEME, "Immune cells"),
        ("Tumor: Positive", SCHEME, "Tumor: Positive"),
        ("A class with a long name", SCHEME, "76fe2fb7759100b9"),
        ("cells", SCHEME, "cells"),
    ],
)
def test_classes_have_codes_of_snomed_or_their_name(name, scheme, value):
    _, kind = nucleus_code(name)
    assert (kind.scheme, kind.value) == (scheme, value)


@pytest.mark.parametrize(
    ("name", "unit", "code"),
    [
        ("a", "µm", "um"),
        ("a", "1/mm^2", "/mm2"),
        ("a", "OD", "{OD}"),
        ("a", "furlong", "{furlong}"),
        ("a", "Å{", "{unit}"),
        ("Nucleus: Area µm^2", "", "um2"),
        ("a", "", "1"),
    ],
)
def test_units_are_ucums(name, unit, code):
    assert unit_code(Column(name, unit, "", "")).value == code


def test_texts_are_short_and_on_one_line():
    assert text("a\nb\\c") == "a/b/c"
    assert text("x" * 99) == "x" * 64
    assert text(" ") == "-"


# --- regions ---------------------------------------------------------------------------------


def test_regions_are_a_label_map_in_which_annotations_lie_on_tissue(whole_slide, tmp_path):
    drawn = shapely.box(100, 100, 200, 180) - shapely.box(120, 120, 140, 140)
    folder = result_of(whole_slide, tmp_path / "out", roi=shapely.box(0, 0, WIDTH, HEIGHT))
    write_annotations_by_hand(folder / "roi.geojson", drawn, names=["A 1"], classes=["Tumor"])
    _, path = export_result(folder, "dicom")
    found, image = highdicom.seg.segread(path), dcmread(whole_slide)
    assert path.name == "level0_nuclei_regions.dcm"
    labels = found.get_total_pixel_matrix(combine_segments=True)
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[20:220, 50:350] = 1
    expected[100:180, 100:200] = 2
    expected[120:140, 120:140] = 1
    np.testing.assert_array_equal(labels, expected)
    tissue, tumour = (found.get_segment_description(k) for k in (1, 2))
    assert (tissue.segment_label, tissue.segmented_property_type.meaning) == ("Tissue 1", "Tissue")
    assert (tumour.segment_label, tumour.segmented_property_type.meaning) == ("A 1", "Neoplasm")
    assert (tissue.algorithm_type.value, tumour.algorithm_type.value) == ("AUTOMATIC", "MANUAL")
    assert found.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert found.StudyInstanceUID == image.StudyInstanceUID


@pytest.mark.parametrize("turned", [DOWN_AND_LEFT, [1, 0, 0, 0, 1, 0]])
def test_coarser_pixels_lie_on_the_same_glass(tmp_path, monkeypatch, turned):
    monkeypatch.setattr("wsi_engine.export.dicom.regions.MOST_PIXELS", 100 * 150)
    file = write_whole_slide(tmp_path / "slide", noise(HEIGHT, WIDTH), orientation=turned)
    _, path = export_result(result_of(file, tmp_path / "out"), "dicom")
    found, image = highdicom.seg.segread(path), dcmread(file)
    labels = found.get_total_pixel_matrix(combine_segments=True)
    assert labels.shape == (100, 150)
    assert labels.sum() == 300 * 200 / 16
    # The corner of a pixel that is four times as large is that of a pixel of the slide.
    corner = highdicom.spatial.ImageToReferenceTransformer
    of_labels = corner.for_image(found, for_total_pixel_matrix=True)(np.array([[50.0, 25.0]]))
    of_image = corner.for_image(image, for_total_pixel_matrix=True)(np.array([[200.0, 100.0]]))
    np.testing.assert_allclose(of_labels, of_image, atol=1e-9)


def test_a_label_map_is_as_fine_as_it_may_be():
    assert step_of((4096, 4096)) == 1
    assert step_of((4096, 4097)) == 2
    rows, columns = (-(-side // step_of((90_000, 130_001))) for side in (90_000, 130_001))
    assert MOST_PIXELS / 4 < rows * columns <= MOST_PIXELS


def test_regions_that_a_model_found_are_its_own(whole_slide, tmp_path):
    folder = result_of(whole_slide, tmp_path / "out", roi=shapely.box(9, 9, 99, 99))
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["settings"]["regions_model"] = "somewhere/glands.safetensors"
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    _, path = export_result(folder, "dicom")
    found = highdicom.seg.segread(path)
    names = [found.get_segment_description(k).algorithm_identification.name for k in (1, 2)]
    assert names == ["tissue", "glands.safetensors"]


def test_cores_that_are_missing_are_no_segments(whole_slide, tmp_path):
    folder = result_of(whole_slide, tmp_path / "out", tissue=None)
    cores = [
        replace(
            item(shapely.Point(x, 100).buffer(40), k, object_type="tmaCore"),
            name=f"A-{k}",
            is_missing=k == 1,
        )
        for k, x in enumerate((100, 200, 300), start=1)
    ]
    write_objects(tmp_path / "cores.geojson", cores)
    measure_regions(folder, tmp_path / "cores.geojson")
    _, path = export_result(folder, "dicom")
    found = highdicom.seg.segread(path)
    labels = [segment.SegmentLabel for segment in found.SegmentSequence]
    assert labels == ["Background", "A-2", "A-3"]


def test_regions_of_an_earlier_export_do_not_stay(whole_slide, tmp_path):
    folder = result_of(whole_slide, tmp_path / "out")
    _, regions = export_result(folder, "dicom")
    (folder / "tissue.geojson").unlink()
    assert len(export_result(folder, "dicom")) == 1
    assert not regions.exists()


def test_slides_of_scattered_tiles(tmp_path):
    """Positions of their frames, which are not read, are those of frames, not of the matrix."""
    sparse = {"DimensionOrganizationType": "TILED_SPARSE"}
    file = write_whole_slide(tmp_path / "slide", noise(HEIGHT, WIDTH), **sparse)
    _, path = export_result(result_of(file, tmp_path / "out"), "dicom")
    labels = highdicom.seg.segread(path).get_total_pixel_matrix(combine_segments=True)
    assert labels.sum() == 300 * 200


def test_without_regions_or_a_place_on_the_glass_there_is_no_segmentation(tmp_path, caplog):
    file = write_whole_slide(tmp_path / "slide", noise(HEIGHT, WIDTH))
    assert len(export_result(result_of(file, tmp_path / "a", tissue=None), "dicom")) == 1
    file = write_whole_slide(
        tmp_path / "other", noise(HEIGHT, WIDTH), TotalPixelMatrixOriginSequence=None
    )
    folder = result_of(file, tmp_path / "b")
    assert len(export_result(folder, "dicom")) == 1
    assert "level0.dcm does not say where its pixels lie on the slide" in caplog.text
    with pytest.raises(ExportError, match="leave --mm out"):
        export_result(folder, "dicom", mm=True)


# --- what is refused -------------------------------------------------------------------------


def test_a_slide_in_another_format_needs_the_series_made_of_it(whole_slide, tmp_path, capsys):
    folder = write_result(tmp_path / "CMU-1", [(100, 120)])
    size = {"width": WIDTH, "height": HEIGHT}
    with_slide(folder, **size, bounds={"x": 0, "y": 0, **size})
    svs = tmp_path / "CMU-1.svs"
    svs.write_bytes(b"II*\0")
    with pytest.raises(SystemExit):
        main(["export", str(folder), "--to", "dicom", "--slide", str(svs)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: CMU-1.svs is no DICOM slide, which DICOM objects have to refer to: convert it (as "
        "wsidicomizer does), and give --slide with a file of that series"
    )
    other = whole_slide.with_name("level1.dcm")
    with pytest.raises(SystemExit) as end:
        main(["export", str(folder), "--to", "dicom", "--slide", str(other)])
    assert not end.value.code
    assert (folder / "exports" / "CMU-1_nuclei.dcm").exists()


def test_a_slide_that_is_gone_or_another_one_is_refused(result, whole_slide, tmp_path):
    others = {
        "size": {"pixels": noise(HEIGHT, WIDTH + 1)},
        "pixels": {"pixels": noise(HEIGHT, WIDTH), "mpp": 0.5},
        "patient": {"pixels": noise(HEIGHT, WIDTH), "PatientID": "P-18"},
    }
    for name, changes in others.items():
        file = write_whole_slide(tmp_path / name, **changes)
        with pytest.raises(ExportError, match="is not the slide of"):
            export_result(result, "dicom", slide=file)
    with_slide(result, vendor="aperio")
    for name, words in (("size", "601 x 400 pixels"), ("pixels", "0.5 x 0.5 µm")):
        with pytest.raises(ExportError, match=f"level0.dcm has .*{words}.*: give --slide"):
            export_result(result, "dicom", slide=tmp_path / name / "level0.dcm")
    whole_slide.unlink()
    with pytest.raises(ExportError, match="there is no such slide to refer to: give --slide"):
        export_result(result, "dicom")
    assert not list((result / "exports").iterdir())


def test_a_record_without_its_time_is_refused(result):
    record = json.loads((result / "run.json").read_text("utf-8")) | {"finished": "yesterday"}
    (result / "run.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(ResultError, match="does not say when the result was finished"):
        export_result(result, "dicom")


def test_no_nuclei_are_refused(whole_slide, tmp_path):
    folder = result_of(whole_slide, tmp_path, anchors=[], labels=[], measurements={}, classes=())
    with pytest.raises(ExportError, match="holds no nuclei, and DICOM no annotations without one"):
        export_result(folder, "dicom")


def test_more_than_an_element_holds_is_refused_before_anything_is_written(result, monkeypatch):
    monkeypatch.setattr(streaming, "LONGEST_VALUE", 1000)
    with pytest.raises(ExportError, match=r"outlines of the class 'Tumor' take [\d,]+ bytes"):
        export_result(result, "dicom")
    assert not list((result / "exports").iterdir())


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"FrameOfReferenceUID": None}, "lacks what DICOM objects take over"),
        ({"PatientSex": "female"}, "lacks what DICOM objects take over"),
    ],
)
def test_a_header_against_the_standard_is_one_sentence(tmp_path, attributes, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = write_whole_slide(tmp_path / "slide", noise(HEIGHT, WIDTH), **attributes)
    with pytest.raises(ExportError, match=words) as error:
        export_result(result_of(file, tmp_path / "out"), "dicom")
    assert "\n" not in str(error.value)


def test_missing_facts_of_the_patient_are_empty(tmp_path):
    absent = {"PatientName": None, "PatientSex": None, "StudyDate": None, "AccessionNumber": None}
    file = write_whole_slide(tmp_path / "slide", noise(HEIGHT, WIDTH), **absent)
    path, _ = export_result(result_of(file, tmp_path / "out"), "dicom")
    found = dcmread(path)
    assert not found.PatientName
    assert not found.StudyDate


def test_an_endless_or_damaged_header_is_refused(result, whole_slide, monkeypatch):
    monkeypatch.setattr(slide, "MOST_HEADER_BYTES", 1 << 10)
    with pytest.raises(ExportError, match="cannot be read as DICOM: its header is larger than"):
        export_result(result, "dicom")
    monkeypatch.undo()
    content = whole_slide.read_bytes()
    header = content.index(b"\xe0\x7f\x10\0OB")
    with_slide(result, vendor="cut")
    for cut in (200, header // 2, header - 100, header - 1, header):
        whole_slide.write_bytes(content[:cut])
        with pytest.raises(ExportError) as error:
            export_result(result, "dicom")
        assert "\n" not in str(error.value)


def test_without_highdicom_its_extra_is_named(result, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    monkeypatch.setitem(__import__("sys").modules, "pydicom.filereader", None)
    with pytest.raises(ExportError, match=r"\[dicom\]"):
        export_result(result, "dicom")
