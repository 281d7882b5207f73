"""Where the cores of a tissue microarray lie in its grid, as QuPath's names tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import shapely

Place = tuple[str | None, str | None]
"""Row and column."""


def places_of(names: Sequence[str], shapes: Sequence[shapely.Geometry]) -> list[Place]:
    """Return row and column of each core, as names such as ``A-1`` tell them.

    The dearrayer of QuPath names rows first, or columns if it is told so. What the names mean is
    seen from where the cores lie: those of one row lie beside each other.

    Parameters
    ----------
    names
        Names of all cores of a slide, shape (n,).
    shapes
        Their outlines.

    Returns
    -------
    list of tuple
        Row and column; ``None`` for a core that has another kind of name.
    """
    parts = [name.partition("-") for name in names]
    centres: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for (first, dash, second), shape in zip(parts, shapes, strict=True):
        if first and dash and second:
            centre = shape.centroid
            centres[first].append((centre.x, centre.y))
    spread = sum((np.var(group, axis=0) * len(group) for group in centres.values()), np.zeros(2))
    is_column_first = spread[0] < spread[1]
    places: list[Place] = []
    for first, dash, second in parts:
        if not (first and dash and second):
            places.append((None, None))
        else:
            places.append((second, first) if is_column_first else (first, second))
    return places
