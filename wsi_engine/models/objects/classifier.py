"""An object classifier: from the measurements of a nucleus to the probabilities of its classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wsi_engine.models.regions.forest import Forest

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

Kind = Literal["forest", "boosting", "logistic"]

MOST_MISSING = 0.5
"""A nucleus of which a larger share of the measurements is not defined gets no class."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Scores that are weighted sums of measurements.

    Attributes
    ----------
    weights
        float64, shape (classes, measurements).
    intercepts
        float64, shape (classes,).
    """

    weights: npt.NDArray[np.float64]
    intercepts: npt.NDArray[np.float64]

    def scores(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the scores of values of shape (n, measurements), shape (n, classes)."""
        return np.asarray(values.astype(np.float64) @ self.weights.T + self.intercepts)


@dataclass(frozen=True, eq=False)
class ObjectClassifier:
    """What `wsi-engine classify --examples` learns.

    Attributes
    ----------
    kind
        ``forest``: mean of the trees of a random forest. ``boosting``: softmax of the sum of
        boosted trees. ``logistic``: softmax of weighted sums.
    classes, colours
        Names of the classes, and their colours in QuPath.
    measurements
        Names of the measurements that it looks at, as the table of nuclei has them.
    medians
        float64, shape (measurements,): what stands for one that is not defined.
    rule
        What it makes of them.
    training
        What it was trained on, for people.
    """

    kind: Kind
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    measurements: tuple[str, ...]
    medians: npt.NDArray[np.float64]
    rule: Forest | Linear
    training: Mapping[str, Any] = field(default_factory=dict)

    def probabilities(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the probabilities of the classes.

        Parameters
        ----------
        values
            float32, shape (n, measurements).

        Returns
        -------
        ndarray
            float32, shape (n, classes); NaN for nuclei of which too little is measured.
        """
        said = self._probabilities(filled(values, self.medians)).astype(np.float32)
        missing = (~np.isfinite(values)).mean(axis=1)
        said[missing > MOST_MISSING] = np.nan
        return said

    def _probabilities(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        if isinstance(self.rule, Linear):
            return _softmax(self.rule.scores(values))
        if self.kind == "boosting":
            return _softmax(self.rule.total(values))
        return self.rule.predict(values)


def filled(
    values: npt.NDArray[np.float32], medians: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return values, shape (n, measurements), with medians for those that are not defined."""
    return np.where(np.isfinite(values), values, medians.astype(np.float32))


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
