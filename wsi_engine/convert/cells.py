"""What CellViT and HoVer-Net have in common: cells as contours with a type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.convert.contours import Contour, pixel_outlines, polygon_of
from wsi_engine.errors import ConversionError
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.qupath.roi import ROI

CELLS_AT_ONCE = 2000
TYPE_PROBABILITY = "Type probability"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of such a file.

    Attributes
    ----------
    contour
        Outline in the pixels in which it was traced; ``None`` where there is only a centroid.
    centroid
        Shape (2,), between pixel centres.
    """

    contour: Contour | None
    centroid: npt.NDArray[np.float64] | None
    classification: PathClass | None
    probability: float | None


def cell_of(member: Any, where: str, classification: PathClass | None) -> Cell:
    """Take what matters of the parsed JSON of a cell."""
    contour = _points(member.get("contour"), where, "contour")
    centroid = None
    if contour is None:
        points = _points(member.get("centroid"), where, "centroid")
        if points is None:
            raise ConversionError(f"{where} has neither a contour nor a centroid")
        centroid = points[0]
    probability = member.get("type_prob")
    if probability is not None and not isinstance(probability, int | float):
        raise ConversionError(f"{where}: its type_prob is no number")
    return Cell(contour, centroid, classification, probability)


def detections(
    cells: Iterable[Cell], *, pixel_centres: bool, px: float = 1.0
) -> Iterator[PathObject]:
    """Turn cells into detections.

    Parameters
    ----------
    cells
        Contours in the pixels in which they were traced.
    pixel_centres
        Whether contours run through pixel centres and are to be outlined anew.
    px
        Size of those pixels in the pixels of the result.
    """
    remaining = iter(cells)
    while group := list(islice(remaining, CELLS_AT_ONCE)):
        shapes = _shapes(group, pixel_centres)
        shapes = shapely.transform(shapes, lambda points: points * px)
        for cell, shape in zip(group, shapes, strict=True):
            measured = {} if cell.probability is None else {TYPE_PROBABILITY: cell.probability}
            yield PathObject(
                object_type="detection",
                roi=ROI(shape),
                classification=cell.classification,
                measurements=measured,
            )


def _shapes(cells: list[Cell], pixel_centres: bool) -> Polygons:
    shapes = np.empty(len(cells), object)
    traced = {k: cell.contour for k, cell in enumerate(cells) if cell.contour is not None}
    contours = list(traced.values())
    shapes[list(traced)] = (
        pixel_outlines(contours) if pixel_centres else [polygon_of(c) for c in contours]
    )
    for k, cell in enumerate(cells):
        if cell.centroid is not None:
            shapes[k] = shapely.Point(cell.centroid + (0.5 if pixel_centres else 0.0))
    return shapes


def _points(value: Any, where: str, what: str) -> npt.NDArray[np.float64] | None:
    """Read a list of points, or a single one, which HoVer-Net writes without its brackets."""
    if value is None or value == []:
        return None
    try:
        points = np.atleast_2d(np.asarray(value, np.float64))
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ConversionError(f"{where}: its {what} is no list of points [x, y]")
    return points
