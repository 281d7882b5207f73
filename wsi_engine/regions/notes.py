"""What is known of regions beside their numbers: the place of a core, what was noted in QuPath."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.qupath.cores import Place, places_of
from wsi_engine.results.region import Region

Notes = dict[Column, list[str | None]]
"""Text of each region by what it means, in the order of the table."""

CORE_PLACE = (
    Column("TMA row", "", "row of the core in its microarray, by its name", "QuPath"),
    Column("TMA column", "", "column of the core in its microarray, by its name", "QuPath"),
    Column(
        "TMA missing", "", "yes or no: marked as holding no tissue; other regions: empty", "QuPath"
    ),
)

_MISSING = {True: "yes", False: "no"}


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
        missing = [_MISSING[region.is_missing] if region.is_core else None for region in regions]
        notes = dict(zip(CORE_PLACE, map(list, (rows, columns, missing)), strict=True))
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
    """Return row and column of each core, as `wsi_engine.qupath.cores.places_of` tells them.

    Returns
    -------
    list of tuple
        Row and column; ``None`` for what is no core, or has another kind of name.
    """
    cores = [region for region in regions if region.is_core]
    found = iter(places_of([c.name for c in cores], [c.geometry for c in cores]))
    return [next(found) if region.is_core else (None, None) for region in regions]
