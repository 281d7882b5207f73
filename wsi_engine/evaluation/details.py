"""Which nuclei are missed, how far scores can be trusted, and how many findings are red."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_engine.evaluation.counts import Counts

DIAMETERS_UM = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0)
"""Bounds of the classes of diameter, that of a disc of the same area; a bound counts as above."""
SCORE_BINS = 10
"""Bins of equal width from 0 to 1; a score of 1 is in the last."""

DIAMETER_CLASSES = (
    f"<{DIAMETERS_UM[0]:g}",
    *(f"{low:g}-{high:g}" for low, high in itertools.pairwise(DIAMETERS_UM)),
    f">{DIAMETERS_UM[-1]:g}",
)


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """Predicted nuclei whose score lies in a bin: how many, how many true, sum of the scores."""

    count: int
    true: int
    sum: float

    def __add__(self, other: ScoreBin) -> ScoreBin:
        return ScoreBin(self.count + other.count, self.true + other.true, self.sum + other.sum)


@dataclass(frozen=True, slots=True)
class RedCounts:
    """Predicted nuclei, those of them that are red, and the red ones that are no nuclei."""

    found: int
    red: int
    red_false: int

    def __add__(self, other: RedCounts) -> RedCounts:
        return RedCounts(
            self.found + other.found, self.red + other.red, self.red_false + other.red_false
        )


def found_by_diameter(
    areas: npt.NDArray[Any], is_found: npt.NDArray[np.bool_], mpp: float
) -> tuple[Counts, ...]:
    """Count true nuclei that were found and missed, by class of diameter.

    Parameters
    ----------
    areas
        Areas of the true nuclei in pixels, shape (n,).
    is_found
        Which of them a predicted one matches, shape (n,).
    mpp
        Pixel size in µm.
    """
    diameters = 2 * np.sqrt(np.asarray(areas, np.float64) / np.pi) * mpp
    kinds = np.searchsorted(DIAMETERS_UM, diameters, side="right")
    total = np.bincount(kinds, minlength=len(DIAMETER_CLASSES))
    found = np.bincount(kinds[is_found], minlength=len(DIAMETER_CLASSES))
    return tuple(Counts(int(f), 0, int(t - f)) for f, t in zip(found, total, strict=True))


def true_by_score(
    scores: npt.NDArray[np.float64], is_true: npt.NDArray[np.bool_]
) -> tuple[ScoreBin, ...]:
    """Count predicted nuclei, and true ones among them, by their score; those without are left out.

    Parameters
    ----------
    scores
        From 0 to 1, shape (n,).
    is_true
        Which of them match a true nucleus, shape (n,).
    """
    known = np.isfinite(scores)
    scores, is_true = np.clip(scores[known], 0, 1), is_true[known]
    bins = np.minimum((scores * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    counts, sums = (np.bincount(bins, w, minlength=SCORE_BINS) for w in (None, scores))
    true = np.bincount(bins[is_true], minlength=SCORE_BINS)
    return tuple(
        ScoreBin(int(n), int(t), float(s)) for n, t, s in zip(counts, true, sums, strict=True)
    )


def expected_calibration_error(bins: Iterable[ScoreBin]) -> float | None:
    """Return the mean difference of score and precision over the bins; ``None`` of no nuclei.

    Each bin counts by its nuclei (Guo et al., "On calibration of modern neural networks", ICML
    2017); a nucleus is true where its IoU with a true one is above a half.
    """
    bins = list(bins)
    total = sum(each.count for each in bins)
    return sum(abs(each.true - each.sum) for each in bins) / total if total else None


def recall_table(counts: Iterable[Counts]) -> list[dict[str, Any]]:
    """Return recall by class of diameter, as JSON has it; ``None`` where there are no nuclei."""
    return [
        {
            "diameter_um": name,
            "nuclei": each.tp + each.fn,
            "recall": each.recall if each.tp + each.fn else None,
        }
        for name, each in zip(DIAMETER_CLASSES, counts, strict=True)
    ]


def calibration_table(bins: Iterable[ScoreBin]) -> dict[str, Any]:
    """Return the calibration of the score, as JSON has it."""
    bins = list(bins)
    return {
        "expected_calibration_error": expected_calibration_error(bins),
        "bins": [
            {
                "from": k / SCORE_BINS,
                "to": (k + 1) / SCORE_BINS,
                "nuclei": each.count,
                "mean_score": each.sum / each.count if each.count else None,
                "precision": each.true / each.count if each.count else None,
            }
            for k, each in enumerate(bins)
        ],
    }


def red_table(red: RedCounts) -> dict[str, Any]:
    """Return how many of the predicted nuclei are red, as JSON has it."""
    share = red.red / red.found if red.found else None
    return {"found": red.found, "red": red.red, "red_false": red.red_false, "share": share}
