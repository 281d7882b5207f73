"""Commands of training: train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_engine.cli import console

if TYPE_CHECKING:
    from wsi_engine.evaluation.metrics import Evaluation

MEASURES = {
    "precision": "precision at IoU 0.5",
    "recall": "recall at IoU 0.5",
    "f1": "F1 at IoU 0.5",
    "f1_50_90": "F1, mean of IoU 0.5 to 0.9",
    "pq": "PQ = DQ x SQ",
    "dq": "DQ",
    "sq": "SQ",
    "aji": "AJI",
    "dice": "Dice",
    "detection_f1": "detection F1 within 6 µm",
}


def train(
    config: Annotated[Path, typer.Argument(help="YAML file, see configs/train_default.yaml.")],
) -> None:
    """Train the network of a method, or go on with a run that was stopped."""
    from wsi_engine.training.config import TrainConfig
    from wsi_engine.training.train import train as train_network

    settings = TrainConfig.load(config)
    result = train_network(settings, console=console.err)
    shown: dict[str, Any] = {
        "best weights": result.best,
        "last weights": result.weights,
        "threshold": f"{result.threshold:.2f}",
        "validation F1": f"{result.f1:.3f}",
        "validation PQ": f"{result.pq:.3f}",
    }
    if result.class_f1 is not None:
        shown["validation F1 with class"] = f"{result.class_f1:.3f}"
    console.print_facts(shown)
    console.out.print(f"Next: wsi-engine run SLIDE -o OUT --model {settings.method} --weights FILE")


def evaluate(
    predicted: Annotated[Path, typer.Argument(help="GeoJSON, label image, or a folder of them.")],
    truth: Annotated[Path, typer.Argument(help="What is there; the same kinds.")],
    mpp: Annotated[
        float, typer.Option(help="Pixel size in µm that both refer to, for distances.")
    ] = 0.25,
    images: Annotated[
        Path | None, typer.Option(help="Images, for a page of the worst ones.")
    ] = None,
    worst: Annotated[Path, typer.Option(help="The page to write.")] = Path("worst.html"),
) -> None:
    """Compare nuclei with the truth: F1, PQ, AJI, Dice, splits and merges."""
    from wsi_engine.evaluation.evaluate import evaluate as evaluate_segmentations
    from wsi_engine.evaluation.overlays import write_worst_page

    report = evaluate_segmentations(predicted, truth, mpp=mpp)
    _print_evaluation("all nuclei", report.overall)
    for name, evaluation in report.by_class.items():
        _print_evaluation(name, evaluation)
    if images is not None:
        write_worst_page(worst, report, predicted, truth, images)
        console.out.print(f"worst images: {worst}", highlight=False)


def _print_evaluation(name: str, evaluation: Evaluation) -> None:
    """Print the measures of a segmentation; with intervals where there are several images."""
    counts = [image.at_iou[0] for image in evaluation.images]
    pooled = evaluation.pooled()
    figures: dict[str, object] = dict(pooled)
    if len(counts) > 1:
        figures |= evaluation.intervals()
    shown: dict[str, Any] = {
        "images": len(counts),
        "nuclei": f"{sum(c.tp + c.fn for c in counts):,} true, "
        f"{sum(c.tp + c.fp for c in counts):,} found",
    }
    for key, label in MEASURES.items():
        value = figures[key]
        shown[label] = f"{value:.3f}" if isinstance(value, float) else str(value)
    for key in ("splits", "merges"):
        shown[key] = f"{pooled[key]:.0f}"
    console.print_facts(shown, title=name)
