"""The classes of nuclei: from names and images to the indices that the network learns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.nuclei import predictions

Classes = npt.NDArray[np.int16]

NO_CLASS = predictions.NO_CLASS
"""Class of a nucleus that counts for its shape only."""


@dataclass(frozen=True, slots=True)
class ClassIndex:
    """Turns the class names of one set into indices.

    Attributes
    ----------
    known
        Names that the run learns. Where there are none, no nucleus has a class.
    rename
        Map from the set's own names to those; ``None`` for no class.
    """

    known: tuple[str, ...] = ()
    rename: Mapping[str, str | None] = field(default_factory=dict)

    def of(self, names: Iterable[str], where: Path) -> Classes:
        """Return the index of each name, `NO_CLASS` for an empty one.

        Raises
        ------
        DatasetError
            If a name is not known; the message suggests the nearest.
        """
        names = list(names)
        if not self.known:
            return np.full(len(names), NO_CLASS, np.int16)
        index = {name: self._index(name, where) for name in dict.fromkeys(names)}
        return np.array([index[name] for name in names], np.int16)

    def by_label(self, names: Iterable[str], where: Path) -> Classes:
        """Return the class index by label, where the k-th of the names is that of label k + 1."""
        return np.concatenate([np.array([NO_CLASS], np.int16), self.of(names, where)])

    def _index(self, name: str, where: Path) -> int:
        meant = self.rename.get(name, name) if name else None
        if not meant:
            return NO_CLASS
        if meant in self.known:
            return self.known.index(meant)
        renamed = f" (renamed from {name!r})" if meant != name else ""
        near = difflib.get_close_matches(meant, self.known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DatasetError(
            f"{where}: the class {meant!r}{renamed} of a nucleus is not among the classes of the "
            f"run, {', '.join(self.known)}{hint}: add it to classes, or say in the set's rename "
            f"which of them it is (null for none)"
        )


def classes_from_image(
    labels: npt.NDArray[np.uint16],
    kinds: npt.NDArray[np.uint16],
    names: tuple[str, ...],
    index: ClassIndex,
    where: Path,
) -> Classes:
    """Give each nucleus the class that most of its pixels have.

    Parameters
    ----------
    labels
        uint16 (h, w), k in nucleus k.
    kinds
        uint16 (h, w): 0 for unknown, k for the k-th name.

    Returns
    -------
    numpy.ndarray
        Class index by label; `NO_CLASS` for labels that do not occur.

    Raises
    ------
    DatasetError
        If the images differ in size, or a number has no name.
    """
    if labels.shape != kinds.shape:
        raise DatasetError(
            f"{where} has {kinds.shape[1]} x {kinds.shape[0]} pixels, its label image "
            f"{labels.shape[1]} x {labels.shape[0]}: they do not belong together"
        )
    nuclei = (labels != 0) & (labels != UNKNOWN)
    number = np.where(kinds[nuclei] == UNKNOWN, 0, kinds[nuclei]).astype(np.int64)
    highest = int(number.max(initial=0))
    if highest > len(names):
        raise DatasetError(
            f"{where} holds the class {highest}, but there are only {len(names)} names: "
            f"{', '.join(names)}; state them all in the set's class_names"
        )
    count = int(labels[nuclei].max(initial=0)) + 1
    width = len(names) + 1
    pixels = np.bincount(labels[nuclei] * np.int64(width) + number, minlength=count * width)
    majority = pixels.reshape(count, width).argmax(axis=1)
    return index.of([("", *names)[k] for k in majority.tolist()], where)
