"""Measure a star-convex network on annotated sets: the figures of model.md and the model card.

    python benchmarks/model_figures.py DATA [--weights FILE] [--config configs/train_default.yaml]

``DATA`` is the folder that holds the folders of the sets. The held-out images of the
training sets are those that the configuration holds out; monuseg_train is taken whole.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from wsi_engine.learn.config import DataConfig, TrainConfig
from wsi_engine.learn.datasets import load_dataset, split_dataset
from wsi_engine.learn.fields import Field
from wsi_engine.learn.validate import evaluate_fields, predict
from wsi_engine.models.devices import resolve_devices
from wsi_engine.models.starconvex import load_starconvex

MEASURES = ("f1", "precision", "recall", "pq", "sq", "aji", "dice", "detection_f1", "f1_50_90")


def sets_of(data: Path, config: TrainConfig) -> list[tuple[str, tuple[Field, ...]]]:
    """Return name and fields of each set to measure on."""
    benchmark = DataConfig(
        name="monuseg_train",
        images=data / "monuseg_train/images",
        labels=data / "monuseg_train/labels",
        mpp=0.25,
    )
    sets = [("monuseg_train", load_dataset(benchmark).fields)]
    for entry in config.data:
        folder = data / entry.images.parent.name
        entry = entry.model_copy(update={"images": folder / "images", "labels": folder / "labels"})
        _, held_out = split_dataset(load_dataset(entry))
        sets.append((f"{entry.name} (held out)", held_out))
    return sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--config", type=Path, default=Path("configs/train_default.yaml"))
    arguments = parser.parse_args()
    model = load_starconvex(arguments.weights)
    model = model.to(resolve_devices("auto")[0])
    print(f"threshold {model.threshold}\n")
    print("| set | images | nuclei |", " | ".join(MEASURES), "| splits | merges |")
    print("|---" * (5 + len(MEASURES)) + "|")
    for name, fields in sets_of(arguments.data, TrainConfig.load(arguments.config)):
        predictions = [predict(model, field.image, field.mpp) for field in fields]
        evaluation = evaluate_fields(model, fields, predictions)
        figures = evaluation.intervals()
        nuclei = sum(image.at_iou[0].tp + image.at_iou[0].fn for image in evaluation.images)
        cells = [str(figures[measure]) for measure in MEASURES]
        cells += [str(int(figures[measure].value)) for measure in ("splits", "merges")]
        print(f"| {name} | {len(fields)} | {nuclei} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
