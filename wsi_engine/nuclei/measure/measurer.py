"""All that is measured of the nuclei of one tile, in the order of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.measure import shape
from wsi_engine.nuclei.measure.colour import (
    rgb_columns,
    rgb_values,
    stain_amounts,
    stain_columns,
    statistics,
)
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.outlines import Outlines
from wsi_engine.nuclei.measure.pixels import binned, cover
from wsi_engine.nuclei.measure.ring import REACH_UM, area_ratio, ring_columns, rings
from wsi_engine.nuclei.measure.texture import measure_texture, texture_columns
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.stain_vectors import Stains

TileGroup = Literal["shape", "colour", "rgb", "texture", "ring"]
TILE_GROUPS: tuple[TileGroup, ...] = get_args(TileGroup)


@dataclass(frozen=True)
class Measurer:
    """Measures nuclei; used by many threads.

    Attributes
    ----------
    groups
        What to measure; columns come in this order.
    stains
        For colour, texture and ring.
    """

    groups: Sequence[TileGroup]
    stains: Stains

    @property
    def columns(self) -> tuple[Column, ...]:
        """Describe what `measure` gives."""
        described: dict[TileGroup, tuple[Column, ...]] = {
            "shape": shape.COLUMNS,
            "colour": stain_columns(self.stains),
            "rgb": rgb_columns(),
            "texture": texture_columns(self.stains),
            "ring": ring_columns(self.stains),
        }
        return tuple(column for group in self.groups for column in described[group])

    @property
    def neighbourhood_um(self) -> float:
        """How far from a nucleus another one still changes what is measured of it."""
        return REACH_UM if "ring" in self.groups else 0.0

    def measure(
        self,
        polygons: Polygons,
        wanted: npt.NDArray[np.bool_],
        rgb: RGB,
        window: ModelBox,
        grid: ModelGrid,
    ) -> npt.NDArray[np.float32]:
        """Measure the wanted ones of some nuclei.

        Parameters
        ----------
        polygons
            In QuPath pixels, shape (n,), with all that lie within `neighbourhood_um` of one
            that is wanted.
        wanted
            Shape (n,).
        rgb, window, grid
            The pixels of the tile, and where they lie.

        Returns
        -------
        ndarray
            float32, shape (wanted.sum(), len(columns)); NaN where a value is not defined.
        """
        chosen = polygons[wanted]
        found: dict[TileGroup, npt.NDArray[np.float32]] = {}
        if "shape" in self.groups:
            found["shape"] = shape.measure_shape(chosen, grid.slide_mpp)
        if set(self.groups) - {"shape"}:
            field = binned(rgb, window, grid)
            everybody = cover(Outlines.of(polygons), field)
            sets = everybody.take(wanted)
            amounts = stain_amounts(field.rgb, sets, self.stains)
            if "colour" in self.groups:
                found["colour"] = statistics(amounts, sets)
            if "rgb" in self.groups:
                found["rgb"] = statistics(rgb_values(field.rgb, sets), sets)
            if "texture" in self.groups:
                found["texture"] = measure_texture(field, sets, amounts[0], self.stains)
            if "ring" in self.groups:
                around = rings(polygons, everybody, field).take(wanted)
                inks = statistics(stain_amounts(field.rgb, around, self.stains), around)
                found["ring"] = np.column_stack([inks, area_ratio(sets, around)])
        columns = [found[group] for group in self.groups]
        return np.hstack(columns) if columns else np.empty((len(chosen), 0), np.float32)


def measured_alone(polygons: Polygons, names: Sequence[str], mpp: Mpp) -> npt.NDArray[np.float32]:
    """Measure what outlines tell without pixels and neighbours.

    Parameters
    ----------
    polygons
        In QuPath pixels, shape (n,).
    names
        Of the columns wanted.
    mpp
        Pixel size.

    Returns
    -------
    ndarray
        float32, shape (n, len(names)); NaN in columns that need more than the outline.
    """
    values = np.full((len(polygons), len(names)), np.nan, np.float32)
    measured = shape.measure_shape(polygons, mpp)
    for k, column in enumerate(shape.COLUMNS):
        if column.name in names:
            values[:, names.index(column.name)] = measured[:, k]
    return values
