"""Fields that were annotated on slides: what is a field, what a nucleus, where its pixels lie."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from tests.support.drawn import Feature, disc, export, feature, points, polygon, rectangle
from tests.support.exports import shared_export
from tests.support.slides import overwrite_tile, write_leica
from wsi_engine.errors import DatasetError, EngineError
from wsi_engine.evaluation.drawings import read_drawing
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.training.config import SlideDataConfig
from wsi_engine.training.datasets import DataSet, load_dataset

PINK, VIOLET = (225, 170, 205), (90, 60, 140)
HEXAGON = [(200, 60), (280, 100), (280, 200), (200, 250), (120, 200), (120, 100)]


class TestDrawing:
    def bounds(self, tmp_path: Path, *features: Feature) -> tuple[list[tuple[float, ...]], int]:
        drawing = read_drawing(export(tmp_path / "a.geojson", *features))
        return [shape.bounds for shape in drawing.fields()], len(drawing.nuclei())

    def test_rectangles_are_fields_even_empty_ones(self, tmp_path: Path) -> None:
        fields, nuclei = self.bounds(
            tmp_path, rectangle(0, 90, 50, 120), rectangle(0, 0, 50, 60), disc(20, 20, 5)
        )
        assert fields == [(0, 0, 50, 60), (0, 90, 50, 120)]
        assert nuclei == 1

    def test_nuclei_may_be_drawn_by_hand(self, tmp_path: Path) -> None:
        by_hand = disc(20, 20, 5, kind="annotation")
        fields, nuclei = self.bounds(tmp_path, rectangle(0, 0, 50, 60), by_hand, disc(30, 40, 5))
        assert (len(fields), nuclei) == (1, 2)

    def test_another_shape_is_a_field_where_it_holds_several_objects(self, tmp_path: Path) -> None:
        hexagon = feature(polygon(HEXAGON), "annotation")
        inside = disc(200, 150, 8), points((180, 200))
        assert self.bounds(tmp_path, hexagon, *inside) == ([(120, 60, 280, 250)], 1)

    def test_a_nucleus_upon_another_is_no_field(self, tmp_path: Path) -> None:
        large, small = disc(20, 20, 9, kind="annotation"), disc(22, 20, 3, kind="annotation")
        assert self.bounds(tmp_path, rectangle(0, 0, 50, 50), large, small)[1] == 2

    def test_what_lies_around_a_rectangle_is_a_region(self, tmp_path: Path) -> None:
        tumour = disc(100, 100, 90, "Tumor", kind="annotation")
        fields, nuclei = self.bounds(
            tmp_path, tumour, rectangle(80, 80, 120, 120), disc(100, 100, 5), disc(140, 100, 5)
        )
        assert (fields, nuclei) == ([(80, 80, 120, 120)], 2)

    def test_tissue_outlined_around_everything_is_no_nucleus(self, tmp_path: Path) -> None:
        outline = disc(100, 100, 90, kind="annotation")
        fields, nuclei = self.bounds(tmp_path, outline, disc(90, 90, 5), disc(120, 100, 5))
        assert (len(fields), nuclei) == (1, 2)

    def test_what_qupath_wrote(self) -> None:
        drawing = read_drawing(shared_export("01_annotations_all_shapes.geojson"))
        assert [shape.bounds for shape in drawing.fields()] == [(100, 100, 300, 250)]
        assert len(drawing.points) == 4
        assert len(drawing.nuclei()) == 4  # ellipse, polygons, two parts: as drawn


class TestImages:
    """Images of their own are fields themselves, unless fields are drawn on them."""

    def nuclei(self, tmp_path: Path, *features: Feature, points: bool = False):
        drawing = read_drawing(export(tmp_path / "a.geojson", *features))
        return drawing.nuclei_of_image(points=points)

    def test_boxes_alone_are_nuclei(self, tmp_path: Path) -> None:
        boxes = self.nuclei(tmp_path, rectangle(0, 0, 9, 9), rectangle(20, 0, 29, 9))
        assert (len(boxes), boxes.field) == (2, None)

    def test_a_rectangle_around_nuclei_drawn_by_hand_is_a_field(self, tmp_path: Path) -> None:
        by_hand = disc(20, 20, 5, kind="annotation")
        nuclei = self.nuclei(tmp_path, rectangle(0, 0, 50, 50), by_hand)
        assert len(nuclei) == 1
        assert nuclei.field is not None
        assert nuclei.field.bounds == (0, 0, 50, 50)

    def test_a_nucleus_may_be_added_by_hand(self, tmp_path: Path) -> None:
        nuclei = self.nuclei(tmp_path, disc(20, 20, 5), disc(40, 20, 5, kind="annotation"))
        assert (len(nuclei), nuclei.field) == (2, None)

    @pytest.mark.parametrize("kind", ["annotation", "detection"])
    def test_what_lies_around_a_rectangle_is_a_region(self, tmp_path: Path, kind: str) -> None:
        region = disc(100, 100, 90, "Tumor", kind="annotation")
        nucleus = disc(100, 100, 5, kind=kind)
        nuclei = self.nuclei(tmp_path, region, rectangle(80, 80, 120, 120), nucleus)
        assert len(nuclei) == 1
        assert nuclei.field is not None
        assert nuclei.field.bounds == (80, 80, 120, 120)

    def test_points_count_where_they_are_asked_for(self, tmp_path: Path) -> None:
        drawn = points((3, 4), (9, 9), name="Tumor"), rectangle(0, 0, 20, 20)
        assert len(self.nuclei(tmp_path, *drawn)) == 0
        pointed = self.nuclei(tmp_path, *drawn, points=True)
        assert pointed.classes.tolist() == ["Tumor", "Tumor"]
        labels = pointed.draw((20, 20))
        assert {(4, 3): labels[4, 3], (9, 9): labels[9, 9]} == {(4, 3): 1, (9, 9): 2}
        assert (labels > 0).sum() == 2


def paint(side: int, nuclei: list[tuple[float, float, float]]) -> np.ndarray:
    """Violet discs (x, y, radius) on pink."""
    image = np.full((side, side, 3), PINK, np.uint8)
    rows, columns = np.mgrid[:side, :side] + 0.5
    for x, y, radius in nuclei:
        image[np.hypot(columns - x, rows - y) < radius] = VIOLET
    return image


NUCLEI = [(150.0, 130.0, 14.0), (230.0, 180.0, 12.0), (400.0, 90.0, 13.0), (420.0, 380.0, 15.0)]
DISCS = [
    disc(x, y, radius, name)
    for (x, y, radius), name in zip(NUCLEI, ("Tumor", "Stroma", "Tumor", "Stroma"), strict=True)
]
FIELDS = rectangle(100, 80, 300, 240), rectangle(340, 40, 460, 140)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slides").mkdir()
    write_pyramid(tmp_path / "slides/p1_a.tif", paint(512, NUCLEI), 0.25)
    export(tmp_path / "annotations/p1_a.geojson", *FIELDS, *DISCS)
    return tmp_path


def load(folder: Path, classes: tuple[str, ...] = ("Tumor", "Stroma"), **changes: object):
    document = {"name": "own", "slides": folder / "slides", "annotations": folder / "annotations"}
    return load_dataset(SlideDataConfig.model_validate({**document, **changes}), classes)


def nuclei_agree(data: DataSet) -> None:
    """Every labelled pixel is violet, every other known one pink, but for the very border."""
    for field in data.fields:
        violet = np.abs(field.image.astype(int) - VIOLET).sum(axis=2) < 100
        known = field.labels != UNKNOWN
        wrong = ((field.labels > 0) != violet) & known
        assert wrong.mean() < 0.01
        assert violet.sum() * field.mpp**2 > 7


class TestFields:
    def test_pixels_and_nuclei_of_each_rectangle(self, folder: Path) -> None:
        data = load(folder)
        assert [field.image.shape for field in data.fields] == [(100, 120, 3), (160, 200, 3)]
        assert [field.name for field in data.fields] == [
            "p1_a.geojson (340, 40)", "p1_a.geojson (100, 80)",
        ]  # fmt: skip
        nuclei_agree(data)

    def test_classes_are_those_of_the_objects(self, folder: Path) -> None:
        single, pair = load(folder).fields
        assert single.classes.tolist() == [-1, 0]
        assert pair.classes[[pair.labels[50, 50], pair.labels[100, 130]]].tolist() == [0, 1]

    def test_without_classes_to_learn_they_are_not_looked_at(self, folder: Path) -> None:
        assert all((field.classes == -1).all() for field in load(folder, classes=()).fields)

    @pytest.mark.parametrize(("mpp", "read"), [(0.25, 0.25), (0.125, 0.25), (0.31, 0.31)])
    def test_pixels_are_those_of_the_slide_but_not_finer_than_needed(
        self, folder: Path, mpp: float, read: float
    ) -> None:
        write_pyramid(folder / "slides/p1_a.tif", paint(512, NUCLEI), mpp)
        data = load(folder)
        assert [field.mpp for field in data.fields] == pytest.approx([read] * 2)
        assert data.fields[1].image.shape == (160 * mpp / read, 200 * mpp / read, 3)
        nuclei_agree(data)

    def test_slides_that_qupath_crops(self, folder: Path) -> None:
        """The annotations count from the scanned area, the file from the corner of the slide."""
        (folder / "slides/p1_a.tif").unlink()
        write_leica(folder / "slides/p1_a.scn", paint(512, NUCLEI), (192, 320))
        nuclei_agree(load(folder))

    def test_a_plain_image_is_a_slide_of_stated_pixel_size(self, folder: Path) -> None:
        (folder / "slides/p1_a.tif").unlink()
        Image.fromarray(paint(512, NUCLEI)).save(folder / "slides/p1_a.png")
        nuclei_agree(load(folder, mpp=0.3))

    def test_a_rectangle_without_nuclei_is_background(self, folder: Path) -> None:
        empty = rectangle(20, 300, 120, 400)
        export(folder / "annotations/p1_a.geojson", *FIELDS, empty, *DISCS)
        assert not load(folder).fields[2].labels.any()

    def test_outside_of_a_field_of_another_shape_nothing_is_known(self, folder: Path) -> None:
        hexagon = feature(polygon(HEXAGON), "annotation")
        export(folder / "annotations/p1_a.geojson", hexagon, *DISCS)
        (field,) = load(folder).fields
        assert field.labels[2, 2] == UNKNOWN
        assert field.labels[100, 80] == 0
        nuclei_agree(load(folder))

    def test_nuclei_outside_of_all_fields_are_passed_over_with_a_warning(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            data = load(folder)
        assert sum(len(field.peaks) - 1 for field in data.fields) == 3
        assert "1 of 4 nuclei lie outside of its 2 fields" in caplog.text

    def test_compressed_annotations(self, folder: Path) -> None:
        (folder / "annotations/p1_a.geojson").unlink()
        export(folder / "annotations/p1_a.geojson.gz", *FIELDS, *DISCS)
        assert len(load(folder).fields) == 2

    def test_patients_are_named_by_the_slides(self, folder: Path) -> None:
        data = load(folder, split={"group": "^([^_]+)"})
        assert {field.group for field in data.fields} == {"p1"}

    def test_slides_may_be_listed(self, folder: Path) -> None:
        (folder / "slides/not this one.tif").write_bytes(b"")
        assert len(load(folder, slides=[folder / "slides/p1_a.tif"]).fields) == 2


class TestPoints:
    def test_shapes_are_estimated_and_classes_kept(self, folder: Path) -> None:
        noise = np.random.default_rng(0).normal(0, 8, (512, 512, 3))
        image = np.clip(paint(512, NUCLEI) + noise, 0, 255).astype(np.uint8)
        write_pyramid(folder / "slides/p1_a.tif", image, 0.25)
        around, tumour = rectangle(130, 110, 250, 200), points((150, 130), (400, 90), name="Tumor")
        export(folder / "annotations/p1_a.geojson", around, tumour, points((230, 180)))
        (field,) = load(folder, classes=("Tumor",), annotation="points").fields
        labels = field.labels[20, 20], field.labels[70, 100]
        assert field.classes[list(labels)].tolist() == [0, -1]
        areas = [(field.labels == label).sum() for label in labels]
        assert areas == pytest.approx([np.pi * 14**2, np.pi * 12**2], rel=0.25)

    def test_a_field_without_points_is_background(self, folder: Path) -> None:
        export(folder / "annotations/p1_a.geojson", *FIELDS, points((150, 130)))
        assert not load(folder, annotation="points").fields[0].labels.any()


class TestBadInput:
    def refused(self, folder: Path, match: str, *features: Feature, **changes: object) -> None:
        if features:
            export(folder / "annotations/p1_a.geojson", *features)
        with pytest.raises(DatasetError, match=match):
            load(folder, **changes)

    def test_a_slide_without_annotations(self, folder: Path) -> None:
        write_pyramid(folder / "slides/p2.tif", paint(64, []), 0.25)
        self.refused(folder, r"1 of 2 files have no annotations of the same name.*'p2'")

    def test_no_rectangle(self, folder: Path) -> None:
        self.refused(folder, r"p1_a\.geojson holds no field: draw a rectangle", DISCS[0])

    def test_a_rectangle_outside_of_the_slide(self, folder: Path) -> None:
        far = rectangle(500, 400, 700, 600)
        message = r"p1_a\.geojson: the field at \(500, 400\) reaches to \(700, 600\), outside of "
        self.refused(folder, message + r"p1_a\.tif with its 512 x 512 px", *FIELDS, far, *DISCS)

    def test_a_field_that_memory_should_not_hold(self, folder: Path) -> None:
        write_pyramid(folder / "slides/p1_a.tif", np.full((4200, 4200, 3), 255, np.uint8), 0.25)
        whole = rectangle(0, 0, 4200, 4200)
        self.refused(folder, r"is 4200 x 4200 px, more than is held.*draw smaller", whole, *DISCS)

    def test_an_unknown_pixel_size(self, folder: Path) -> None:
        (folder / "slides/p1_a.tif").unlink()
        Image.fromarray(paint(512, NUCLEI)).save(folder / "slides/p1_a.png")
        self.refused(folder, r"p1_a\.png: the pixel size is unknown.*mpp in the set 'own'")

    def test_points_in_a_set_of_outlines(self, folder: Path) -> None:
        message = r"holds points, but the set 'own' is annotated as dense: state annotation: points"
        self.refused(folder, message, *FIELDS, *DISCS, points((150, 130)))

    def test_an_outline_too_large_for_a_nucleus(self, folder: Path) -> None:
        large = disc(250, 200, 220, kind="annotation")
        self.refused(
            folder, r"the object at \(30, -20\) is 110 x 110 µm, too large for a nucleus",
            FIELDS[1], large,
        )  # fmt: skip

    def test_rectangles_without_any_nucleus(self, folder: Path) -> None:
        self.refused(folder, r"no field of the set 'own' .* holds a nucleus", *FIELDS)

    def test_nothing_drawn_where_only_some_nuclei_are(self, folder: Path) -> None:
        message = r"p1_a\.geojson: in the field at \(340, 40\) nothing is drawn"
        self.refused(folder, message, *FIELDS, *DISCS[:2], annotation="partial")

    def test_a_class_that_the_run_does_not_know(self, folder: Path) -> None:
        message = (
            r"p1_a\.geojson: the class 'Stroma' .* Tumor, Stromal \(did you mean 'Stromal'\?\)"
        )
        self.refused(folder, message, classes=("Tumor", "Stromal"))

    def test_damage_in_a_field(self, folder: Path) -> None:
        overwrite_tile(folder / "slides/p1_a.tif", 0, 0, 0)
        self.refused(folder, r"p1_a\.tif is damaged in an annotated field")

    def test_a_slide_that_is_none(self, folder: Path) -> None:
        (folder / "slides/p1_a.tif").write_bytes(b"nonsense")
        with pytest.raises(EngineError, match=r"p1_a\.tif"):
            load(folder)

    def test_two_slides_of_one_name(self, folder: Path) -> None:
        Image.new("RGB", (9, 9)).save(folder / "slides/p1_a.png")
        self.refused(folder, r"p1_a\.png and .*p1_a\.tif have the same name")

    def test_annotations_that_are_no_geojson(self, folder: Path) -> None:
        (folder / "annotations/p1_a.geojson").write_text("<xml/>")
        with pytest.raises(EngineError, match=r"p1_a\.geojson is not GeoJSON"):
            load(folder)

    def test_annotations_that_were_cut_off(self, folder: Path) -> None:
        (folder / "annotations/p1_a.geojson").write_text("{")
        with pytest.raises(EngineError, match=r"p1_a\.geojson ends within .* export it again"):
            load(folder)


def test_shapes_of_several_parts_keep_their_class(folder: Path) -> None:
    parts = shapely.geometry.mapping(
        shapely.MultiPolygon([shapely.box(350, 50, 360, 60), shapely.box(370, 50, 380, 60)])
    )
    export(folder / "annotations/p1_a.geojson", FIELDS[1], feature(parts, "detection", "Stroma"))
    (field,) = load(folder, classes=("Tumor", "Stroma")).fields
    assert field.classes.tolist() == [-1, 1, 1]
    assert (field.labels > 0).sum() == 200
