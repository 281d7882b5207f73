"""Which nuclei are missed, how far scores can be trusted, and how many findings are red."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

DIAMETERS_UM = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0)
"""Bounds of the classes of diameter, that of a disc of the same area; a bound counts as above."""
SCORE_BINS = 10
"""Bins of equal width from 0 to 1; a score of 1 is in the last."""

DIAMETER_CLASSES = (
    f"<{DIAMETERS_UM[0]:g}",
    *(f"{low:g}-{high:g}" for low, high in itertools.pairwise(DIAMETERS_UM)),
    f">{DIAMETERS_UM[-1]:g}",
)

Mask = npt.NDArray[np.bool_]
_Known = TypeVar("_Known", bound=npt.NDArray[Any])


@dataclass(frozen=True, slots=True)
class Details:
    """Counts of nuclei by size, score and colour; they add up over images.

    Attributes
    ----------
    by_diameter
        True nuclei, and those of them that were found, by class of diameter, int64 (2, 8).
    by_score
        Predicted nuclei, those of them that are true, and the sum of their scores, by bin of the
        score, float64 (3, 10); ``None`` where no nucleus has a score.
    red
        Predicted nuclei, those of them that are red, and the red ones that are no nuclei, int64
        (3,); ``None`` where nobody showed the image.
    """

    by_diameter: npt.NDArray[np.int64]
    by_score: npt.NDArray[np.float64] | None = None
    red: npt.NDArray[np.int64] | None = None

    def __add__(self, other: Details) -> Details:
        return Details(
            self.by_diameter + other.by_diameter,
            _sum_of_known(self.by_score, other.by_score),
            _sum_of_known(self.red, other.red),
        )

    def figures(self) -> dict[str, Any]:
        """Return recall by diameter, and where they are known calibration and red findings.

        As JSON has them; a share of no nuclei is ``None``.
        """
        found: dict[str, Any] = {
            "recall_by_diameter": [
                {"diameter_um": name, "nuclei": int(true), "recall": _share(found, true)}
                for name, (true, found) in zip(DIAMETER_CLASSES, self.by_diameter.T, strict=True)
            ]
        }
        if self.by_score is not None:
            found["calibration"] = _calibration(self.by_score)
        if self.red is not None:
            nuclei, red, no_nuclei = self.red.tolist()
            found["red"] = {
                "found": nuclei, "red": red, "red_false": no_nuclei, "share": _share(red, nuclei),
            }  # fmt: skip
        return found


def details_of(
    areas: npt.NDArray[Any],
    is_found: Mask,
    is_true: Mask,
    mpp: float,
    scores: npt.NDArray[np.float64] | None,
    red: Mask | None,
) -> Details:
    """Count the nuclei of one image.

    Parameters
    ----------
    areas
        Areas of the true nuclei in pixels, shape (n,).
    is_found
        Which of them a predicted one matches, shape (n,).
    is_true
        Which of the predicted nuclei match a true one, shape (m,).
    mpp
        Pixel size in µm.
    scores
        Scores of the predicted nuclei, from 0 to 1, NaN where one has none, shape (m,).
    red
        Which of the predicted nuclei are red, shape (m,).
    """
    diameters = 2 * np.sqrt(np.asarray(areas, np.float64) / np.pi) * mpp
    kinds = np.searchsorted(DIAMETERS_UM, diameters, side="right")
    count = len(DIAMETER_CLASSES)
    by_diameter = [np.bincount(kinds[part], minlength=count) for part in (slice(None), is_found)]
    return Details(
        np.stack(by_diameter),
        None if scores is None else _by_score(scores, is_true),
        None if red is None else np.array([len(red), red.sum(), (red & ~is_true).sum()]),
    )


def _by_score(scores: npt.NDArray[np.float64], is_true: Mask) -> npt.NDArray[np.float64]:
    known = np.isfinite(scores)
    scores, is_true = np.clip(scores[known], 0, 1), is_true[known]
    bins = np.minimum((scores * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    weights = (np.ones(len(scores)), is_true, scores)
    return np.stack([np.bincount(bins, weight, minlength=SCORE_BINS) for weight in weights])


def _calibration(by_score: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return the calibration of the score, as JSON has it.

    The expected calibration error is the mean difference of score and precision over the bins,
    each by its nuclei (Guo et al., "On calibration of modern neural networks", ICML 2017).
    """
    nuclei, true, scores = by_score.sum(axis=1)
    return {
        "expected_calibration_error": _share(np.abs(by_score[1] - by_score[2]).sum(), nuclei),
        "mean_score": _share(scores, nuclei),
        "precision": _share(true, nuclei),
        "bins": [
            {
                "from": k / SCORE_BINS,
                "to": (k + 1) / SCORE_BINS,
                "nuclei": int(nuclei),
                "mean_score": _share(scores, nuclei),
                "precision": _share(true, nuclei),
            }
            for k, (nuclei, true, scores) in enumerate(by_score.T)
        ],
    }


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _sum_of_known(one: _Known | None, other: _Known | None) -> _Known | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
