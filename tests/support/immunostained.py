"""Drawn H-DAB tissue with truth, and QuPath's rules of intensity, written down from its source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsi_engine.phantom import (
    PhantomNuclei,
    lay_out_tissue,
    render_immunostain,
    scatter_nuclei,
)
from wsi_engine.phantom.immunostain import Where

MPP = 0.5


@dataclass(frozen=True)
class Immunostained:
    """A field of tissue, its nuclei, and the DAB of each; 0 for a negative one."""

    rgb: npt.NDArray[np.uint8]
    nuclei: PhantomNuclei
    dab: npt.NDArray[np.float64]

    def write(self, path: Path) -> Path:
        Image.fromarray(self.rgb).save(path)
        return path


@cache
def immunostained(where: Where = "nuclei", seed: int = 1, side: int = 640) -> Immunostained:
    """Draw a field in which two fifths of the nuclei are positive, or the cytoplasm of glands."""
    rng = np.random.default_rng(seed)
    tissue = lay_out_tissue((side, side), MPP, rng)
    nuclei = scatter_nuclei(tissue, rng)
    positive = rng.random(len(nuclei)) < 0.4
    dab = np.where(positive, rng.uniform(0.25, 1.1, len(nuclei)), 0.0)
    if where == "cytoplasm":
        dab[:] = 0.5
    return Immunostained(
        render_immunostain((side, side), nuclei, dab, MPP, rng, tissue, where), nuclei, dab
    )


# QuPath's Java, line by line: PathClassTools, PathObjectTools.setIntensityClassification, and
# DetectionPathClassCounts, as published for 0.4 to 0.7. A class is a tuple of names.

_POSITIVE = ("Positive", "1+", "2+", "3+")


def qupath_base(names: tuple[str, ...]) -> tuple[str, ...]:
    while names and names[-1] in (*_POSITIVE, "Negative"):
        names = names[:-1]
    return names


def qupath_class(
    names: tuple[str, ...], value: float, thresholds: Sequence[float]
) -> tuple[str, ...]:
    """The class of an object after `setIntensityClassification`."""
    base = qupath_base(names)
    if base and base[-1].endswith("*"):
        return names
    if math.isnan(value):
        return base
    if value < thresholds[0]:
        return (*base, "Negative")
    if len(thresholds) == 1:
        return (*base, "Positive")
    if len(thresholds) >= 3 and value >= thresholds[2]:
        return (*base, "3+")
    if len(thresholds) >= 2 and value >= thresholds[1]:
        return (*base, "2+")
    return (*base, "1+")


class QuPathCounts:
    """`DetectionPathClassCounts` of classes, each a tuple of names."""

    def __init__(self, counts: Counter[tuple[str, ...]]) -> None:
        self._counts = counts

    def _of(self, wanted: Sequence[str], ancestor: tuple[str, ...]) -> int:
        total = 0
        for names, count in self._counts.items():
            if not names or names[-1] not in wanted:
                continue
            within = len(names) == 1 if not ancestor else names[: len(ancestor)] == ancestor
            total += count if within else 0
        return total

    def positive_percentage(self, *ancestors: tuple[str, ...]) -> float:
        positive = sum(self._of(_POSITIVE, a) for a in ancestors)
        negative = sum(self._of(["Negative"], a) for a in ancestors)
        total = positive + negative
        return positive / total * 100 if total else math.nan

    def h_score(self, *ancestors: tuple[str, ...]) -> float:
        one, two, three = (sum(self._of([g], a) for a in ancestors) for g in ("1+", "2+", "3+"))
        negative = sum(self._of(["Negative"], a) for a in ancestors)
        total = one + two + three + negative
        return (one * 1 + two * 2 + three * 3) / total * 100 if total else math.nan

    def allred_proportion(self, *ancestors: tuple[str, ...]) -> int:
        proportion = self.positive_percentage(*ancestors) / 100.0
        if proportion >= 2.0 / 3.0:
            return 5
        if proportion >= 1.0 / 3.0:
            return 4
        if proportion >= 0.1:
            return 3
        if proportion >= 0.01:
            return 2
        return 1 if proportion > 0 else 0

    def allred_intensity(self, *ancestors: tuple[str, ...]) -> int:
        if self.allred_proportion(*ancestors) == 0:
            return 0
        one, two, three = (sum(self._of([g], a) for a in ancestors) for g in ("1+", "2+", "3+"))
        mean = (one + two * 2.0 + three * 3.0) / sum(self._of(_POSITIVE, a) for a in ancestors)
        return 3 if mean > 7.0 / 3.0 else 2 if mean > 5.0 / 3.0 else 1
