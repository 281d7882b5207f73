"""Four fields as one, for crops that show more than a field holds.

Where nuclei are to look small, a crop reaches beyond its field, and what lies there is known
to nobody. Beside it three other fields of its set are laid, so that all of it teaches
(Bochkovskiy et al., "YOLOv4", 2020, call it a mosaic).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.training.classes import NO_CLASS
from wsi_engine.training.fields import Field

T = TypeVar("T", bound=np.generic)


def mosaic(field: Field, others: Sequence[Field], rng: np.random.Generator) -> Field:
    """Lay four fields of one size together, one of them ``field``, in any order.

    Nuclei that reach to a seam are unknown: the rest of them is nowhere.

    Parameters
    ----------
    others
        Fields to choose from; those of another size are passed over. Where there is none of
        its size, ``field`` is returned as it is.
    """
    alike = [other for other in others if _fits(other, field)]
    if not alike:
        return field
    four = [field, *(alike[k] for k in rng.integers(len(alike), size=3))]
    four = [four[k] for k in rng.permutation(4)]
    labels, peaks, classes = [], [np.zeros(1, np.float32)], [np.full(1, NO_CLASS, np.int16)]
    count = 0
    for k, each in enumerate(four):
        labels.append(_shifted(_without_cut(each.labels, k), count))
        peaks.append(each.peaks[1:])
        classes.append(each.classes[1:])
        count += len(each.peaks) - 1
    taught = [each.taught for each in four if each.taught is not None]
    return Field(
        field.name,
        field.group,
        _joined([each.image for each in four]),
        _joined(labels),
        np.concatenate(peaks),
        np.concatenate(classes),
        field.mpp,
        _joined(taught) if taught else None,
    )


def _fits(other: Field, field: Field) -> bool:
    def shape(taught: npt.NDArray[np.uint8] | None) -> tuple[int, ...] | None:
        return None if taught is None else taught.shape

    return (
        other.image.shape == field.image.shape
        and other.mpp == field.mpp
        and shape(other.taught) == shape(field.taught)
        and len(other.peaks) < UNKNOWN // 4
        and len(field.peaks) < UNKNOWN // 4
    )


def _without_cut(labels: npt.NDArray[np.uint16], place: int) -> npt.NDArray[np.uint16]:
    """Make the nuclei unknown that reach to the seams of a place, from left to right, then down."""
    row, column = -1 if place < 2 else 0, -1 if place % 2 == 0 else 0
    cut = np.union1d(labels[row], labels[:, column])
    cut = cut[(cut != 0) & (cut != UNKNOWN)]
    return np.where(np.isin(labels, cut), UNKNOWN, labels).astype(np.uint16)


def _shifted(labels: npt.NDArray[np.uint16], by: int) -> npt.NDArray[np.uint16]:
    nucleus = (labels != 0) & (labels != UNKNOWN)
    return np.where(nucleus, labels + np.uint16(by), labels).astype(np.uint16)


def _joined(four: list[npt.NDArray[T]]) -> npt.NDArray[T]:
    rows = [np.concatenate(four[k : k + 2], axis=1) for k in (0, 2)]
    return np.concatenate(rows, axis=0)
