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
    """Nuclei of one set: index of the field and middle (y, x), n of each."""

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
        self._nuclei = [
            _nuclei(number, source, [field.peaks > 0 for field in source.fields])
            if source.data.config.around_nuclei > 0
            else None
            for number, source in enumerate(self._sources)
        ]

    def draw(self, rng: np.random.Generator) -> Spot:
        """Draw a spot. Without balance no number is taken from the generator for it."""
        if self._class_balance > 0 and rng.random() < self._class_balance:
            return self._draw_nucleus(rng)
        number = int(rng.choice(len(self._sources), p=_shares(self._weights)))
        source, nuclei = self._sources[number], self._nuclei[number]
        if nuclei is not None and rng.random() < source.data.config.around_nuclei:
            return self._around_one(nuclei, rng)
        return Spot(source, source.fields[rng.integers(len(source.fields))])

    def _draw_nucleus(self, rng: np.random.Generator) -> Spot:
        having = self._by_class[rng.integers(len(self._by_class))]
        weights = self._weights[[nuclei.source for nuclei in having]]
        return self._around_one(having[rng.choice(len(having), p=_shares(weights))], rng)

    def _around_one(self, nuclei: _Nuclei, rng: np.random.Generator) -> Spot:
        """Return a spot around any of some nuclei."""
        chosen = rng.integers(len(nuclei.fields))
        source = self._sources[nuclei.source]
        y, x = nuclei.middles[chosen].tolist()
        return Spot(source, source.fields[nuclei.fields[chosen]], (y, x))


def _shares(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return weights / weights.sum()


def _nuclei_by_class(sources: Sequence[Source]) -> list[list[_Nuclei]]:
    """List, for each class that occurs, its nuclei in each set that has some."""
    classes = {int(c) for s in sources for field in s.fields for c in field.classes if c >= 0}
    by_class = []
    for kind in sorted(classes):
        having = []
        for number, source in enumerate(sources):
            nuclei = _nuclei(number, source, [field.classes == kind for field in source.fields])
            if nuclei is not None:
                having.append(nuclei)
        if having:
            by_class.append(having)
    return by_class


def _nuclei(number: int, source: Source, which: Sequence[npt.NDArray[np.bool_]]) -> _Nuclei | None:
    """List some nuclei of a set, of each field by label; ``None`` if there are none."""
    chosen = []
    for field, wanted in zip(source.fields, which, strict=True):
        if not wanted.any():
            chosen.append(np.empty((0, 2)))
            continue
        middles = _middles(field)
        chosen.append(middles[np.isfinite(middles[:, 0]) & wanted])
    fields = np.repeat(np.arange(len(chosen)), [len(part) for part in chosen])
    return _Nuclei(number, fields, np.concatenate(chosen)) if len(fields) else None


def _middles(field: Field) -> npt.NDArray[np.float64]:
    """Return the middle (y, x) of each nucleus' bounding box by label, NaN where there is none."""
    middles = np.full((len(field.classes), 2), np.nan)
    known = np.where(field.labels == UNKNOWN, 0, field.labels)
    for number, box in enumerate(find_objects(known.astype(np.int32)), start=1):
        if box is not None:
            middles[number] = [(side.start + side.stop) / 2 for side in box]
    return middles
