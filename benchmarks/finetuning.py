"""Measure how many corrected nuclei help how much.

    python benchmarks/finetuning.py DATA [--counts 10 50 200 1000] [--steps 150] [--shifts ...]

``DATA`` is the folder that holds tnbc/images and tnbc/labels. The default network has learnt from
every set of ours but for some patients, so what is new to it is made: the two patients of tnbc that
training holds out are shown as another laboratory or scanner would show them (the shifts of
benchmarks/methods.py, and a camera without colours). Some nuclei of one patient are corrected, on
all of its images but the last two; measured on are those two, and the other patient. Each patient
has its turn, and no image that is measured on is learnt from.

All goes the way of a user: `wsi_engine.run`, a GeoJSON file with the truth in areas of the class
Checked, `apply_corrections`, `train`, and `wsi_engine.run` with the new weights. The areas are
strips from the left of each image, as wide as it takes to hold the nuclei; a fifth of the images
(at least one) is held out to choose the weights and the threshold.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from methods import QUICK, SHIFTS, density_of, header, row, seen, shifted
from model_figures import TestSet, measure, pairs_in

import wsi_engine
from wsi_engine.engine.apply import apply_corrections
from wsi_engine.evaluation.images import read_labels
from wsi_engine.evaluation.metrics import Evaluation
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.finetuning import config_for_corrections
from wsi_engine.training.train import train

MPP = 0.25
HELD_OUT = ("03", "10")
"""Patients of tnbc that no shipped weights were trained on; their threshold was chosen on them."""


def one_colour(pixels: np.ndarray) -> np.ndarray:
    """Show the slide as a camera without colours does."""
    return seen(np.repeat(density_of(pixels).mean(axis=2, keepdims=True), 3, axis=2) * 0.8)


SHIFTS["one colour"] = one_colour


def patient(data: Path, name: str) -> TestSet:
    """Return the images of one patient of tnbc."""
    pairs = [pair for pair in pairs_in(data / "tnbc") if pair[0].stem.split("_")[0] == name]
    return TestSet(f"tnbc {name}", pairs, MPP)


def nuclei_in(test_set: TestSet) -> int:
    return sum(len(np.unique(read_labels(labels))) - 1 for _, labels in test_set.pairs)


def corrected(test_set: TestSet, count: int, output: Path) -> tuple[list[Path], int]:
    """Run on the images of a patient and correct so many nuclei, spread over the images.

    Returns
    -------
    folders, count
        Results; how many nuclei the checked areas hold, all if there are fewer than wanted.
    """
    folders, left = [], count
    for k, (image, labels) in enumerate(test_set.pairs):
        result = wsi_engine.run(image, output, mpp=MPP, tissue=False, **QUICK)
        assert result.folder is not None
        wanted = -(-left // (len(test_set.pairs) - k))
        document, held = corrections(result.nuclei, read_labels(labels), wanted)
        path = output / f"{image.stem}.geojson"
        path.write_text(json.dumps(document))
        apply_corrections(path, result.folder, yes=True)
        folders.append(result.folder)
        left -= held
    return folders, count - left


def corrections(found: Any, labels: np.ndarray, count: int) -> tuple[dict[str, Any], int]:
    """Return what a person would export who set right the leftmost nuclei of an image."""
    truth = Predictions.from_labels(labels)
    rings = np.split(truth.xy, truth.offsets[1:-1])
    middles = np.array([ring[:, 0].mean() for ring in rings])
    order = np.sort(middles)
    right = labels.shape[1] if count >= len(order) else float(order[count - 1 : count + 1].mean())
    height = labels.shape[0]
    features = [
        feature("annotation", [(0, 0), (right, 0), (right, height), (0, height)], "Checked")
    ]
    inside = middles <= right
    features += [feature("detection", rings[k]) for k in np.flatnonzero(inside)]
    outside = found.arrow["x"].to_numpy() > right
    ids, outlines = found.arrow["id"].to_pylist(), found.polygons
    for k in np.flatnonzero(outside):
        ring = np.array(outlines[k].exterior.coords)[:-1]
        features.append(feature("detection", ring) | {"id": ids[k]})
    return {"type": "FeatureCollection", "features": features}, int(inside.sum())


def feature(kind: str, ring: Iterable[Any], name: str | None = None) -> dict[str, Any]:
    closed = np.asarray(ring, float).tolist()
    properties: dict[str, Any] = {"objectType": kind}
    if name is not None:
        properties["classification"] = {"name": name, "color": [0, 128, 0]}
    geometry = {"type": "Polygon", "coordinates": [[*closed, closed[0]]]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def finetuned(folders: Sequence[Path], output: Path, steps: int, batch: int) -> Path:
    """Return the weights that a training makes of corrected results."""
    config = config_for_corrections(folders, output=output)
    document = config.model_dump() | {
        "steps": steps, "decay_steps": steps * 2 // 3, "warmup_steps": max(1, steps // 12),
        "batch": batch, "validate_every": max(1, steps // 3), "checkpoint_every": steps,
    }  # fmt: skip
    document["data"] = config.data
    return train(TrainConfig.model_validate(document)).best


def figures(evaluation: Evaluation) -> list[str]:
    values = evaluation.pooled()
    return [f"{values[name]:.3f}" for name in ("f1", "pq")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 50, 200, 1000])
    parser.add_argument("--shifts", nargs="+", default=["another white", "one colour"])
    parser.add_argument("--patients", nargs=2, default=HELD_OUT)
    parser.add_argument("--images", type=int, help="take the first so many of each patient only")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    header("shift", "corrected", "nuclei", "minutes", "F1, same patient", "PQ, same patient",
           "F1, another", "PQ, another", "F1, another, not shifted")  # fmt: skip
    patients = {
        name: TestSet(one.name, one.pairs[: arguments.images], MPP)
        for name in arguments.patients
        for one in [patient(arguments.data, name)]
    }
    for shift in arguments.shifts:
        for source, target in (arguments.patients, arguments.patients[::-1]):
            with tempfile.TemporaryDirectory() as scratch:
                curve(Path(scratch), shift, patients[source], patients[target], arguments)


def curve(
    scratch: Path, shift: str, source: TestSet, target: TestSet, arguments: argparse.Namespace
) -> None:
    """Print what a growing number of corrected nuclei of one patient does for another."""
    for name in ("source", "target"):
        (scratch / name).mkdir()
    seen = shifted(source, shift, scratch / "source")
    measured = shifted(target, shift, scratch / "target")

    learnt = TestSet(seen.name, seen.pairs[:-2], MPP)
    same = TestSet(seen.name, seen.pairs[-2:], MPP)

    def print_row(count: int, minutes: float, weights: Path | None) -> None:
        settings = {"weights": weights, **QUICK}
        before = measure(target, settings).pooled()["f1"]
        row(shift, source.name, count, f"{minutes:.1f}", *figures(measure(same, settings)),
            *figures(measure(measured, settings)), f"{before:.3f}")  # fmt: skip

    print_row(0, 0.0, None)
    total = nuclei_in(learnt)
    for count in sorted({min(count, total) for count in arguments.counts}):
        shutil.rmtree(scratch / "out", ignore_errors=True)
        folders, held = corrected(learnt, count, scratch / "out")
        started = time.monotonic()
        weights = finetuned(folders, scratch / f"run {count}", arguments.steps, arguments.batch)
        print_row(held, (time.monotonic() - started) / 60, weights)


if __name__ == "__main__":
    main()
