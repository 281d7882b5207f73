"""Measure every method of `wsi-engine models` on one footing.

    python benchmarks/methods.py DATA accuracy [--methods ...]   every method on every set
    python benchmarks/methods.py DATA shift    [--methods ...]   colour normalisation, stain shifted
    python benchmarks/methods.py DATA steps    [--methods ...]   turns, filters and refinement
    python benchmarks/methods.py DATA speed --slide FILE         all methods by turns on one tile

``DATA`` is the folder that holds the folders of the sets (see benchmarks/model_figures.py): every
image goes the way of a slide through `wsi_engine.run`. Methods whose weights have to be downloaded
are left out. Tables are printed as Markdown, row by row; benchmarks/methods.md keeps them.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_figures import TestSet, measure, sets_of
from PIL import Image

import wsi_engine
from wsi_engine.evaluation.metrics import Evaluation
from wsi_engine.models.devices import reuse_freed_memory
from wsi_engine.models.protocol import Model
from wsi_engine.models.registry import available_models
from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.whole_pixels import make_model_grid
from wsi_engine.training.config import TrainConfig

MEASURES = ("precision", "recall", "f1", "pq", "aji", "dice")
NORMALISATIONS = (None, "reinhard", "histogram", "macenko", "vahadane")
QUICK: dict[str, Any] = {"measure": (), "regions": False, "report": False, "compile": "never"}

# Ruifrok & Johnston 2001: optical density of haematoxylin and eosin, and what is left.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, -0.57, 0.78]])

STEPS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "tta 4": {"tta": 4},
    "tta 8": {"tta": 8},
    "min_area 12": {"min_area": 12.0},
    "max_area 300": {"max_area": 300.0},
    "min_circularity 0.6": {"min_circularity": 0.6},
    "min_score 0.6": {"min_score": 0.6},
    "drop_border": {"drop_border": True},
    "refine gradient": {"refine": "gradient"},
    "refine contour": {"refine": "contour"},
}


def shipped() -> list[str]:
    """Name the methods that need nothing from elsewhere."""
    return [name for name, entry in available_models().items() if entry.spec.embedded]


def row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def header(*cells: str) -> None:
    row(*cells)
    row(*("---" for _ in cells))


def nuclei_in(evaluation: Evaluation) -> int:
    return sum(image.at_iou[0].tp + image.at_iou[0].fn for image in evaluation.images)


def accuracy(test_sets: Sequence[TestSet], methods: Sequence[str]) -> None:
    """Print how good every method is on every set."""
    header("method", "set", "images", "nuclei", *MEASURES, "splits", "merges")
    for name, test_set in itertools.product(methods, test_sets):
        evaluation = measure(test_set, {"model": name, **QUICK})
        figures = evaluation.intervals()
        row(
            name, test_set.name, len(test_set.pairs), nuclei_in(evaluation),
            *(f"{figures[measure].value:.3f}" for measure in MEASURES),
            *(int(figures[fault].value) for fault in ("splits", "merges")),
        )  # fmt: skip


def paler_eosin_bluer_haematoxylin(pixels: np.ndarray) -> np.ndarray:
    """Take 45 % of the eosin away, and a third of the red that haematoxylin lets through."""
    amounts = density_of(pixels) @ np.linalg.inv(STAINS)
    other = STAINS * np.array([[1.33, 1.0, 0.8], [0.55, 0.55, 0.55], [1.0, 1.0, 1.0]])
    return seen(amounts @ other)


def another_white(pixels: np.ndarray) -> np.ndarray:
    """Show the slide under a yellower and darker lamp: white is (232, 226, 196)."""
    white = np.array([232, 226, 196]) / 255
    return seen(density_of(pixels) - np.log(white))


def density_of(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(-np.log((pixels.astype(np.float64) + 1) / 256))


def seen(density: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255).astype(np.uint8)


SHIFTS = {
    "none": None,
    "paler eosin, bluer haematoxylin": paler_eosin_bluer_haematoxylin,
    "another white": another_white,
}


def shifted(test_set: TestSet, name: str, folder: Path) -> TestSet:
    """Write the images of a set as another laboratory or scanner would show them."""
    if (change := SHIFTS[name]) is None:
        return test_set
    pairs = []
    for image, labels in test_set.pairs:
        path = folder / f"{image.stem}.png"
        Image.fromarray(change(np.asarray(Image.open(image).convert("RGB")))).save(path)
        pairs.append((path, labels))
    return TestSet(test_set.name, pairs, test_set.mpp)


def shift(test_sets: Sequence[TestSet], methods: Sequence[str]) -> None:
    """Print what colour normalisation does where the stain is another."""
    header("method", "set", "shift", *(f"{name or 'as it is'}: F1 / PQ" for name in NORMALISATIONS))
    for test_set, name in itertools.product(test_sets, SHIFTS):
        with tempfile.TemporaryDirectory() as folder:
            moved = shifted(test_set, name, Path(folder))
            for method in methods:
                cells = []
                for normalise in NORMALISATIONS:
                    settings = {"model": method, "normalise": normalise, **QUICK}
                    figures = measure(moved, settings).intervals()
                    cells.append(f"{figures['f1'].value:.3f} / {figures['pq'].value:.3f}")
                row(method, test_set.name, name, *cells)


def steps(test_sets: Sequence[TestSet], methods: Sequence[str]) -> None:
    """Print what each step around a method changes."""
    header("method", "set", "step", *MEASURES, "splits", "merges")
    for method, test_set, (step, settings) in itertools.product(methods, test_sets, STEPS.items()):
        figures = measure(test_set, {"model": method, **settings, **QUICK}).intervals()
        row(
            method, test_set.name, step, *(f"{figures[name].value:.3f}" for name in MEASURES),
            *(int(figures[fault].value) for fault in ("splits", "merges")),
        )  # fmt: skip


def speed(slide: Path, methods: Sequence[str], tile: int, repeats: int) -> None:
    """Print the seconds of the processor that a tile costs each method, by turns."""
    reuse_freed_memory()
    jobs = {name: tile_job(slide, name, tile) for name in methods}
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for round_, name in itertools.product(range(repeats + 1), jobs):
        start = time.process_time()
        jobs[name]()
        if round_:  # the first warms up
            taken[name].append(time.process_time() - start)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    fastest_of_default = seconds.get("starconvex")
    header("method", "weights, MB", "CPU s per Mpx", "Mpx per CPU s", "default = 1")
    for name in jobs:
        weights = available_models()[name].weights
        size = f"{weights.stat().st_size / 1e6:.1f}" if weights else ""
        ratio = f"{fastest_of_default / seconds[name]:.2f}" if fastest_of_default else ""
        megapixels = tile**2 / 1e6
        row(name, size, f"{seconds[name] / megapixels:.2f}", f"{megapixels / seconds[name]:.2f}",
            ratio)  # fmt: skip


def tile_job(slide: Path, name: str, tile: int) -> partial[None]:
    """Return what it takes to find the nuclei of a tile in the middle of a slide, halo and all."""
    model = available_models()[name].load(None).to("cpu")
    with open_slide(slide) as opened:
        reader = GridReader(opened, make_model_grid(opened.info, model.spec.mpp))
        side = tile + 2 * model.spec.halo_px
        extent = reader.grid.extent
        x, y = (extent.width - side) // 2, (extent.height - side) // 2
        pixels = reader.read(ModelBox(x, y, side, side))
    return partial(find_nuclei, model.calibrate(pixels[None]), pixels[None])


def find_nuclei(model: Model, batch: np.ndarray) -> None:
    model.decode(model.maps(batch)[0])


def chosen_sets(arguments: argparse.Namespace) -> Iterator[TestSet]:
    for test_set in sets_of(arguments.data, TrainConfig.load(arguments.config)):
        if not arguments.sets or test_set.name.startswith(tuple(arguments.sets)):
            yield TestSet(test_set.name, test_set.pairs[:: arguments.every], test_set.mpp)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("table", choices=("accuracy", "shift", "steps", "speed"))
    parser.add_argument("--methods", nargs="*", help="all that need no download if not given")
    parser.add_argument("--sets", nargs="*", help="beginnings of the names of the sets")
    parser.add_argument("--every", type=int, default=1, help="take each so many-th image")
    parser.add_argument("--config", type=Path, default=Path("configs/train_default.yaml"))
    parser.add_argument("--slide", type=Path, help="on which speed is measured")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    methods = arguments.methods or shipped()
    if arguments.table == "speed":
        if arguments.slide is None:
            sys.exit("speed needs --slide")
        speed(arguments.slide, methods, arguments.tile, arguments.repeat)
        return
    print(f"wsi_engine {wsi_engine.__version__}, torch {torch.__version__}\n", flush=True)
    tables = {"accuracy": accuracy, "shift": shift, "steps": steps}
    tables[arguments.table](list(chosen_sets(arguments)), methods)


if __name__ == "__main__":
    main()
