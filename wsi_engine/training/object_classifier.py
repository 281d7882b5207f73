"""From nuclei whose class a person gave to a classifier of all nuclei, and how far to trust it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from wsi_engine.digests import digest
from wsi_engine.errors import SettingsError, TrainingError
from wsi_engine.installing import install_command
from wsi_engine.models.objects.classifier import LearntOn, ObjectClassifier
from wsi_engine.nuclei.measure.groups import columns_of
from wsi_engine.qupath.colours import Colour, class_colour
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.record import side_of_pixels
from wsi_engine.slide.stain_vectors import Stains
from wsi_engine.training.classifier_rules import ClassifierTraining, Numbers, Values, fit
from wsi_engine.training.object_examples import Examples, read_examples

MOST_FOLDS = 5
MOST_UNDEFINED = 0.5
"""A measurement that is not defined for a larger share of the examples is not looked at."""

PACKAGES = ("wsi-engine", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Trained:
    """A classifier, and what is known of it.

    Attributes
    ----------
    classifier
        The classifier.
    examples
        Number of examples of each class.
    contradicted, unmatched
        As `Examples` has them, over all results.
    folds
        What was left out in turn, ``slides`` or ``annotations``; ``None`` where a class has too
        little to leave some of it out.
    confusion
        int64, shape (classes, classes): given by a person (rows) and found where the example was
        left out (columns); ``None`` without folds.
    informative
        Measurements and their share in what tells the classes apart, the largest first.
    """

    classifier: ObjectClassifier
    examples: dict[str, int]
    contradicted: int
    unmatched: int
    folds: str | None
    confusion: Numbers | None
    informative: tuple[tuple[str, float], ...]

    @property
    def f1(self) -> dict[str, float] | None:
        """F1 of each class where examples were left out; ``None`` without folds."""
        if self.confusion is None:
            return None
        right = np.diag(self.confusion)
        either = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        scores = 2 * right / np.maximum(either, 1)
        return dict(zip(self.classifier.classes, scores.tolist(), strict=True))


def train_classifier(
    pairs: Sequence[tuple[str | Path, Sequence[str | Path]]],
    training: ClassifierTraining | None = None,
) -> Trained:
    """Learn an object classifier from examples on one slide or several.

    Every class has the same weight, however many examples it has.

    Parameters
    ----------
    pairs
        Folders of finished results, each with the GeoJSON files of its examples.
    training
        What the classifier is to be.

    Returns
    -------
    Trained
        The classifier, with its confusion over examples that it was not shown.

    Raises
    ------
    EngineError
        When a result or its examples cannot be read, or there are too few of them.

    Examples
    --------
    Nuclei that were given a class in QuPath, here by their size:

    >>> import wsi_engine
    >>> from wsi_engine.qupath.objects import PathClass
    >>> nuclei = wsi_engine.read_objects("results/slide/nuclei.geojson.gz")
    >>> areas = [nucleus.measurements["Area µm^2"] for nucleus in nuclei]
    >>> for nucleus, area in zip(nuclei, areas):
    ...     name = "Tumor" if area > np.median(areas) else "Lymphocyte"
    ...     nucleus.classification = PathClass.of(name)
    >>> count = wsi_engine.write_objects("corrected.geojson", nuclei)
    >>> trained = wsi_engine.train_classifier([("results/slide", ["corrected.geojson"])])
    >>> trained.examples
    {'Lymphocyte': 9, 'Tumor': 9}
    >>> sorted(trained.f1)
    ['Lymphocyte', 'Tumor']
    """
    chosen = ClassifierTraining() if training is None else training
    _require_sklearn()
    results = [SlideResult(Path(folder)) for folder, _ in pairs]
    names = _measurements(results, chosen.features)
    examples = [
        read_examples([Path(path) for path in paths], result)
        for (_, paths), result in zip(pairs, results, strict=True)
    ]
    classes = tuple(sorted({name for each in examples for name in each.classes}))
    _require_examples(examples, classes)
    values = np.concatenate(
        [_values(result, each, names) for result, each in zip(results, examples, strict=True)]
    )
    defined = (~np.isfinite(values)).mean(axis=0) <= MOST_UNDEFINED
    names, values = [n for n, kept in zip(names, defined, strict=True) if kept], values[:, defined]
    if not names:
        raise TrainingError(
            "no measurement is defined for most of the examples: run the slide with other groups "
            "of --measure, or give other --features"
        )
    y = np.array([classes.index(name) for each in examples for name in each.classes], np.int64)
    slides = np.repeat(np.arange(len(examples)), [len(each.rows) for each in examples])
    groups = _distinct(slides, np.concatenate([each.groups for each in examples]))
    learnt_on = _learnt_on(results)
    folds, confusion = _held_out(values, y, slides, groups, chosen, learnt_on)
    rule, medians, shares = fit(values, y, chosen)
    counts = Counter(classes[k] for k in y)
    order = np.argsort(-shares, kind="stable")
    colours: dict[str, Colour] = {}
    for each in examples:
        colours |= each.colours
    told = {
        "settings": {
            "kind": chosen.kind,
            "features": chosen.features,
            "trees": chosen.trees,
            "seed": chosen.seed,
        },
        "digest": digest({"values": values.tolist(), "classes": y.tolist()}),
        "slides": len(pairs),
        "examples": {name: counts[name] for name in classes},
        "left out": folds,
        "confusion": None if confusion is None else confusion.tolist(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
    classifier = ObjectClassifier(
        chosen.kind,
        classes,
        tuple(colours.get(name, class_colour(name)) for name in classes),
        tuple(names),
        medians,
        rule,
        learnt_on,
        told,
    )
    return Trained(
        classifier,
        {name: counts[name] for name in classes},
        sum(each.contradicted for each in examples),
        sum(each.unmatched for each in examples),
        folds,
        confusion,
        tuple((names[k], float(shares[k])) for k in order),
    )


def _learnt_on(results: Sequence[SlideResult]) -> LearntOn:
    records = [result.record for result in results]
    sides = [side_of_pixels(record) for record in records]
    stains = sorted({record.measurements.stains.name for record in records})
    return LearntOn(tuple(stains), (min(sides), max(sides)))


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            f"learning classes needs scikit-learn, which cannot be imported ({error}): "
            f"{install_command('regions')}"
        ) from None


def _require_examples(examples: Sequence[Examples], classes: Sequence[str]) -> None:
    unmatched = sum(each.unmatched for each in examples)
    lost = f" ({unmatched:,} points or nuclei lie on no nucleus of the result)" if unmatched else ""
    if len(classes) < 2:
        there = f"there is only {classes[0]}" if classes else "there are none"
        raise TrainingError(
            f"examples of at least two classes are needed, {there}{lost}: give nuclei a class in "
            "QuPath (lock those of which the class was right), or points of a class, and export"
        )
    counts = Counter(name for each in examples for name in each.classes)
    if fewest := next((name for name in classes if counts[name] < 2), None):
        raise TrainingError(f"class {fewest!r} has only one example{lost}: give it some more")


def _measurements(results: Sequence[SlideResult], features: Sequence[str] | None) -> list[str]:
    """Return the names of the measurements that all results have, of some groups or of all."""
    wanted: list[set[str]] = []
    for result in results:
        names = set(result.table.measurements)
        if features is not None:
            told = result.record.measurements
            if unknown := [name for name in features if name not in told.groups]:
                raise SettingsError(
                    f"--features: {result.folder} has no measurements {unknown[0]!r}; it has "
                    f"{', '.join(told.groups)}"
                )
            first, second = told.stains.vectors
            vectors = [told.stains.vectors[name] for name in (first, second)]
            rows = [(float(r), float(g), float(b)) for r, g, b in vectors]
            stains = Stains(told.stains.name, (first, second), (rows[0], rows[1]))
            names &= {column.name for column in columns_of(features, stains)}
        wanted.append(names)
    return [name for name in results[0].table.measurements if all(name in w for w in wanted)]


def _values(result: SlideResult, examples: Examples, names: Sequence[str]) -> Values:
    rows = result.table.take([int(row) for row in examples.rows], list(names))
    values = np.empty((len(rows), len(names)), np.float32)
    for k, name in enumerate(names):
        values[:, k] = rows[name].to_numpy()
    return values


def _distinct(slides: Numbers, groups: Numbers) -> Numbers:
    """Return numbers of groups that are different on different slides."""
    pairs = np.column_stack([slides, groups])
    return np.asarray(np.unique(pairs, axis=0, return_inverse=True)[1]).reshape(-1)


def _held_out(
    values: Values,
    y: Numbers,
    slides: Numbers,
    groups: Numbers,
    training: ClassifierTraining,
    learnt_on: LearntOn,
) -> tuple[str | None, Numbers | None]:
    """Return what was left out in turn, and what became of it.

    Nuclei of one area are alike, and those of one slide share its colours: slides are left out
    whole where each class is on two of them, else areas.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    for what, owners in (("slides", slides), ("annotations", groups)):
        fewest = min(len(np.unique(owners[y == k])) for k in range(int(y.max()) + 1))
        if fewest < 2:
            continue
        confusion = np.zeros((int(y.max()) + 1,) * 2, np.int64)
        folds = StratifiedGroupKFold(
            min(MOST_FOLDS, fewest), shuffle=True, random_state=training.seed
        )
        for shown, out in folds.split(values, y, owners):
            there = np.unique(y[shown])
            if len(there) < 2:
                continue
            rule, medians, _ = fit(values[shown], np.searchsorted(there, y[shown]), training)
            classes = tuple(map(str, there))
            colours = ((0, 0, 0),) * len(there)
            names = tuple(map(str, range(values.shape[1])))
            fold = ObjectClassifier(
                training.kind, classes, colours, names, medians, rule, learnt_on
            )
            said = np.nan_to_num(fold.probabilities(values[out])).argmax(axis=1)
            np.add.at(confusion, (y[out], there[said]), 1)
        return what, confusion
    return None, None
