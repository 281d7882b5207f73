"""The table of measurement groups: those of the engine, and those that packages add.

A package adds a group by an entry point, whose name is that of the group::

    [project.entry-points."wsi_engine.measurements"]
    redness = "its_package.redness:GROUP"

``GROUP`` is an `OutlineGroup` or a `PixelGroup`. Nothing of a package is imported before one of
its groups is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points

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
from wsi_engine.nuclei.measure.cytoplasm import measure_ring, ring_columns
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
        When a package's group cannot be used, or has the name of another.
    """
    added = _added()
    found = []
    for name in names:
        if name in GROUPS:
            found.append(GROUPS[name])
        elif name in added:
            found.append(_load(added[name]))
        else:
            known = ", ".join([*GROUPS, *added])
            raise SettingsError(f"measure: there is no group {name!r}; there are {known}")
    return tuple(found)


def measurer_of(names: Sequence[str], stains: Stains) -> Measurer:
    """Return what measures those of the groups that tiles measure, in their order."""
    groups = find_groups(names)
    return Measurer([g for g in groups if isinstance(g, OutlineGroup | PixelGroup)], stains)


def columns_of(names: Sequence[str], stains: Stains) -> tuple[Column, ...]:
    """Describe the columns of some groups; those of the context come last.

    Raises
    ------
    MeasurementError
        When two groups have a column of the same name.
    """
    groups = sorted(find_groups(names), key=lambda group: isinstance(group, ContextGroup))
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


@cache
def _added() -> dict[str, EntryPoint]:
    """Return the groups of installed packages by name; nothing is imported."""
    added: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        package = _package_of(point)
        if point.name in GROUPS:
            raise MeasurementError(
                f"the package {package} adds a group of measurements {point.name!r}, which the "
                "engine has itself: uninstall the package, or ask its author for another name"
            )
        first = added.setdefault(point.name, point)
        if first.value != point.value:
            raise MeasurementError(
                f"the packages {_package_of(first)} and {package} both add a group of measurements "
                f"{point.name!r}: uninstall one of them"
            )
    return added


@cache
def _load(point: EntryPoint) -> OutlineGroup | PixelGroup:
    package = _package_of(point)
    try:
        group = point.load()
    except Exception as error:  # whatever a package does when it is imported
        raise MeasurementError(
            f"the group of measurements {point.name!r} of the package {package} cannot be loaded "
            f"({type(error).__name__}: {error}): update the package, or uninstall it"
        ) from error
    if not isinstance(group, OutlineGroup | PixelGroup) or group.name != point.name:
        raise MeasurementError(
            f"the package {package} gives {point.value} as the group of measurements "
            f"{point.name!r}, which is no OutlineGroup or PixelGroup of that name: update the "
            "package, or uninstall it"
        )
    return group


def _package_of(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value
