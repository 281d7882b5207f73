"""The groups of measurements, and the columns that they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.context import CONTEXT_COLUMNS
from wsi_engine.nuclei.measure.measurer import TILE_GROUPS, Measurer, TileGroup
from wsi_engine.slide.stain_vectors import Stains

Group = Literal[TileGroup, "context"]
"""Tiles measure what outlines and pixels tell; the context is known when the neighbours are."""

GROUPS: tuple[Group, ...] = (*TILE_GROUPS, "context")


def measurer_of(groups: Sequence[Group], stains: Stains) -> Measurer:
    """Return what measures those of the groups that tiles measure, in their order."""
    return Measurer(tuple(group for group in groups if group != "context"), stains)


def columns_of(groups: Sequence[Group], stains: Stains) -> tuple[Column, ...]:
    """Describe the columns of some groups; those of the context come last."""
    columns = measurer_of(groups, stains).columns
    return (*columns, *CONTEXT_COLUMNS) if "context" in groups else columns
