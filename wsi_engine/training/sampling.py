"""Which field, and which place in it, a crop is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.training.datasets import DataSet
from wsi_engine.training.fields import Field


@dataclass(frozen=True, slots=True)
class Source:
    """The training fields of one set."""

    data: DataSet
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a crop is drawn: anywhere in a field, or around a place (y, x) in its pixels."""

    source: Source
    field: Field
    around: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class _Nuclei:
    """The nuclei of one class in one set: index of the field and middle (y, x), n of each."""

    source: int
    fields: npt.NDArray[np.intp]
    middles: npt.NDArray[np.float64]


class Sampler:
    """Draws spots from sets as often as their weights say, rare classes as often as common ones.

    Parameters
    ----------
    sources
        Sets without a field or with weight 0 are left out.
    class_balance
        Share of the spots that lie around a nucleus of a class. The class is any of those
        that occur, with equal chances; its set one of those that have it, by weight; the
        nucleus any of the set's.

    Raises
    ------
    DatasetError
        If nothing is left to draw from.
    """

    def __init__(self, sources: Sequence[Source], class_balance: float = 0.0) -> None:
        self._sources = [s for s in sources if s.fields and s.data.config.weight > 0]
        if not self._sources:
            raise DatasetError("no image is left to train on: all are held out or have weight 0")
        self._weights = np.array([source.data.config.weight for source in self._sources], float)
        self._by_class = _nuclei_by_class(self._sources) if class_balance > 0 else []
        self._class_balance = class_balance if self._by_class else 0.0

    def draw(self, rng: np.random.Generator) -> Spot:
        """Draw a spot. Without balance no number is taken from the generator for it."""
        if self._class_balance > 0 and rng.random() < self._class_balance:
            return self._draw_nucleus(rng)
        source = self._sources[rng.choice(len(self._sources), p=_shares(self._weights))]
        return Spot(source, source.fields[rng.integers(len(source.fields))])

    def _draw_nucleus(self, rng: np.random.Generator) -> Spot:
        having = self._by_class[rng.integers(len(self._by_class))]
        weights = self._weights[[nuclei.source for nuclei in having]]
        nuclei = having[rng.choice(len(having), p=_shares(weights))]
        chosen = rng.integers(len(nuclei.fields))
        source = self._sources[nuclei.source]
        y, x = nuclei.middles[chosen].tolist()
        return Spot(source, source.fields[nuclei.fields[chosen]], (y, x))


def _shares(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return weights / weights.sum()


def _nuclei_by_class(sources: Sequence[Source]) -> list[list[_Nuclei]]:
    """List, for each class that occurs, its nuclei in each set that has some."""
    classes = {int(c) for s in sources for field in s.fields for c in field.classes if c >= 0}
    middles = [[_middles(field) for field in source.fields] for source in sources]
    by_class = []
    for kind in sorted(classes):
        having = []
        for number, source in enumerate(sources):
            chosen = [
                of_field[np.isfinite(of_field[:, 0]) & (field.classes == kind)]
                for field, of_field in zip(source.fields, middles[number], strict=True)
            ]
            fields = np.repeat(np.arange(len(chosen)), [len(part) for part in chosen])
            if len(fields):
                having.append(_Nuclei(number, fields, np.concatenate(chosen)))
        if having:
            by_class.append(having)
    return by_class


def _middles(field: Field) -> npt.NDArray[np.float64]:
    """Return the middle (y, x) of each nucleus' bounding box by label, NaN where there is none."""
    middles = np.full((len(field.classes), 2), np.nan)
    known = np.where(field.labels == UNKNOWN, 0, field.labels)
    for number, box in enumerate(find_objects(known.astype(np.int32)), start=1):
        if box is not None:
            middles[number] = [(side.start + side.stop) / 2 for side in box]
    return middles
