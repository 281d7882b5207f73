"""Fields of tissue that stand for the whole slide, chosen without regard to any tiling."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import GridReader

FIELD_SIDE_PX = 256
LARGEST_FIELD_COUNT = 48


def sample_fields(reader: GridReader, area: shapely.Geometry) -> npt.NDArray[np.uint8]:
    """Read fields spread evenly over an area.

    Parameters
    ----------
    reader
        Reads the model grid.
    area
        Tissue or region of interest, in QuPath pixels.

    Returns
    -------
    ndarray
        uint8, shape (n, 256, 256, 3), 1 <= n <= 48; the same for every run on this slide.
    """
    extent = reader.grid.extent
    half = FIELD_SIDE_PX // 2
    x, y = np.meshgrid(
        np.arange(half, max(extent.width, FIELD_SIDE_PX), FIELD_SIDE_PX),
        np.arange(half, max(extent.height, FIELD_SIDE_PX), FIELD_SIDE_PX),
    )
    centres = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)
    shapely.prepare(area)
    inside = centres[shapely.contains_xy(area, reader.grid.to_qupath(centres))]
    if len(inside) == 0:
        point = area.representative_point()
        inside = reader.grid.from_qupath(np.array([[point.x, point.y]]))
    count = min(len(inside), LARGEST_FIELD_COUNT)
    chosen = inside[np.linspace(0, len(inside) - 1, count).round().astype(int)]
    return np.stack(
        [
            reader.read(ModelBox(int(cx) - half, int(cy) - half, FIELD_SIDE_PX, FIELD_SIDE_PX))
            for cx, cy in chosen
        ]
    )
