"""What is known of regions beside their numbers: the place of a core, what was noted in QuPath."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.results.region import Region

Notes = dict[Column, list[str | None]]
"""Text of each region by what it means, in the order of the table."""

Place = tuple[str | None, str | None]

CORE_PLACE = (
    Column("TMA row", "", "row of the core in its microarray, by its name", "QuPath"),
    Column("TMA column", "", "column of the core in its microarray, by its name", "QuPath"),
)


def notes_of(regions: Sequence[Region], taken: Collection[str]) -> Notes:
    """Collect row and column of cores, and the metadata of all regions.

    Parameters
    ----------
    regions
        Regions in the order of the table.
    taken
        Names of its other columns: one that is called alike gets a number.
    """
    names = {*taken, *(column.name for column in CORE_PLACE)}
    notes: Notes = {}
    if any(region.is_core for region in regions):
        rows, columns = zip(*core_places(regions), strict=True)
        notes = dict(zip(CORE_PLACE, map(list, (rows, columns)), strict=True))
    for key in dict.fromkeys(key for region in regions for key in region.metadata):
        name, number = key, 1
        while name in names:
            number += 1
            name = f"{key} ({number})"
        names.add(name)
        column = Column(name, "", f"metadata {key!r} of the region", "QuPath")
        notes[column] = [region.metadata.get(key) for region in regions]
    return notes


def core_places(regions: Sequence[Region]) -> list[Place]:
    """Return row and column of each core, as QuPath's names such as ``A-1`` tell them.

    The dearrayer of QuPath names rows first, or columns if it is told so. What the names mean is
    seen from where the cores lie: those of one row lie beside each other.

    Returns
    -------
    list of tuple
        Row and column; ``None`` for what is no core, or has another kind of name.
    """
    parts = [region.name.partition("-") if region.is_core else ("", "", "") for region in regions]
    centres: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for (first, dash, second), region in zip(parts, regions, strict=True):
        if first and dash and second:
            centre = region.geometry.centroid
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
