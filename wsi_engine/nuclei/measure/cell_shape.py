"""The shape of a cell, by the names that QuPath gives to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.shape import QUPATH_NAMES, SHAPE, measure_shape
from wsi_engine.nuclei.measure.view import OutlineView
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.slide.frames import Mpp

CELL_COLUMNS = (
    *(
        replace(
            column,
            name=f"Cell: {column.name}",
            formula=f"{column.formula}; of the nucleus as it was expanded",
        )
        for column in SHAPE
        if column.name in QUPATH_NAMES
    ),
    Column(
        "Nucleus/Cell area ratio",
        "",
        "area of the nucleus / area of the cell",
        "QuPath, ObjectMeasurements.addShapeMeasurements",
        essential=True,
    ),
)
"""What is told of the outline of a cell."""


def measure_cells(nuclei: Polygons, cells: Polygons, mpp: Mpp) -> npt.NDArray[np.float32]:
    """Measure the outlines of cells.

    Parameters
    ----------
    nuclei, cells
        Valid polygons in QuPath pixels, shape (n,).
    mpp
        Pixel size.

    Returns
    -------
    ndarray
        float32, shape (n, len(CELL_COLUMNS)).
    """
    measured = measure_shape(OutlineView(cells, mpp))
    shapes = [measured[name] for name in QUPATH_NAMES]
    ratio = shapely.area(nuclei) / shapely.area(cells)
    return np.column_stack([*shapes, ratio]).astype(np.float32)
