"""The order in which nuclei go to a page: few of all the slide first, then ever more, by place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FIRST_LEVEL = 16_384
"""Nuclei of the coarsest level of detail; each further one has four times as many."""

MOST_LEVELS = 8


@dataclass(frozen=True)
class DrawingOrder:
    """Nuclei by level of detail, within a level by cell, within a cell at random.

    Level ``l`` is a random sample of all nuclei, whatever the levels before it left, in
    ``4 ** l`` square cells that are numbered along a Z-curve. So the first nuclei are a picture
    of the whole slide, every beginning of the order thins it evenly, and what lies in a part of
    the slide is a few ranges.

    Attributes
    ----------
    rows
        uint32, shape (n,): the row of the table that stands at each place of the order.
    starts
        For each level the first place of each cell, and one past its last: int64, shape
        (4 ** level + 1,).
    side_px
        Side of the square, in QuPath pixels, that the cells of each level divide.
    """

    rows: npt.NDArray[np.uint32]
    starts: tuple[npt.NDArray[np.int64], ...]
    side_px: float


def drawing_order(
    points: npt.NDArray[np.float64], side_px: float, first_level: int = FIRST_LEVEL
) -> DrawingOrder:
    """Put nuclei in order; the same nuclei always come to be in the same.

    Parameters
    ----------
    points
        QuPath pixels, shape (n, 2); what lies outside of the slide counts to the nearest cell.
    side_px
        Longer side of the slide.
    first_level
        Number of nuclei of level 0.
    """
    count = len(points)
    rank = np.random.default_rng(0).permutation(count).astype(np.uint64)
    ends = _ends_of_levels(count, first_level)
    level = np.searchsorted(ends, rank, side="right").astype(np.uint64)
    finest = len(ends) - 1
    share = np.clip(np.nan_to_num(points) / side_px, 0, 1)
    column, row = np.minimum((share * 2**finest).astype(np.uint64), 2**finest - 1).T
    coarsening = np.uint64(2) * (np.uint64(finest) - level)
    cell = z_number(column, row) >> coarsening
    key = (level << np.uint64(60)) | (cell << np.uint64(34)) | rank
    rows = np.argsort(key).astype(np.uint32)
    starts, before = [], 0
    for number in range(len(ends)):
        sizes = np.bincount(cell[level == number].astype(np.int64), minlength=4**number)
        starts.append(before + np.cumsum([0, *sizes]))
        before = int(starts[-1][-1])
    return DrawingOrder(rows, tuple(starts), side_px)


def _ends_of_levels(count: int, first_level: int) -> npt.NDArray[np.uint64]:
    ends = [min(first_level, count)]
    while ends[-1] < count and len(ends) < MOST_LEVELS:
        ends.append(min(ends[-1] + first_level * 4 ** len(ends), count))
    ends[-1] = count
    return np.array(ends, np.uint64)


def z_number(column: npt.NDArray[np.uint64], row: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the numbers of cells along a Z-curve, which is the bits of row and column by turns.

    Examples
    --------
    >>> z_number(np.array([0, 1, 0, 1, 2], np.uint64), np.array([0, 0, 1, 1, 0], np.uint64))
    array([0, 1, 2, 3, 4], dtype=uint64)
    """
    number = np.zeros_like(column)
    for bit in map(np.uint64, range(MOST_LEVELS)):
        number |= ((column >> bit) & np.uint64(1)) << (np.uint64(2) * bit)
        number |= ((row >> bit) & np.uint64(1)) << (np.uint64(2) * bit + np.uint64(1))
    return number
