"""What scikit-learn makes of examples, as the plain arrays of an object classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_engine.models.objects.classifier import Kind, Linear, filled
from wsi_engine.models.regions.forest import Forest

Values = npt.NDArray[np.float32]
"""Measurements of nuclei, shape (n, measurements)."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassifierTraining:
    """What an object classifier is to be.

    Attributes
    ----------
    kind
        Random forest, gradient boosting or logistic regression.
    features
        Groups of measurements that it may look at; ``None`` for all that were measured.
    trees
        Trees of a forest, steps of boosting.
    seed
        The same seed gives the same file.
    """

    kind: Kind = "forest"
    features: tuple[str, ...] | None = None
    trees: int = 200
    seed: int = 0


def fit(
    values: Values, y: Numbers, training: ClassifierTraining
) -> tuple[Forest | Linear, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the rule, the medians, and the share of each measurement in telling classes apart."""
    finite = np.where(np.isfinite(values), values, np.nan)
    medians = np.zeros(values.shape[1])
    some = ~np.isnan(finite).all(axis=0)
    medians[some] = np.nanmedian(finite[:, some].astype(np.float64), axis=0)
    medians = medians.astype(np.float32).astype(np.float64)
    x = filled(values, medians)
    rule, weight = _RULES[training.kind](x, y, training)
    return rule, medians, weight / max(float(weight.sum()), np.finfo(float).tiny)


Fitted = tuple[Any, npt.NDArray[np.float64]]


def _grow(x: Values, y: Numbers, training: ClassifierTraining) -> Fitted:
    from sklearn.ensemble import RandomForestClassifier

    grown = RandomForestClassifier(
        training.trees,
        min_samples_leaf=2,
        class_weight="balanced",
        random_state=training.seed,
        n_jobs=-1,
    ).fit(x, y)
    return Forest.grown([tree.tree_ for tree in grown.estimators_]), grown.feature_importances_


def _boost(x: Values, y: Numbers, training: ClassifierTraining) -> Fitted:
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.utils.class_weight import compute_sample_weight

    # From zero, so that the trees are all that there is.
    grown = GradientBoostingClassifier(
        n_estimators=training.trees,
        subsample=0.8,
        max_features="sqrt",
        init="zero",
        random_state=training.seed,
    ).fit(x, y, sample_weight=compute_sample_weight("balanced", y))
    return _sum_of_trees(grown), grown.feature_importances_


def _sum_of_trees(grown: Any) -> Forest:
    """Return boosted trees with leaves of a score per class; of two classes the second has all."""
    classes = len(grown.classes_)
    trees = [(tree.tree_, k) for step in grown.estimators_ for k, tree in enumerate(step)]
    forest = Forest.grown([tree for tree, _ in trees])
    scores = np.zeros((len(forest.left), classes))
    for n, (tree, k) in enumerate(trees):
        column = 1 if classes == 2 else k
        scores[forest.roots[n] : forest.roots[n + 1], column] = (
            grown.learning_rate * tree.value[:, 0, 0]
        )
    return Forest(forest.roots, forest.left, forest.right, forest.feature, forest.threshold, scores)


def _regress(x: Values, y: Numbers, training: ClassifierTraining) -> Fitted:
    from sklearn.linear_model import LogisticRegression

    wide = x.astype(np.float64)
    mean, spread = wide.mean(axis=0), wide.std(axis=0)
    spread[spread == 0] = 1
    found = LogisticRegression(
        class_weight="balanced", max_iter=2000, random_state=training.seed
    ).fit((wide - mean) / spread, y)
    weights, intercepts = found.coef_, found.intercept_
    if len(weights) == 1:
        weights, intercepts = np.vstack([0 * weights, weights]), np.append([0.0], intercepts)
    raw = weights / spread
    return Linear(raw, intercepts - raw @ mean), np.abs(weights).sum(axis=0)


_RULES = {"forest": _grow, "boosting": _boost, "logistic": _regress}
