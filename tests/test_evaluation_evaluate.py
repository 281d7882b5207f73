"""Evaluation of files: label images, GeoJSON, and folders of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def test_predictions_outside_of_the_annotated_field_are_not_judged(tmp_path: Path) -> None:
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
