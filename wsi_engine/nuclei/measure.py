"""Measurements of nuclei in µm, under the names that QuPath gives them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.slide.frames import Mpp

Measurements = dict[str, npt.NDArray[np.float32]]
"""float32 columns of shape (n,) by name."""

SHAPE_COLUMNS = ("Area µm^2", "Length µm", "Circularity", "Solidity", "Max diameter µm")


def measure_shape(polygons: Polygons, mpp: Mpp) -> Measurements:
    """Measure shape as QuPath's ``ObjectMeasurements.addShapeMeasurements`` does.

    Parameters
    ----------
    polygons
        In QuPath pixels, shape (n,).
    mpp
        Pixel size.

    Returns
    -------
    dict
        float32 columns of shape (n,): ``Area µm^2``; ``Length µm``, the perimeter including
        holes; ``Circularity``, 4πA/L² of the exterior; ``Solidity``, area over that of the
        convex hull; ``Max diameter µm``, that of the minimum bounding circle.
    """
    scaled = shapely.transform(polygons, lambda points: points * np.array([mpp.x, mpp.y]))
    exterior = shapely.polygons(shapely.get_exterior_ring(scaled))
    area, length = shapely.area(scaled), shapely.length(scaled)
    columns = (
        area,
        length,
        4 * np.pi * shapely.area(exterior) / shapely.length(exterior) ** 2,
        area / shapely.area(shapely.convex_hull(scaled)),
        2 * shapely.minimum_bounding_radius(scaled),
    )
    return {n: np.asarray(c, np.float32) for n, c in zip(SHAPE_COLUMNS, columns, strict=True)}
