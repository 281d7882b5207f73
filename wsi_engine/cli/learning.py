"""Commands of training: train, regions-train, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_engine.cli import console
from wsi_engine.errors import ResultError, SettingsError

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
    files: Annotated[
        list[Path],
        typer.Argument(
            help="YAML file, see configs/train_default.yaml; with --from-corrections folders of "
            "results, and such a file if there is one."
        ),
    ],
    from_corrections: Annotated[
        bool,
        typer.Option(
            "--from-corrections", help="Learn from results that were corrected in QuPath."
        ),
    ] = False,
    slides: Annotated[
        Path | None, typer.Option(help="Folder of the slides, if they have moved since the run.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the weights.")
    ] = None,
) -> None:
    """Train the network of a method, or go on with a run that was stopped."""
    from wsi_engine.training.config import TrainConfig
    from wsi_engine.training.finetuning import config_for_corrections
    from wsi_engine.training.train import train as train_network

    documents = [path for path in files if path.suffix.lower() in (".yaml", ".yml")]
    if len(documents) > 1 or (not from_corrections and files != documents):
        raise SettingsError(
            f"{files[-1]} is one too many: give one YAML file, or --from-corrections and folders "
            "of results"
        )
    if from_corrections:
        results = [path for path in files if path not in documents]
        document = documents[0] if documents else None
        settings = config_for_corrections(results, document, output=output, slides=slides)
    else:
        settings = TrainConfig.load(documents[0])
        if output is not None:
            settings = settings.model_copy(update={"output": output})
    result = train_network(settings, console=console.err)
    shown: dict[str, Any] = {
        "best weights": result.best,
        "last weights": result.weights,
        "threshold": f"{result.threshold:.2f}",
        "validation F1": f"{result.f1:.3f}, {result.f1_best:.3f} at best"
        + ("" if result.f1_before is None else f", {result.f1_before:.3f} at the start"),
        "validation PQ": f"{result.pq:.3f}",
    }
    if result.class_f1 is not None:
        shown["validation F1 with class"] = f"{result.class_f1:.3f}"
    console.print_facts(shown)
    if result.f1_before is not None and result.f1_best <= result.f1_before:
        console.print_warning(
            "nothing on the way was better than the weights that the run started from: the best "
            "are these"
        )
    console.out.print(f"Next: wsi-engine run SLIDE -o OUT --model {settings.method} --weights FILE")


def regions_train(
    files: Annotated[
        list[Path],
        typer.Argument(help="Slide and GeoJSON of its annotations; any number of such pairs."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the regions model.")],
    mpp: Annotated[
        float, typer.Option(help="Side in µm of the pixels that regions are told apart in.")
    ] = 2.0,
    sigma_max: Annotated[
        float, typer.Option(help="Largest scale of the features, in those pixels.")
    ] = 16.0,
    trees: Annotated[int, typer.Option(help="Trees of the forest.")] = 50,
    seed: Annotated[int, typer.Option(help="The same seed gives the same file.")] = 0,
    slide_mpp: Annotated[
        float | None, typer.Option(help="Pixel size of the slides in µm, if they state none.")
    ] = None,
) -> None:
    """Learn to find regions from annotations drawn in QuPath."""
    from wsi_engine.training.regions import RegionsTraining, train_regions

    if len(files) % 2:
        raise SettingsError(
            f"{files[-1].name} stands alone: give each slide and, after it, the GeoJSON file of "
            "its annotations"
        )
    pairs = [*zip(files[::2], files[1::2], strict=True)]
    training = RegionsTraining(mpp=mpp, sigma_max_px=sigma_max, trees=trees, seed=seed)
    with console.err.status("learning, a minute or so"):
        drawn = train_regions(pairs, output, training, slide_mpp=slide_mpp)
    for name, each in drawn.items():
        agreement = "not known: draw more than one" if each.iou is None else f"{each.iou:.3f}"
        facts = {
            "drawn": f"{each.annotations} annotations, {each.area_mm2:.4f} mm²",
            "IoU where it was left out": agreement,
        }
        console.print_facts(facts, title=name)
    console.out.print(f"Next: wsi-engine run SLIDE -o OUT --regions-model {output}")


def evaluate(
    predicted: Annotated[
        Path,
        typer.Argument(help="GeoJSON, label image, a folder of them, or the folder of a result."),
    ],
    truth: Annotated[Path, typer.Argument(help="What is there; the same kinds.")],
    mpp: Annotated[
        float | None,
        typer.Option(
            help="Pixel size in µm that both refer to, for distances and diameters; by default "
            "that of the result, if one is given, else 0.25."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Images, for a page of the worst ones and the share of red findings."),
    ] = None,
    worst: Annotated[Path, typer.Option(help="The page to write.")] = Path("worst.html"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the measures as JSON, and nothing else.")
    ] = False,
) -> None:
    """Compare nuclei with the truth: F1, PQ, AJI, Dice, splits and merges."""
    from wsi_engine.evaluation.evaluate import evaluate as evaluate_segmentations
    from wsi_engine.evaluation.overlays import write_worst_page

    if mpp is None:
        mpp = _pixel_size(predicted, truth)
    predicted, truth = _nuclei_of_result(predicted), _nuclei_of_result(truth)
    report = evaluate_segmentations(predicted, truth, mpp=mpp, images=images)
    if as_json:
        typer.echo(json.dumps(report.figures(), indent=2, ensure_ascii=False))
    else:
        _print_evaluation("all nuclei", report.overall)
        _print_details(report.overall.details().figures())
        for name, evaluation in report.by_class.items():
            _print_evaluation(name, evaluation)
    if images is not None:
        write_worst_page(worst, report, predicted, truth, images)
        if not as_json:
            console.out.print(f"worst images: {worst}", highlight=False)


def _pixel_size(*paths: Path) -> float:
    """Return the pixel size of the first path that is the folder of a result, else 0.25 µm."""
    from wsi_engine.results.finished import SlideResult
    from wsi_engine.results.folder import has_result

    return next((SlideResult(p).mpp.mean for p in paths if p.is_dir() and has_result(p)), 0.25)


def _nuclei_of_result(path: Path) -> Path:
    """Return the file of the nuclei where a path is the folder of a result; else the path."""
    from wsi_engine.results.folder import has_result
    from wsi_engine.results.layout import NUCLEI_FILES, files_called

    if not path.is_dir() or not has_result(path):
        return path
    files = files_called(path, NUCLEI_FILES)
    if len(files) != 1:
        raise ResultError(
            f"{path} has its nuclei in {len(files)} files: run the slide without --split, or give "
            "one of them"
        )
    return files[0]


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
    if left_out := sum(image.left_out for image in evaluation.images):
        shown["not judged"] = f"{left_out:,} found where not all nuclei are known"
    for key, label in MEASURES.items():
        value = figures[key]
        shown[label] = f"{value:.3f}" if isinstance(value, float) else str(value)
    for key in ("splits", "merges"):
        shown[key] = f"{pooled[key]:.0f}"
    console.print_facts(shown, title=name)


def _print_details(details: dict[str, Any]) -> None:
    """Print which nuclei are missed, how far scores can be trusted, and what is red."""
    shown: dict[str, Any] = {
        f"recall, {row['diameter_um']} µm": f"{row['recall']:.3f} of {row['nuclei']:,}"
        for row in details["recall_by_diameter"]
        if row["nuclei"]
    }
    if "calibration" in details and details["calibration"]["precision"] is not None:
        score = details["calibration"]
        shown["calibration error of the score"] = (
            f"{score['expected_calibration_error']:.3f}, mean score {score['mean_score']:.3f}, "
            f"precision {score['precision']:.3f}"
        )
    if "red" in details:
        red = details["red"]
        shown["red"] = f"{red['red']:,} of {red['found']:,} found, {red['red_false']:,} no nuclei"
    console.print_facts(shown)
