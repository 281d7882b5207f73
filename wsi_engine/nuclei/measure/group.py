"""What a group of measurements is: a name, its columns, and the function that fills them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import MeasurementError
from wsi_engine.nuclei.measure.columns import Column, Measurements
from wsi_engine.nuclei.measure.view import OutlineView, PixelView
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.stain_vectors import Stains


@dataclass(frozen=True)
class MeasurementGroup:
    """Measurements that are switched on together; one of the three kinds below.

    Attributes
    ----------
    name
        How the setting ``measure`` calls it.
    columns
        Describes the columns, in their order, for the stains of a slide.
    """

    name: str
    columns: Callable[[Stains], Sequence[Column]]


@dataclass(frozen=True)
class OutlineGroup(MeasurementGroup):
    """Measurements of the outline alone: those of a nucleus that is drawn by hand, too.

    Attributes
    ----------
    measure
        Returns the columns by name, each of shape (n,), for the n nuclei of a view.
    """

    measure: Callable[[OutlineView], Measurements]


@dataclass(frozen=True)
class PixelGroup(MeasurementGroup):
    """Measurements of the pixels of a tile.

    Attributes
    ----------
    measure
        Returns the columns by name, each of shape (n,), for the n nuclei of a view.
    neighbourhood_um
        How far from a nucleus another one still changes what is measured of it.
    """

    measure: Callable[[PixelView], Measurements]
    neighbourhood_um: float = 0.0


@dataclass(frozen=True)
class ContextGroup(MeasurementGroup):
    """Measurements of nuclei against one another, made when all that are near are known.

    Attributes
    ----------
    measure
        Returns the columns by name, each of shape (m,), from the anchors of all nuclei (float64,
        shape (n, 2), QuPath pixels), the pixel size, and the positions of those to measure
        (int64, shape (m,); ``None`` for all).
    neighbourhood_um
        How far from a nucleus another one still changes what is measured of it.
    """

    measure: Callable[[npt.NDArray[np.float64], Mpp, npt.NDArray[np.int64] | None], Measurements]
    neighbourhood_um: float


def in_order(
    measured: Measurements, columns: Sequence[Column], count: int, group: str
) -> npt.NDArray[np.float32]:
    """Put measured columns into the order of their descriptions.

    Parameters
    ----------
    measured
        Values by name of the column, each of shape (count,).
    columns
        Their descriptions.
    count
        Number of nuclei.
    group
        Name of the group, for the error.

    Returns
    -------
    ndarray
        float32, shape (count, len(columns)).

    Raises
    ------
    MeasurementError
        When the columns are not those that are described, or not of that length.
    """
    names = {column.name for column in columns}
    if names != measured.keys():
        (odd, *_) = sorted(names ^ measured.keys())
        lacks = "describes" if odd in names else "measures"
        other = "measure" if odd in names else "describe"
        raise MeasurementError(
            f"the group of measurements {group!r} {lacks} the column {odd!r} and does not {other} "
            "it: mend the package that it comes from"
        )
    out = np.empty((count, len(columns)), np.float32)
    for k, column in enumerate(columns):
        values: npt.NDArray[Any] = np.asarray(measured[column.name])
        if values.shape != (count,):
            raise MeasurementError(
                f"the group of measurements {group!r} gives {column.name!r} in the shape "
                f"{values.shape} for {count} nuclei: mend the package that it comes from"
            )
        out[:, k] = values
    return out
