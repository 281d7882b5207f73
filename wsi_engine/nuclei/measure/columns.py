"""What a column of a table means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Measurements = dict[str, npt.NDArray[np.float32]]
"""float32 columns of shape (n,) by name."""

GROUP_NAMES = ("shape", "colour", "rgb", "texture", "ring", "context")
"""Names of the engine's own groups of measurements, known without loading them."""


@dataclass(frozen=True, slots=True)
class Column:
    """One measurement.

    Attributes
    ----------
    name
        Name of the column in files; QuPath's own name where QuPath measures the same.
    unit
        ``µm``, ``µm^2``, ``OD``, ``OD/µm``, ``°``, ``bit``; empty for a number without unit.
    formula
        How the value comes about, in a sentence.
    source
        Publication or program that defined it.
    essential
        Whether QuPath gets it by default.
    pixel_um
        Size in µm, across and down, of the pixels that it was measured on; ``None`` for what
        needs no pixels, and where the slide is not known.
    """

    name: str
    unit: str
    formula: str
    source: str
    essential: bool = False
    pixel_um: tuple[float, float] | None = None


def by_name(columns: Sequence[Column], values: npt.NDArray[np.float32]) -> Measurements:
    """Name the values that a kernel wrote.

    Kernels return a named tuple of numbers for a nucleus, and the same class, filled with
    columns, describes them: so a value and its description meet by the name of the field.

    Parameters
    ----------
    columns
        That named tuple, with a column in each of its k fields.
    values
        A row for each nucleus, in the order of the fields; float32, shape (n, k).
    """
    return {column.name: own for column, own in zip(columns, values.T, strict=True)}
