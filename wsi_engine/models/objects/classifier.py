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

LEARNT = "the classifier learnt from"
"""So warnings begin that it is applied to a slide of another kind."""

OTHER_MPP = 1.25
"""Pixels that are so many times as large as those of the examples, or as small, are others."""


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


@dataclass(frozen=True)
class LearntOn:
    """The slides that the examples were on.

    Attributes
    ----------
    stains
        Names of the stains that they were measured for.
    mpp
        Side of the smallest and of the largest pixels that were measured, in µm.
    """

    stains: tuple[str, ...]
    mpp: tuple[float, float]

    def differences(self, stains: str, mpp: float) -> list[str]:
        """Return sentences on what is other on a slide, by which a classifier may go wrong."""
        found = []
        if stains not in self.stains:
            found.append(
                f"{LEARNT} slides measured for {' and '.join(self.stains)}, and "
                f"this one was measured for {stains}: its classes of colour mean little here"
            )
        smallest, largest = self.mpp
        if not smallest / OTHER_MPP < mpp < largest * OTHER_MPP:
            pixels = " to ".join(f"{side:.3g}" for side in sorted({smallest, largest}))
            found.append(
                f"{LEARNT} pixels of {pixels} µm, and those of this slide are "
                f"{mpp:.3g} µm: measurements of texture and gradients differ"
            )
        return found


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
    learnt_on
        The slides that it learnt from.
    training
        What it was trained on, for people.
    """

    kind: Kind
    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    measurements: tuple[str, ...]
    medians: npt.NDArray[np.float64]
    rule: Forest | Linear
    learnt_on: LearntOn
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
