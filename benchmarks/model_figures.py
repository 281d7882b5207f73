"""Measure a model on annotated images, each sent through the whole engine.

    python benchmarks/model_figures.py DATA [--model NAME] [--weights FILE] [--tile-size 1024]

``DATA`` is the folder that holds the folders of the sets. Every image goes the way of a slide:
opened, resampled, tiled, settled and written by `wsi_engine.run`; the polygons that come out are
drawn and compared with the label image. The held-out images of the training sets are those that
the configuration (``--config``) holds out, and its pixel sizes hold; monuseg_train is taken whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import wsi_engine
from wsi_engine.evaluation.details import DIAMETER_CLASSES
from wsi_engine.evaluation.evaluate import score_pair
from wsi_engine.evaluation.images import is_image
from wsi_engine.evaluation.metrics import Evaluation
from wsi_engine.evaluation.pairing import files_by_stem, is_segmentation, paired
from wsi_engine.evaluation.polygons import Polygons
from wsi_engine.evaluation.segmentations import read_segmentation
from wsi_engine.training.config import DataConfig, TrainConfig
from wsi_engine.training.datasets import group_of, split_groups

MEASURES = ("f1", "precision", "recall", "pq", "sq", "aji", "dice", "detection_f1", "f1_50_90")


@dataclass(frozen=True)
class TestSet:
    """Images with their label images, and their pixel size in µm."""

    name: str
    pairs: list[tuple[Path, Path]]
    mpp: float


def sets_of(data: Path, config: TrainConfig) -> Iterator[TestSet]:
    """Yield the sets to measure on."""
    benchmark = data / "monuseg_train"
    yield TestSet(benchmark.name, pairs_in(benchmark), 0.25)
    for entry in config.data:
        if not isinstance(entry, DataConfig):
            continue
        folder = data / entry.images.parent.name
        pairs = held_out(pairs_in(folder), entry)
        yield TestSet(f"{entry.name} (held out)", pairs, entry.mpp)


def pairs_in(folder: Path) -> list[tuple[Path, Path]]:
    """Pair the images of a set with their label images."""
    images = files_by_stem(folder / "images", is_image)
    labels = files_by_stem(folder / "labels", is_segmentation)
    return paired(images, labels, where=folder / "labels", what="label image")


def held_out(pairs: list[tuple[Path, Path]], entry: DataConfig) -> list[tuple[Path, Path]]:
    """Keep the images that training does not see."""
    groups = [group_of(image.stem, entry.split) for image, _ in pairs]
    chosen = split_groups(groups, entry.split)
    return [pair for pair, group in zip(pairs, groups, strict=True) if group in chosen]


def predicted(image: Path, mpp: float, settings: dict[str, Any]) -> Polygons:
    """Run the engine on one image; of polygons that overlap the better is drawn last."""
    nuclei = wsi_engine.run(image, mpp=mpp, tissue=False, **settings).nuclei
    order = np.argsort(nuclei.arrow["score"].to_numpy(), kind="stable")
    return Polygons(nuclei.polygons[order], np.full(len(order), ""))


def measure(test_set: TestSet, settings: dict[str, Any]) -> Evaluation:
    """Compare the engine's nuclei with the truth on every image of a set."""
    return Evaluation(
        tuple(
            score_pair(
                image.stem,
                predicted(image, test_set.mpp, settings),
                read_segmentation(labels),
                test_set.mpp,
            )
            for image, labels in test_set.pairs
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="starconvex")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--tile-size", type=int)
    parser.add_argument("--config", type=Path, default=Path("configs/train_default.yaml"))
    parser.add_argument("--sets", nargs="*", help="Beginnings of the names of the sets to measure.")
    arguments = parser.parse_args()
    settings = {name: getattr(arguments, name) for name in ("model", "weights", "tile_size")}
    print("| set | images | nuclei |", " | ".join(MEASURES), "| splits | merges |")
    print("|---" * (5 + len(MEASURES)) + "|")
    recalls = []
    for test_set in sets_of(arguments.data, TrainConfig.load(arguments.config)):
        if arguments.sets and not test_set.name.startswith(tuple(arguments.sets)):
            continue
        evaluation = measure(test_set, settings)
        figures = evaluation.intervals()
        nuclei = sum(image.at_iou[0].tp + image.at_iou[0].fn for image in evaluation.images)
        cells = [str(figures[name]) for name in MEASURES]
        cells += [str(int(figures[name].value)) for name in ("splits", "merges")]
        print(
            f"| {test_set.name} | {len(test_set.pairs)} | {nuclei} |", " | ".join(cells), "|",
            flush=True,
        )  # fmt: skip
        nuclei_of, found = evaluation.details().by_diameter
        shares = [*found / np.maximum(nuclei_of, 1), found[:2].sum() / max(nuclei_of[:2].sum(), 1)]
        recalls.append(f"| {test_set.name} | " + " | ".join(f"{x:.2f}" for x in shares) + " |")
    print("\n| recall by diameter in µm |", " | ".join([*DIAMETER_CLASSES, "<4"]), "|")
    print("|---" * (len(DIAMETER_CLASSES) + 2) + "|")
    print("\n".join(recalls))


if __name__ == "__main__":
    main()
