"""Positive or not, and how strongly, by thresholds on one measurement, as QuPath decides it.

QuPath's rule is ``PathObjectTools.setIntensityClassification``: a value of a threshold or more
reaches it, and a nucleus without the measurement is neither positive nor negative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator

NEGATIVE, POSITIVE = "Negative", "Positive"
GRADED = ("1+", "2+", "3+")
GRADES = (NEGATIVE, POSITIVE, *GRADED)
"""Names of QuPath's classes of intensity."""

DEFAULT_THRESHOLD = 0.2
"""Optical density: that of QuPath's *Positive cell detection*, which takes one by default and
0.2, 0.4 and 0.6 for three (``PositiveCellDetection.getDefaultParameterList``)."""

_NUMBERS = re.compile(r"(?:[-+.,\d\se]|nan|inf)+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Positivity:
    """Thresholds on a measurement.

    Attributes
    ----------
    measurement
        A measurement, such as ``DAB: Mean`` or ``Cell: DAB: Max``, or a stain, ``dab``, for its
        mean in the nucleus; upper and lower case are the same.
    thresholds
        One, for positive and negative, or three, for 1+, 2+ and 3+; rising. QuPath's rule takes
        two as well.
    """

    measurement: str
    thresholds: tuple[float, ...] = (DEFAULT_THRESHOLD,)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``dab``, ``dab:0.2`` or ``Cytoplasm: DAB: Mean:0.2,0.4,0.6``.

        Raises
        ------
        ValueError
            When it names no measurement, or thresholds are neither one nor three, no numbers, or
            fall.
        """
        name, colon, numbers = text.rpartition(":")
        if not _NUMBERS.fullmatch(numbers):
            # Within the name of a measurement, a colon has a blank behind it.
            if colon and numbers and not numbers[0].isspace():
                raise ValueError(f"{numbers} is no number, as a threshold is, such as dab:0.2")
            name, numbers = text, str(DEFAULT_THRESHOLD)
        elif _NUMBERS.fullmatch(name.rpartition(":")[2]) and ":" in name:
            raise ValueError("thresholds have commas between them, as in dab:0.2,0.4,0.6")
        if not name.strip(" :"):
            raise ValueError("name the measurement, such as dab:0.2")
        thresholds = tuple(map(_threshold, numbers.split(",")))
        if any(a >= b for a, b in pairwise(thresholds)):
            raise ValueError("thresholds must rise, as in dab:0.2,0.4,0.6")
        if len(thresholds) not in (1, len(GRADED)):
            raise ValueError(
                f"there is one threshold, or three for 1+, 2+ and 3+, and not {len(thresholds)}"
            )
        return cls(name.strip(" :"), thresholds)

    def __str__(self) -> str:
        return f"{self.measurement}:{','.join(map(_spelt, self.thresholds))}"

    @property
    def grades(self) -> tuple[str, ...]:
        """Names of the classes that it tells apart, the negative one first."""
        if len(self.thresholds) == 1:
            return NEGATIVE, POSITIVE
        return NEGATIVE, *GRADED[: len(self.thresholds)]

    def grade(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
        """Return the index into `grades` of each value, shape (n,); -1 for NaN."""
        # In float64, as QuPath compares: 0.2 in float32 reaches a threshold of 0.2.
        exact = values.astype(np.float64)
        reached = np.searchsorted(self.thresholds, exact, side="right").astype(np.int16)
        return np.where(np.isnan(exact), np.int16(-1), reached)

    def column_in(self, names: Sequence[str]) -> str | None:
        """Return the measurement by its name in a table; ``None`` where the table lacks it."""
        by_key = {_key(name): name for name in names}
        key = _key(self.measurement)
        return by_key.get(key) or by_key.get(f"{key}: mean")


def _threshold(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text.strip() or 'nothing'} is no number, as a threshold is")
    return number


def _spelt(threshold: float) -> str:
    return repr(threshold).removesuffix(".0")


def _key(name: str) -> str:
    """Spell names of measurements alike: as the table does, QuPath's cells, or QuPath 0.1."""
    key = re.sub(r"\s+", " ", name).strip().lower().removeprefix("nucleus: ")
    return re.sub(r" od (mean|median|min|max|std\.?\s?dev\.?)$", r": \1", key)


def _checked(value: Any) -> Any:
    return str(Positivity.parse(value)) if isinstance(value, str) else value


PositiveSetting = Annotated[str, BeforeValidator(_checked)]
"""A `Positivity` as a setting spells it."""
