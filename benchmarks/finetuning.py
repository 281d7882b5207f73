"""Measure how many corrected nuclei help how much.

    python benchmarks/finetuning.py DATA [--shift NAME] [--source 01 02 ...] [--target 03 10]

``DATA`` is the folder that holds tnbc/images and tnbc/labels. Nuclei of the patients ``--source``
are corrected, and the weights that come of them are measured on all images of the patients
``--target``, which no shipped weights were trained on. What the shipped network has not learnt yet
is made: ``--shift`` shows all images as another laboratory or scanner would (benchmarks/methods.py)
or as a camera without colours does. The last columns are of the images as they are, to see what was
forgotten.

All goes the way of a user: `wsi_engine.run`, a GeoJSON file with the truth in areas of the class
Checked, `apply_corrections`, `train`, and `wsi_engine.run` with the best weights. On each image 50
nuclei are corrected at most, from its left border on, and on four images at least. Each draw takes
other images and another seed. benchmarks/finetuning.md keeps the tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
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
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.finetuning import GENTLE, config_for_corrections
from wsi_engine.training.train import Result, train

MPP = 0.25
HELD_OUT = ("03", "10")
OTHERS = ("01", "02", "04", "05", "06", "07", "08", "09", "11")
NUCLEI_PER_IMAGE, FEWEST_IMAGES = 50, 4


def one_colour(pixels: np.ndarray) -> np.ndarray:
    """Show the slide as a camera without colours does."""
    return seen(np.repeat(density_of(pixels).mean(axis=2, keepdims=True), 3, axis=2) * 0.8)


SHIFTS["one colour"] = one_colour


def images_of(data: Path, patients: Sequence[str]) -> TestSet:
    """Return the images of some patients of tnbc."""
    pairs = [pair for pair in pairs_in(data / "tnbc") if pair[0].stem.split("_")[0] in patients]
    return TestSet("tnbc", pairs, MPP)


def corrected(pairs: Sequence[tuple[Path, Path]], count: int, output: Path) -> list[Path]:
    """Run on image after image until so many nuclei are corrected; return the results."""
    folders, left = [], count
    share = -(-count // max(FEWEST_IMAGES, -(-count // NUCLEI_PER_IMAGE)))
    for image, labels in pairs:
        result = wsi_engine.run(image, output, mpp=MPP, tissue=False, **QUICK)
        assert result.folder is not None
        document, held = corrections(result.nuclei, read_labels(labels), min(share, left))
        path = output / f"{image.stem}.geojson"
        path.write_text(json.dumps(document))
        apply_corrections(path, result.folder, yes=True)
        folders.append(result.folder)
        left -= held
        if not left:
            return folders
    raise SystemExit(f"the images hold {left} nuclei too few")


def corrections(found: Any, labels: np.ndarray, count: int) -> tuple[dict[str, Any], int]:
    """Return what a person would export who set right the leftmost nuclei of an image."""
    truth = Predictions.from_labels(labels)
    rings = np.split(truth.xy, truth.offsets[1:-1])
    middles = np.array([ring[:, 0].mean() for ring in rings])
    order = np.sort(middles)
    height, right = labels.shape
    if count < len(order):
        right = float(order[count - 1 : count + 1].mean())
    area = feature("annotation", [(0, 0), (right, 0), (right, height), (0, height)], "Checked")
    inside = np.flatnonzero(middles <= right)
    drawn = [feature("detection", rings[k]) for k in inside]
    ids, outlines = found.arrow["id"].to_pylist(), found.polygons
    left_alone = [
        feature("detection", outlines[k].exterior.coords[:-1]) | {"id": ids[k]}
        for k in np.flatnonzero(found.arrow["x"].to_numpy() > right)
    ]
    return {"type": "FeatureCollection", "features": [area, *drawn, *left_alone]}, len(inside)


def feature(kind: str, ring: Iterable[Any], name: str | None = None) -> dict[str, Any]:
    closed = np.asarray(ring, float).tolist()
    properties: dict[str, Any] = {"objectType": kind}
    if name is not None:
        properties["classification"] = {"name": name, "color": [0, 128, 0]}
    geometry = {"type": "Polygon", "coordinates": [[*closed, closed[0]]]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def finetuned(folders: Sequence[Path], output: Path, **settings: float) -> Result:
    """Train on corrected results, for so many steps of the shipped schedule."""
    config = config_for_corrections(folders, output=output)
    steps = int(settings["steps"])
    document = config.model_dump() | {
        "decay_steps": steps * 2 // 3, "warmup_steps": max(1, steps // 12),
        "validate_every": max(1, steps // 3), "checkpoint_every": steps, **settings,
    }  # fmt: skip
    document["data"] = config.data
    return train(TrainConfig.model_validate(document))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--shift", choices=tuple(SHIFTS), default="one colour")
    parser.add_argument("--source", nargs="+", default=OTHERS)
    parser.add_argument("--target", nargs="+", default=HELD_OUT)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 50, 200, 1000])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=GENTLE["learning_rate"])
    arguments = parser.parse_args()
    header("shift", "measured on", "corrected nuclei", "on images", "minutes", "draws kept",
           "F1", "PQ", "F1, as they are", "PQ, as they are")  # fmt: skip
    plain = images_of(arguments.data, arguments.target)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name in ("source", "target"):
            (scratch / name).mkdir()
        source = shifted(
            images_of(arguments.data, arguments.source), arguments.shift, scratch / "source"
        )
        target = shifted(plain, arguments.shift, scratch / "target")

        def figures(weights: Path | None) -> list[float]:
            settings = {"weights": weights, **QUICK}
            pooled = measure(target, settings).pooled()
            before = pooled if target is plain else measure(plain, settings).pooled()
            return [pooled["f1"], pooled["pq"], before["f1"], before["pq"]]

        about = (arguments.shift, "+".join(arguments.target))
        row(*about, 0, 0, "0.0", "", *(f"{value:.3f}" for value in figures(None)))
        for count in arguments.counts:
            measured, images, minutes, kept = [], [], [], 0
            for draw in range(arguments.draws):
                order = np.random.default_rng(draw).permutation(len(source.pairs))
                work = scratch / f"{count} {draw}"
                folders = corrected([source.pairs[k] for k in order], count, work / "out")
                started = time.monotonic()
                result = finetuned(
                    folders, work / "run", steps=arguments.steps, batch=arguments.batch,
                    learning_rate=arguments.learning_rate, seed=draw,
                )  # fmt: skip
                minutes.append((time.monotonic() - started) / 60)
                assert result.f1_before is not None
                kept += result.f1_best > result.f1_before
                images.append(len(folders))
                measured.append(figures(result.best))
            row(
                *about, count, max(images), f"{statistics.mean(minutes):.1f}",
                f"{kept} of {arguments.draws}", *map(spread, zip(*measured, strict=True)),
            )  # fmt: skip


def spread(values: Sequence[float]) -> str:
    """Return the mean of some draws, and their range."""
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
