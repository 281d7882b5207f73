"""Command that gives nuclei classes: classify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from wsi_engine.cli import console
from wsi_engine.errors import SettingsError

if TYPE_CHECKING:
    from wsi_engine.engine.classify import Classified
    from wsi_engine.nuclei.positivity import Positivity
    from wsi_engine.training.object_classifier import Trained

MOST_INFORMATIVE = 10
KINDS = ("forest", "boosting", "logistic")
FEW = 10


def classify(
    results: Annotated[
        list[Path], typer.Argument(help="OUT/<slide>, as `run` or `measure` wrote it; any number.")
    ],
    examples: Annotated[
        list[Path] | None,
        typer.Option(
            help="GeoJSON from QuPath with classes of some nuclei, points or areas; repeated, one "
            "for each result in their order, or all of them of the only one."
        ),
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="Classifier to apply, as this command wrote it.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Groups of measurements to look at, such as shape,colour,texture,context; by "
            "default all that were measured."
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option(help=f"What learns from the examples: {', '.join(KINDS)}.")
    ] = "forest",
    trees: Annotated[
        int, typer.Option(min=1, max=2000, help="Trees of a forest, steps of boosting.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same file.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the classifier, beside that in the results."),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(
            help="Stain or measurement that makes nuclei positive, and one threshold or three, "
            "such as dab:0.2,0.4,0.6; by itself or after a classifier."
        ),
    ] = None,
) -> None:
    """Give nuclei classes: by a classifier, by one that is learnt first, or positive ones."""
    from wsi_engine.engine.classify import classify as classify_result
    from wsi_engine.models.objects.file import read_classifier

    if classifier is not None and examples:
        raise SettingsError(
            "classify: give only one of --examples, which learns a classifier, and --classifier, "
            "which applies one"
        )
    if not (classifier or examples or positive):
        raise SettingsError(
            "classify: give --examples FILE to learn from, or --classifier FILE to apply, or "
            "--positive STAIN:THRESHOLD"
        )
    thresholds = None if positive is None else _thresholds(positive)
    chosen = None
    if classifier is not None:
        chosen = read_classifier(classifier)
    elif examples:
        trained = _train(results, examples, features, kind, trees, seed, output)
        _print_trained(trained)
        chosen = trained.classifier
    for result in results:
        _print_classified(classify_result(result, chosen, thresholds), chosen is not None)


def _thresholds(text: str) -> Positivity:
    from wsi_engine.nuclei.positivity import Positivity

    try:
        return Positivity.parse(text)
    except ValueError as error:
        raise SettingsError(f"--positive {text}: {error}") from None


def _train(
    results: list[Path],
    examples: list[Path],
    features: str | None,
    kind: str,
    trees: int,
    seed: int,
    output: Path | None,
) -> Trained:
    from wsi_engine.models.objects.file import write_classifier
    from wsi_engine.training.classifier_rules import ClassifierTraining
    from wsi_engine.training.object_classifier import train_classifier

    if kind not in KINDS:
        raise SettingsError(f"--kind: there is no {kind!r}; there are {', '.join(KINDS)}")
    if len(results) > 1 and len(results) != len(examples):
        raise SettingsError(
            f"{len(results)} results and {len(examples)} files of examples: give one --examples "
            "for each result, in their order"
        )
    pairs = (
        [(results[0], examples)]
        if len(results) == 1
        else [(result, [file]) for result, file in zip(results, examples, strict=True)]
    )
    groups = tuple(filter(None, features.split(","))) if features is not None else None
    training = ClassifierTraining(kind, groups, trees, seed)  # type: ignore[arg-type]
    with console.err.status("learning"):
        trained = train_classifier(pairs, training)
    if output is not None:
        write_classifier(output, trained.classifier)
    return trained


def _print_trained(trained: Trained) -> None:
    """Print how well classes are told apart, by what, and what is too few."""
    classes, f1 = trained.classifier.classes, trained.f1
    table = Table("given", "examples", "F1", *(f"found {escape(name)}" for name in classes))
    for k, name in enumerate(classes):
        score = "-" if f1 is None else f"{f1[name]:.3f}"
        found = ["-"] * len(classes)
        if trained.confusion is not None:
            found = [f"{count:,}" for count in trained.confusion[k]]
        table.add_row(escape(name), f"{trained.examples[name]:,}", score, *found)
    console.out.print(table)
    if trained.folds is None:
        console.print_warning(
            "how good it is, is not known: a class has all of its examples in one area; classify "
            "some elsewhere"
        )
    else:
        console.out.print(f"F1 where {trained.folds} were left out in turn", highlight=False)
    if few := [name for name, count in trained.examples.items() if count < FEW]:
        console.print_warning(f"fewer than {FEW} examples of {', '.join(few)}: give more")
    if trained.contradicted:
        console.print_warning(
            f"{trained.contradicted:,} nuclei were given two classes, and were left out"
        )
    if trained.unmatched:
        console.print_warning(
            f"{trained.unmatched:,} points or nuclei lie on no nucleus of the result"
        )
    shares = {name: f"{share:.1%}" for name, share in trained.informative[:MOST_INFORMATIVE]}
    console.print_facts(shares, "most informative")


def _print_classified(classified: Classified, with_classifier: bool) -> None:
    """Print the number of nuclei of each class, and where the doubtful ones are."""
    from wsi_engine.results.layout import CLASSIFIER, DOUBTFUL

    counts = sorted(classified.counts.items(), key=lambda pair: (pair[0] is None, pair[0] or ""))
    facts = {name or "none, as too little is measured": f"{n:,}" for name, n in counts}
    console.print_facts(facts, classified.folder.name)
    for warning in classified.warnings:
        console.print_warning(f"{classified.folder.name}: {warning}")
    if classified.doubtful:
        path = classified.folder / DOUBTFUL
        text = f"to label next: {len(classified.doubtful)} doubtful nuclei, points in {path}"
        console.out.print(text, highlight=False, markup=False, soft_wrap=True)
    if not with_classifier:
        return
    path = classified.folder / CLASSIFIER
    console.out.print(f"file: {path}", highlight=False, markup=False, soft_wrap=True)
