"""From annotations in QuPath to classified nuclei in QuPath: annotate, train, run, compare."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import wsi_engine
from tests.support.drawn import export, feature, polygon, rectangle
from wsi_engine.evaluation.drawings import read_drawing
from wsi_engine.evaluation.evaluate import evaluate
from wsi_engine.evaluation.polygons import Polygons
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.nuclei.table import NucleusTable
from wsi_engine.phantom import Kind, lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.sample import SampleTruth
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.train import train

MPP, SIDE = 0.25, 768
# What the phantom's kinds are called in the sample's truth.
CLASSES = ("Epithelium", "Immune cells", "Stroma")
NAME_OF = dict(zip((Kind.EPITHELIAL, Kind.LYMPHOCYTE, Kind.SPINDLE), CLASSES, strict=True))
GENTLE = {
    "scale": [0.9, 1.1], "elastic_um": 0.2, "hematoxylin": [0.9, 1.1], "eosin": [0.9, 1.1],
    "stain_vector": 0.01, "white": [0, 0.1], "brightness": 0.01, "contrast": 0.02,
    "blur_px": 0.4, "noise": 0.01, "jpeg": 90,
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A small network trained on one slide, and the slide that it was measured on."""

    weights: Path
    slide: Path
    roi: Path
    truth: Polygons

    def run(self, output: Path | None = None, **settings: object) -> wsi_engine.Result:
        settings = {"weights": self.weights, "roi": self.roi, "tissue": False, **settings}
        return wsi_engine.run(self.slide, output, **settings)


@pytest.fixture(scope="module")
def trained(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("own")
    (folder / "slides").mkdir()
    annotate_phantom(folder, "one")
    # The sample is held out; its truth is one rectangle with all nuclei in it.
    shutil.copyfile(sample.slide_path, folder / "slides/two.tif")
    (folder / "annotations/two.geojson").write_bytes(sample.truth_path.read_bytes())
    config = TrainConfig.model_validate(
        {
            "output": folder / "run",
            "classes": CLASSES,
            "class_balance": 0.7,
            "data": [
                {
                    "name": "own",
                    "slides": folder / "slides",
                    "annotations": folder / "annotations",
                    "split": {"validation": ["two"]},
                }
            ],
            "network": {"channels": [8, 16, 32], "features": 16, "rays": 16},
            "augment": GENTLE,
            "steps": 160, "batch": 4, "crop_px": 96, "learning_rate": 4e-3, "warmup_steps": 20,
            "decay_steps": 60, "ema": 0.98, "precision": "fp32", "threads": 1,
            "validate_every": 160, "checkpoint_every": 160,
        }
    )  # fmt: skip
    result = train(config)
    box = sample.field
    roi = export(folder / "roi.geojson", rectangle(box.x_min, box.y_min, box.x_max, box.y_max))
    truth = read_drawing(sample.truth_path).nuclei()
    return Trained(result.weights, sample.slide_path, roi, truth)


def annotate_phantom(folder: Path, name: str) -> None:
    """Write a slide of phantom tissue, and what a pathologist would draw in two rectangles."""
    rng = np.random.default_rng(5)
    tissue = lay_out_tissue((SIDE, SIDE), MPP, rng)
    nuclei = scatter_nuclei(tissue, rng)
    image = render_tissue((SIDE, SIDE), nuclei, MPP, rng, tissue)
    write_pyramid(folder / f"slides/{name}.tif", image, MPP)
    objects = [
        feature(polygon(np.round(ring, 2)), "detection", NAME_OF[Kind(kind)])
        for ring, kind in zip(nuclei.outlines(), nuclei.kind.tolist(), strict=True)
    ]
    halves = rectangle(0, 0, SIDE, SIDE // 2), rectangle(0, SIDE // 2, SIDE, SIDE)
    export(folder / f"annotations/{name}.geojson.gz", *halves, *objects)


def classes_of(table: NucleusTable) -> np.ndarray:
    return np.array(table.arrow["class"].to_pylist())


def test_classes_come_out_far_better_than_by_chance(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    nuclei = trained.run().nuclei
    pairs = polygon_overlaps(trained.truth.shapes, nuclei.polygons)
    matched = pairs.iou > 0.5
    true = trained.truth.classes[pairs.true[matched]]
    found = classes_of(nuclei)[pairs.predicted[matched]]
    recall = {name: float((found[true == name] == name).mean()) for name in CLASSES}
    with capsys.disabled():
        counts = f"{matched.sum()} of {len(trained.truth)} nuclei, of {len(nuclei)} found"
        print(f"\nmatched {counts}; right class: {recall}")
    assert matched.sum() > 0.5 * len(trained.truth)
    assert (found == true).mean() > 0.85
    assert np.mean(list(recall.values())) > 0.7  # by chance 1/3


def test_qupath_and_the_table_get_them(trained: Trained, tmp_path: Path) -> None:
    result = trained.run(tmp_path)
    assert result.folder is not None
    table = result.nuclei.arrow
    probabilities = np.stack([table[f"probability: {name}"] for name in CLASSES], axis=1)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(table)), abs=1e-5)
    names = np.array(CLASSES)[probabilities.argmax(axis=1)]
    assert classes_of(result.nuclei).tolist() == names.tolist()
    assert set(names) == set(CLASSES)
    drawn = read_drawing(result.folder / "nuclei.geojson.gz").detections
    assert drawn.classes.tolist() == names.tolist()
    report = evaluate(result.folder / "nuclei.geojson.gz", result.folder / "nuclei.geojson.gz",
                      mpp=MPP)  # fmt: skip
    assert set(report.by_class) == set(CLASSES)


def test_the_tiling_does_not_matter(trained: Trained, tmp_path: Path) -> None:
    whole, tiled = (trained.run(tile_size=size).nuclei for size in (1536, 256))
    assert len(tiled) == len(whole)
    pairs = polygon_overlaps(whole.polygons, tiled.polygons)
    same = pairs.iou > 0.98
    assert same.sum() == len(whole)
    one, other = classes_of(whole)[pairs.true[same]], classes_of(tiled)[pairs.predicted[same]]
    assert (one == other).all()


def test_bytes_do_not_depend_on_workers_or_batches(trained: Trained, tmp_path: Path) -> None:
    outputs = []
    for workers, batch_size in ((1, 1), (4, 3)):
        folder = tmp_path / str(workers)
        result = trained.run(folder, tile_size=256, workers=workers, batch_size=batch_size)
        assert result.folder is not None
        outputs.append((result.folder / "nuclei.geojson.gz").read_bytes())
    assert outputs[0] == outputs[1]
    assert json.loads((result.folder / "run.json").read_text())["nuclei"]["count"] > 100
