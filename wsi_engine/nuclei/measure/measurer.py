"""All that is measured of the nuclei of one tile, in the order of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.group import OutlineGroup, PixelGroup, in_order
from wsi_engine.nuclei.measure.pixels import Field
from wsi_engine.nuclei.measure.view import PixelView
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.slide.frames import ModelBox, ModelGrid
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.stain_vectors import Stains


@dataclass(frozen=True)
class Measurer:
    """Measures nuclei; used by many threads.

    Attributes
    ----------
    groups
        What to measure; columns come in this order.
    stains
        Stain vectors of the slide.
    """

    groups: Sequence[OutlineGroup | PixelGroup]
    stains: Stains

    @cached_property
    def _described(self) -> tuple[tuple[Column, ...], ...]:
        return tuple(tuple(group.columns(self.stains)) for group in self.groups)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that `measure` fills."""
        return tuple(column for columns in self._described for column in columns)

    @property
    def neighbourhood_um(self) -> float:
        """How far from a nucleus another one still changes what is measured of it."""
        reach = [g.neighbourhood_um for g in self.groups if isinstance(g, PixelGroup)]
        return max(reach, default=0.0)

    @property
    def needs_pixels(self) -> bool:
        """Whether any group looks at pixels."""
        return any(isinstance(group, PixelGroup) for group in self.groups)

    def window(self, polygons: Polygons, grid: ModelGrid) -> ModelBox:
        """Return the box of pixels that some nuclei (at least one) are measured on.

        Parameters
        ----------
        polygons
            Outlines in QuPath pixels, shape (n,).
        """
        margin = self.neighbourhood_um / min(grid.pixel.x, grid.pixel.y) + 1
        corners = grid.from_qupath(shapely.bounds(polygons).reshape(-1, 2, 2))
        size = [grid.extent.width, grid.extent.height]
        low = np.clip(np.floor(corners[:, 0].min(axis=0) - margin), 0, size)
        high = np.clip(np.ceil(corners[:, 1].max(axis=0) + margin), 0, size)
        (left, top), (right, bottom) = low.astype(int).tolist(), high.astype(int).tolist()
        return ModelBox(left, top, right - left, bottom - top)

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
            Outlines in QuPath pixels, shape (n,): those wanted, and all that lie within
            `neighbourhood_um` of one of them.
        wanted
            Shape (n,).
        rgb, window, grid
            The pixels to measure on, and where they lie.

        Returns
        -------
        ndarray
            float32, shape (wanted.sum(), len(columns)); NaN where a value is not defined.

        Raises
        ------
        MeasurementError
            When a group does not give the columns that it describes.
        """
        chosen = polygons[wanted]
        field = Field(rgb, window, grid)
        view = PixelView(chosen, grid.slide_mpp, polygons, wanted, field, self.stains)
        measured = [np.empty((len(chosen), 0), np.float32)]
        for group, columns in zip(self.groups, self._described, strict=True):
            measured.append(in_order(group.measure(view), columns, len(chosen), group.name))
        return np.hstack(measured)
