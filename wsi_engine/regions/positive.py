"""Scores of immunohistochemistry: positive %, H-score, Allred's, with QuPath's names and rules.

QuPath counts them in ``DetectionPathClassCounts``. The percentage of a Ki-67 stain is its index.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.positivity import GRADED, GRADES, NEGATIVE
from wsi_engine.qupath.intensity import base_of, derived, grade_of, is_ignored

Z_95 = 1.959963984540054
"""Quantile of the standard normal distribution that leaves 2.5 % above it."""

DETECTIONS, PERCENT, H_SCORE, ALLRED = "Num Detections", "Positive %", "H-score", "Allred score"

_QUPATH = "QuPath, DetectionPathClassCounts"
_WILSON = "Wilson, J Am Stat Assoc 22:209 (1927)"
_UNCLASSIFIED = "Unclassified"

_Counts = dict[str, int]
"""Numbers of nuclei by the intensity that they have."""


def intensity_figures(
    counts: Mapping[str | None, int], expected: Iterable[str] = ()
) -> dict[Column, float]:
    """Return the scores of a region; none where no class is an intensity.

    Parameters
    ----------
    counts
        Number of nuclei of each class.
    expected
        Classes of intensity that were told apart; they count even where no nucleus is of them.
    """
    of_bases = _by_base(counts, expected)
    if not of_bases:
        return {}
    detections = Column(DETECTIONS, "", "nuclei, whatever their class", "QuPath")
    figures = {detections: float(sum(counts.values()))}
    for base, own in of_bases.items():
        for grade, count in own.items():
            name = derived(base, grade)
            figures[Column(f"Num {name}", "", f"nuclei of class {name}", "QuPath")] = float(count)
    for base, own in of_bases.items():
        figures |= _scores("" if base is None else f"{base}: ", own)
    if len(of_bases) > 1:
        names = sorted(_UNCLASSIFIED if base is None else base for base in of_bases)
        together = {
            grade: sum(own.get(grade, 0) for own in of_bases.values())
            for grade in GRADES
            if any(grade in own for own in of_bases.values())
        }
        figures |= _scores(f"{' + '.join(names)}: ", together)
    return figures


def _by_base(
    counts: Mapping[str | None, int], expected: Iterable[str]
) -> dict[str | None, _Counts]:
    """Sort the classes of intensity by what they are of, and by how strong they are."""
    named = {name for name in (*counts, *expected) if name is not None and grade_of(name)}
    bases = {base_of(name) for name in named}
    return {
        base: {
            grade: counts.get(derived(base, grade), 0)
            for grade in GRADES
            if derived(base, grade) in named
        }
        for base in sorted(bases, key=lambda base: (base is not None, base))
        if not is_ignored(base)
    }


def _scores(title: str, counts: _Counts) -> dict[Column, float]:
    negative, total = counts.get(NEGATIVE, 0), sum(counts.values())
    positive = total - negative
    formula = "positive / (positive + negative)"
    low, high = wilson_interval(positive, total)
    percent = 100 * positive / total if total else math.nan
    name = f"{title}{PERCENT}"
    figures = {
        Column(name, "%", f"{formula}, the index of a Ki-67 stain", _QUPATH): percent,
        Column(f"{name}: 95% CI low", "%", f"Wilson interval of {formula}", _WILSON): 100 * low,
        Column(f"{name}: 95% CI high", "%", f"Wilson interval of {formula}", _WILSON): 100 * high,
    }
    if not counts.keys() & set(GRADED):
        return figures
    graded = [counts.get(grade, 0) for grade in GRADED]
    proportion, intensity = allred(graded, positive, total)
    score = Column(f"{title}{H_SCORE}", "", "% of 1+, twice that of 2+, thrice of 3+", _QUPATH)
    shares = "share of positive: 1 any, 2 from 1 %, 3 from 10 %, 4 from 1/3, 5 from 2/3"
    means = "mean grade of positive: 1, 2 above 5/3, 3 above 7/3; 0 without any"
    return figures | {
        score: h_score(graded, negative),
        Column(f"{title}Allred proportion", "", shares, _QUPATH): proportion,
        Column(f"{title}Allred intensity", "", means, _QUPATH): intensity,
        Column(f"{title}{ALLRED}", "", "proportion + intensity, 0 to 8", _QUPATH): proportion
        + intensity,
    }


def h_score(graded: Sequence[int], negative: int) -> float:
    """Return the H-score of numbers of 1+, 2+ and 3+, and of negative ones; NaN without any.

    Examples
    --------
    >>> h_score([10, 20, 30], 40)
    140.0
    """
    total = sum(graded) + negative
    return sum(k * n for k, n in enumerate(graded, start=1)) / total * 100 if total else math.nan


def allred(graded: Sequence[int], positive: int, total: int) -> tuple[float, float]:
    """Return Allred's proportion and intensity; NaN without nuclei, where QuPath says 0.

    Parameters
    ----------
    graded
        Numbers of 1+, 2+ and 3+.
    positive, total
        Number of all positive nuclei, and of these and the negative ones.

    Examples
    --------
    >>> allred([10, 20, 30], 60, 100)
    (4.0, 2.0)
    """
    if total == 0:
        return math.nan, math.nan
    share = positive / total
    if share == 0:
        return 0.0, 0.0
    proportion = 1 + sum(share >= least for least in (0.01, 0.1, 1 / 3, 2 / 3))
    mean = sum(k * n for k, n in enumerate(graded, start=1)) / positive
    return float(proportion), float(1 + (mean > 5 / 3) + (mean > 7 / 3))


def wilson_interval(positive: int, total: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share, 0 to 1; NaN without nuclei.

    It takes nuclei for independent, which neighbours are not quite: it says how much their number
    leaves open, and nothing of the choice of the region.

    Examples
    --------
    >>> [round(end, 4) for end in wilson_interval(30, 200)]
    [0.1071, 0.2061]
    """
    if total == 0:
        return math.nan, math.nan
    share, z2 = positive / total, Z_95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    spread = share * (1 - share) / total + z2 / (4 * total**2)
    half = Z_95 / (1 + z2 / total) * math.sqrt(spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)
