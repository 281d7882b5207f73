"""Evaluation of files: label images, GeoJSON, and folders of them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsi_engine.cli import main
from wsi_engine.errors import DatasetError, GeoJSONError
from wsi_engine.evaluation.evaluate import evaluate
from wsi_engine.evaluation.overlays import FOUND, INVENTED, MISSED, draw_overlay, write_worst_page
from wsi_engine.nuclei.raster import rasterise

# Boxes (x, y, width, height, class); the second prediction is a third too wide.
TRUTH = [(0, 0, 10, 10, "Tumor"), (20, 0, 9, 10, "Tumor"), (0, 20, 10, 10, "Immune")]
PREDICTION = [(0, 0, 10, 10, "Tumor"), (20, 0, 12, 10, "Immune")]


def labels_of(boxes: list[tuple[int, int, int, int, str]]) -> np.ndarray:
    labels = np.zeros((40, 50), np.uint16)
    for k, (x, y, width, height, _) in enumerate(boxes, start=1):
        labels[y : y + height, x : x + width] = k
    return labels


def geojson_of(boxes: list[tuple[int, int, int, int, str]], kind: str = "detection") -> bytes:
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]],
            },
            "properties": {"objectType": kind, "classification": {"name": name}},
        }
        for x, y, w, h, name in boxes
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def write(path: Path, boxes: list[tuple[int, int, int, int, str]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.name.endswith(".png"):
        Image.fromarray(labels_of(boxes)).save(path)
    elif path.name.endswith(".npy"):
        np.save(path, labels_of(boxes))
    else:
        content = geojson_of(boxes)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("predicted", ["png", "npy", "geojson", "geojson.gz"])
@pytest.mark.parametrize("true", ["png", "geojson"])
def test_all_kinds_of_files_give_the_same_figures(
    tmp_path: Path, predicted: str, true: str
) -> None:
    report = evaluate(
        write(tmp_path / f"p.{predicted}", PREDICTION), write(tmp_path / f"t.{true}", TRUTH), mpp=1
    )
    figures = report.overall.pooled()
    assert figures["f1"] == pytest.approx(2 * 2 / (2 + 3))
    assert figures["sq"] == pytest.approx((1 + 90 / 120) / 2)
    assert figures["aji"] == pytest.approx((100 + 90) / (100 + 120 + 100))
    assert figures["dice"] == pytest.approx(2 * 190 / (290 + 220))
    assert figures["detection_f1"] == pytest.approx(2 * 2 / (2 + 3))


def test_classes_are_measured_one_by_one(tmp_path: Path) -> None:
    report = evaluate(
        write(tmp_path / "p.geojson", PREDICTION), write(tmp_path / "t.geojson", TRUTH), mpp=1
    )
    assert report.by_class["Tumor"].pooled()["recall"] == pytest.approx(1 / 2)
    assert report.by_class["Immune"].pooled()["f1"] == 0


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    write(tmp_path / "p/a.png", PREDICTION), write(tmp_path / "t/a.geojson", TRUTH)
    write(tmp_path / "p/b.geojson.gz", TRUTH), write(tmp_path / "t/b.npy", TRUTH)
    report = evaluate(tmp_path / "p", tmp_path / "t", mpp=1)
    assert [(image.name, image.f1) for image in report.overall.images] == [("a", 0.8), ("b", 1)]


def test_annotations_are_nuclei_where_there_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "t.geojson").write_bytes(geojson_of(TRUTH, kind="annotation"))
    prediction = write(tmp_path / "p.geojson", TRUTH)
    report = evaluate(prediction, tmp_path / "t.geojson", mpp=1)
    assert report.overall.pooled()["f1"] == 1


def test_predictions_outside_of_the_annotated_field_are_not_judged(tmp_path: Path, capsys) -> None:
    truth = json.loads(geojson_of(TRUTH))
    field = {"type": "Polygon", "coordinates": [[[0, 0], [99, 0], [99, 99], [0, 99], [0, 0]]]}
    area = {"objectType": "annotation"}
    truth["features"].append({"type": "Feature", "geometry": field, "properties": area})
    (tmp_path / "t.geojson").write_text(json.dumps(truth))
    prediction = json.loads(geojson_of(TRUTH))
    far = [[[x + 500, y + 500] for x, y in field["coordinates"][0]]]
    prediction["features"].append(
        prediction["features"][0] | {"geometry": {"type": "Polygon", "coordinates": far}}
    )
    (tmp_path / "p.geojson").write_text(json.dumps(prediction))
    report = evaluate(tmp_path / "p.geojson", tmp_path / "t.geojson", mpp=1)
    assert report.overall.pooled()["precision"] == 1
    assert report.figures()["images"][0]["left_out"] == 1
    with pytest.raises(SystemExit):
        main(["evaluate", str(tmp_path / "p.geojson"), str(tmp_path / "t.geojson")])
    said = re.sub(" +", " ", capsys.readouterr().out)
    assert "nuclei 3 true, 3 found" in said
    assert "not judged 1 found where not all nuclei are known" in said


def test_nothing_counts_in_areas_that_are_to_be_ignored(tmp_path: Path) -> None:
    """The second nucleus of the truth, which is missed, and a finding in vain lie there."""
    truth = json.loads(geojson_of(TRUTH))
    ignored = json.loads(geojson_of([(18, 0, 22, 40, "Ignore*")], kind="annotation"))
    (tmp_path / "all.geojson").write_text(json.dumps(truth))
    truth["features"] += ignored["features"]
    (tmp_path / "t.geojson").write_text(json.dumps(truth))
    found = [TRUTH[0], TRUTH[2], (25, 25, 8, 8, "Tumor")]
    (tmp_path / "p.geojson").write_bytes(geojson_of(found))
    everywhere = evaluate(tmp_path / "p.geojson", tmp_path / "all.geojson", mpp=1)
    assert everywhere.overall.pooled()["f1"] == pytest.approx(2 / 3)
    report = evaluate(tmp_path / "p.geojson", tmp_path / "t.geojson", mpp=1)
    assert report.overall.pooled()["f1"] == 1
    assert "Ignore*" not in report.by_class


class TestBadInput:
    def test_sizes_that_differ(self, tmp_path: Path) -> None:
        np.save(tmp_path / "p.npy", np.zeros((40, 40), np.uint16))
        with pytest.raises(DatasetError, match=r"p\.npy: the prediction has 40 x 40"):
            evaluate(tmp_path / "p.npy", write(tmp_path / "t.png", TRUTH), mpp=1)

    def test_a_prediction_is_missing(self, tmp_path: Path) -> None:
        write(tmp_path / "p/a.png", TRUTH), write(tmp_path / "t/a.png", TRUTH)
        write(tmp_path / "t/b.png", TRUTH)
        with pytest.raises(
            DatasetError, match=r"1 of 2 files have no prediction .* the first is 'b'"
        ):
            evaluate(tmp_path / "p", tmp_path / "t", mpp=1)

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]"])
    def test_no_geojson(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "p.geojson").write_bytes(content)
        with pytest.raises(GeoJSONError, match=r"p\.geojson"):
            evaluate(tmp_path / "p.geojson", write(tmp_path / "t.png", TRUTH), mpp=1)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="does not exist"):
            evaluate(tmp_path / "p", tmp_path / "t", mpp=1)


@pytest.mark.parametrize(
    ("ring", "expected"),
    [
        ([(1, 1), (3, 1), (3, 3), (1, 3)], 4),  # pixel corners: exactly four pixels
        ([(1.6, 1), (3, 1), (3, 3), (1.6, 3)], 2),  # the centres at 1.5 are outside
        ([(-5, -5), (2, -5), (2, 2), (-5, 2)], 4),  # cut at the border
        ([(9, 9), (12, 9), (12, 12)], 0),  # outside
    ],
)
def test_polygons_hold_the_pixels_whose_centres_they_hold(
    ring: list[tuple[float, float]], expected: int
) -> None:
    labels = rasterise(np.array(ring, float), np.array([0, len(ring)]), (6, 6))
    assert (labels > 0).sum() == expected


def test_the_page_shows_the_worst_images_first(tmp_path: Path) -> None:
    for name, boxes in {"good": TRUTH, "bad": PREDICTION[1:], "middling": PREDICTION}.items():
        write(tmp_path / f"p/{name}.png", boxes), write(tmp_path / f"t/{name}.png", TRUTH)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (50, 40), "white").save(tmp_path / f"images/{name}.png")
    report = evaluate(tmp_path / "p", tmp_path / "t", mpp=1)
    page = tmp_path / "worst.html"
    write_worst_page(page, report, tmp_path / "p", tmp_path / "t", tmp_path / "images", count=2)
    text = page.read_text()
    assert text.index("<h2>bad") < text.index("<h2>middling")
    assert "good" not in text
    assert "2 found, 0 invented, 1 missed" in text


def test_overlay_colours() -> None:
    image = np.full((40, 50, 3), 255, np.uint8)
    invented = [*PREDICTION, (30, 25, 10, 10, "")]
    overlay = draw_overlay(image, labels_of(invented), labels_of(TRUTH))
    assert tuple(overlay[0, 0]) == FOUND
    assert tuple(overlay[25, 30]) == INVENTED
    assert tuple(overlay[20, 0]) == MISSED
    assert tuple(overlay[15, 15]) == (255, 255, 255)


def test_dice_is_of_the_areas_that_nuclei_cover_together(tmp_path: Path):
    """Overlapping nuclei count once: a file against itself has 1, never more."""
    boxes = [(0, 0, 10, 10, "Tumor"), (5, 0, 10, 10, "Tumor"), (30, 20, 10, 10, "Tumor")]
    write(tmp_path / "a.geojson", boxes)
    write(tmp_path / "b.geojson", boxes[1:])
    itself = evaluate(tmp_path / "a.geojson", tmp_path / "a.geojson", mpp=0.25)
    assert itself.overall.images[0].dice == pytest.approx(1.0)
    other = evaluate(tmp_path / "b.geojson", tmp_path / "a.geojson", mpp=0.25)
    assert other.overall.images[0].dice == pytest.approx(2 * 200 / (250 + 200))


def test_figures_are_json(tmp_path: Path):
    write(tmp_path / "a.geojson", TRUTH)
    report = evaluate(tmp_path / "a.geojson", tmp_path / "a.geojson", mpp=0.25)
    figures = json.loads(json.dumps(report.figures()))
    assert figures["overall"]["dice"] == 1
    assert set(figures["by_class"]) == {"Tumor", "Immune"}
    assert [image["name"] for image in figures["images"]] == ["a"]


def scored(path: Path, boxes: list[tuple[int, int, int, int, str]], scores: list[float]) -> Path:
    """Write a prediction as the engine does, each nucleus with its score."""
    document = json.loads(geojson_of(boxes))
    for item, value in zip(document["features"], scores, strict=True):
        item["properties"]["measurements"] = {"Detection score": value}
    path.write_text(json.dumps(document))
    return path


class TestDetails:
    """Which nuclei are missed, how far a score can be trusted, how many findings are red."""

    def test_they_add_up_over_images(self, tmp_path: Path) -> None:
        """Also where only one of the images has scores; each image's own are left out."""
        for folder in ("p", "t"):
            (tmp_path / folder).mkdir()
        for name in "ab":
            write(tmp_path / f"t/{name}.geojson", TRUTH)
        scored(tmp_path / "p/a.geojson", TRUTH[:2], [0.95, 0.85])
        write(tmp_path / "p/b.geojson", TRUTH)
        figures = evaluate(tmp_path / "p", tmp_path / "t", mpp=0.25).figures()
        assert sum(row["nuclei"] for row in figures["recall_by_diameter"]) == 2 * len(TRUTH)
        assert sum(b["nuclei"] for b in figures["calibration"]["bins"]) == 2
        assert all("details" not in image for image in figures["images"])

    def test_recall_by_diameter(self, tmp_path: Path) -> None:
        # Squares of 4, 8 and 16 px at 0.5 µm are as large as discs of 2.3, 4.5 and 9.0 µm.
        truth = [(0, 0, 4, 4, ""), (10, 0, 4, 4, ""), (20, 0, 8, 8, ""), (0, 20, 16, 16, "")]
        files = write(tmp_path / "p.png", truth[1:3]), write(tmp_path / "t.geojson", truth)
        rows = evaluate(*files, mpp=0.5).figures()["recall_by_diameter"]
        assert [row["diameter_um"] for row in rows] == [
            "<3", "3-4", "4-5", "5-6", "6-8", "8-10", "10-12", ">12",
        ]  # fmt: skip
        assert [(row["nuclei"], row["recall"]) for row in rows] == [
            (2, 0.5), (0, None), (1, 1.0), (0, None), (0, None), (1, 0.0), (0, None), (0, None),
        ]  # fmt: skip

    @pytest.mark.parametrize("kind", ["geojson", "png"])
    def test_calibration_of_the_score(self, tmp_path: Path, kind: str) -> None:
        """Also where polygons are drawn onto the pixels of a label image."""
        truth = write(tmp_path / f"t.{kind}", TRUTH)
        boxes = [*TRUTH[:2], (30, 25, 5, 5, ""), (40, 25, 5, 5, "")]
        prediction = scored(tmp_path / "p.geojson", boxes, [1.0, 0.95, 0.93, 0.42])
        found = evaluate(prediction, truth, mpp=0.25).figures()["calibration"]
        bins = {b["from"]: b for b in found["bins"] if b["nuclei"]}
        assert bins[0.9]["nuclei"] == 3
        assert bins[0.9]["precision"] == pytest.approx(2 / 3)
        assert bins[0.9]["mean_score"] == pytest.approx(0.96)
        assert bins[0.4]["precision"] == 0
        # Three are off by 0.96 - 2/3, one by 0.42.
        assert found["expected_calibration_error"] == pytest.approx((3 * 0.96 - 2 + 0.42) / 4)
        assert found["mean_score"] == pytest.approx((3 * 0.96 + 0.42) / 4)
        assert found["precision"] == pytest.approx(0.5)

    def test_there_is_none_without_scores(self, tmp_path: Path) -> None:
        files = write(tmp_path / "p.png", TRUTH), write(tmp_path / "t.png", TRUTH)
        assert {"calibration", "red"}.isdisjoint(evaluate(*files, mpp=1).figures())

    @pytest.mark.parametrize(("predicted", "true"), [("geojson", "geojson"), ("png", "geojson")])
    def test_red_findings(self, tmp_path: Path, predicted: str, true: str) -> None:
        pixels = np.full((40, 50, 3), (230, 200, 215), np.uint8)
        pixels[0:10, 0:10] = (90, 60, 140)
        pixels[20:30, 0:10] = pixels[25:30, 30:35] = (190, 40, 40)
        Image.fromarray(pixels).save(tmp_path / "image.png")
        boxes = [TRUTH[0], TRUTH[2], (30, 25, 5, 5, "")]
        report = evaluate(
            write(tmp_path / f"p.{predicted}", boxes), write(tmp_path / f"t.{true}", TRUTH),
            mpp=0.25, images=tmp_path / "image.png",
        )  # fmt: skip
        found = report.figures()["red"]
        assert (found["found"], found["red"], found["red_false"]) == (3, 2, 1)
        assert found["share"] == pytest.approx(2 / 3)

    def test_an_image_of_another_size(self, tmp_path: Path) -> None:
        Image.new("RGB", (30, 20)).save(tmp_path / "image.png")
        files = write(tmp_path / "p.png", TRUTH), write(tmp_path / "t.png", TRUTH)
        with pytest.raises(DatasetError, match=r"image of t has 30 x 20 pixels, its labels \d+ x"):
            evaluate(*files, mpp=0.25, images=tmp_path / "image.png")
