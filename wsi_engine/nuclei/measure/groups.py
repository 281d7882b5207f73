"""The table of measurement groups: those of the engine, and those that packages add.

A package adds a group by an entry point, whose name is that of the group::

    [project.entry-points."wsi_engine.measurements"]
    redness = "its_package.redness:GROUP"

``GROUP`` is an `OutlineGroup` or a `PixelGroup`. Nothing of a package is imported before a group
is asked for that the engine does not have itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import MeasurementError, SettingsError
from wsi_engine.nuclei.measure.colour import (
    measure_colour,
    measure_rgb,
    rgb_columns,
    stain_columns,
)
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.context import CONTEXT
from wsi_engine.nuclei.measure.cytoplasm import cytoplasm_of, measure_ring, ring_columns
from wsi_engine.nuclei.measure.group import (
    ContextGroup,
    MeasurementGroup,
    OutlineGroup,
    PixelGroup,
)
from wsi_engine.nuclei.measure.measurer import Measurer
from wsi_engine.nuclei.measure.ring import REACH_UM
from wsi_engine.nuclei.measure.shape import measure_shape, shape_columns
from wsi_engine.nuclei.measure.texture import measure_texture, texture_columns
from wsi_engine.nuclei.measure.view import OutlineView
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.plugins import Plugins, plugins
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.stain_vectors import Stains

ENTRY_POINTS = "wsi_engine.measurements"
"""The group of entry points by which packages add groups of measurements."""

GROUPS: dict[str, MeasurementGroup] = {
    group.name: group
    for group in (
        OutlineGroup("shape", shape_columns, measure_shape),
        PixelGroup("colour", stain_columns, measure_colour),
        PixelGroup("rgb", rgb_columns, measure_rgb),
        PixelGroup("texture", texture_columns, measure_texture),
        PixelGroup("ring", ring_columns, measure_ring, neighbourhood_um=REACH_UM),
        CONTEXT,
    )
}
"""The engine's own groups, by name."""


def find_groups(names: Iterable[str]) -> tuple[MeasurementGroup, ...]:
    """Return groups by name, those of installed packages as well.

    Raises
    ------
    SettingsError
        When there is no such group.
    MeasurementError
        When the package that brings a group is broken.
    """
    return tuple(_find_group(name) for name in names)


def _find_group(name: str) -> MeasurementGroup:
    if name in GROUPS:
        return GROUPS[name]
    others = _of_other_packages()
    if name in others.found:
        return others.found[name]
    if name in others.problems:
        raise MeasurementError(others.problems[name])
    known = ", ".join([*GROUPS, *others.found])
    raise SettingsError(f"measure: there is no group {name!r}; there are {known}")


def measurer_of(names: Sequence[str], stains: Stains, cells_um: float | None = None) -> Measurer:
    """Return what measures those of the groups that tiles measure, in their order.

    Parameters
    ----------
    names
        Names of the groups.
    stains
        Stain vectors of the slide.
    cells_um
        How far cells reach from their nuclei, if there are cells: the ring is then their cytoplasm.
    """
    groups = _groups_of_cells(names, cells_um)
    return Measurer([g for g in groups if isinstance(g, OutlineGroup | PixelGroup)], stains)


def _groups_of_cells(names: Sequence[str], cells_um: float | None) -> tuple[MeasurementGroup, ...]:
    groups = find_groups(names)
    if cells_um is None:
        return groups
    return tuple(cytoplasm_of(cells_um) if group.name == "ring" else group for group in groups)


def columns_of(
    names: Sequence[str],
    stains: Stains,
    pixel: Mpp | None = None,
    cells_um: float | None = None,
) -> tuple[Column, ...]:
    """Describe the columns of some groups; those of the context come last.

    Parameters
    ----------
    pixel
        Size of the pixels that are measured on, where the slide is known.
    cells_um
        As for `measurer_of`.

    Raises
    ------
    MeasurementError
        When two groups have a column of the same name.
    """
    groups = sorted(
        _groups_of_cells(names, cells_um), key=lambda group: isinstance(group, ContextGroup)
    )
    owners: dict[str, str] = {}
    columns = []
    for group in groups:
        for column in group.columns(stains):
            if column.name in owners:
                raise MeasurementError(
                    f"the groups of measurements {owners[column.name]!r} and {group.name!r} both "
                    f"have a column {column.name!r}: leave one of them out of --measure"
                )
            owners[column.name] = group.name
            if pixel is not None and isinstance(group, PixelGroup):
                column = replace(column, pixel_um=(pixel.x, pixel.y))
            columns.append(column)
    return tuple(columns)


def measured_alone(polygons: Polygons, names: Sequence[str], mpp: Mpp) -> npt.NDArray[np.float32]:
    """Measure what outlines tell without pixels and neighbours, by the engine's own groups.

    Parameters
    ----------
    polygons
        Outlines in QuPath pixels, shape (n,).
    names
        Names of the columns that are wanted.
    mpp
        Pixel size.

    Returns
    -------
    ndarray
        float32, shape (n, len(names)); NaN in columns that need more than the outline.
    """
    values = np.full((len(polygons), len(names)), np.nan, np.float32)
    view = OutlineView(polygons, mpp)
    for group in GROUPS.values():
        if isinstance(group, OutlineGroup):
            for name, measured in group.measure(view).items():
                if name in names:
                    values[:, names.index(name)] = measured
    return values


def _of_other_packages() -> Plugins[MeasurementGroup]:
    return plugins(ENTRY_POINTS, MeasurementGroup, frozenset(GROUPS))
