"""Some nuclei as columns: what flows from the models to the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import Polygons, clipped, polygons_from_rings, simplified_on_grid
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.schedule.tiles import Tile
from wsi_engine.slide.frames import ModelGrid

CLAIM_MARGIN_PX = 4
"""A tile also reports nuclei anchored this far outside its core, as spares: should neighbours
place the anchor of a nucleus each on the other's side of the border, it is not lost."""

Measure = Callable[[Polygons, npt.NDArray[np.bool_]], npt.NDArray[np.float32]]
"""Measures those of some polygons where a mask holds; the others are their neighbours."""


@dataclass(frozen=True)
class Nuclei:
    """Columns of equal length n, in QuPath pixels.

    Attributes
    ----------
    polygons
        Valid shapely polygons on the 0.01 px grid, shape (n,).
    anchors
        float64, shape (n, 2).
    scores
        float32, shape (n,).
    classes
        Index into the model's classes, -1 for none; int16, shape (n,).
    probabilities
        float32, shape (n, number of classes; 0 where the model gives none).
    owned
        bool, shape (n,): anchored in the core of the tile that reports it.
    measurements
        What the tile measured of them, float32, shape (n, number of columns).
    """

    polygons: Polygons
    anchors: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int16]
    probabilities: npt.NDArray[np.float32]
    owned: npt.NDArray[np.bool_]
    measurements: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Nuclei:
        """Return the nuclei at some positions, or where a mask holds."""
        return Nuclei(**{name: column[which] for name, column in self._columns().items()})

    @staticmethod
    def concatenate(groups: Sequence[Nuclei]) -> Nuclei:
        """Join several groups (at least one) in their order."""
        columns = [group._columns() for group in groups]
        return Nuclei(**{name: np.concatenate([c[name] for c in columns]) for name in columns[0]})

    def _columns(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def nuclei_of_tile(
    predictions: Predictions,
    tile: Tile,
    grid: ModelGrid,
    tolerance_um: float,
    measure: Measure | None = None,
    neighbourhood_um: float = 0.0,
) -> Nuclei:
    """Bring the predictions of a tile into QuPath pixels and keep what the tile may claim.

    What reaches beyond the slide is cut off.

    Parameters
    ----------
    predictions
        Nuclei in model pixels from the corner of the tile's window.
    tile, grid
        Place of that window.
    tolerance_um
        How far simplification may move a border, in µm.
    measure
        Fills the measurements; without it there are none.
    neighbourhood_um
        ``measure`` also sees what other tiles may claim, up to this far from what this one does.
    """
    corner = np.array([tile.window.x, tile.window.y], np.float64)
    anchors = predictions.anchors + corner
    claims = tile.core.padded(CLAIM_MARGIN_PX).holds(anchors)
    tolerance_px = tolerance_um / grid.slide_mpp.mean
    rings = polygons_from_rings(grid.to_qupath(predictions.xy + corner), predictions.offsets)
    seen = claims
    if measure is not None and neighbourhood_um > 0:
        seen = claims | _meet(rings, claims, neighbourhood_um / grid.slide_mpp.mean)
    inside = clipped(rings[seen], grid.slide_width, grid.slide_height)
    polygons, kept = simplified_on_grid(inside, tolerance_px)
    wanted = claims[seen][kept]
    claimed = np.flatnonzero(seen)[kept][wanted]
    if measure is None:
        measurements = np.empty((len(claimed), 0), np.float32)
    else:
        measurements = measure(polygons, wanted)
    probabilities = predictions.probabilities
    if probabilities is None:
        probabilities = np.empty((len(predictions), 0), np.float32)
    return Nuclei(
        polygons=polygons[wanted],
        anchors=np.round(grid.to_qupath(anchors[claimed]), 2),
        scores=predictions.scores[claimed],
        classes=predictions.classes[claimed],
        probabilities=probabilities[claimed],
        owned=tile.core.holds(anchors[claimed]),
        measurements=measurements,
    )


def _meet(
    polygons: Polygons, chosen: npt.NDArray[np.bool_], distance: float
) -> npt.NDArray[np.bool_]:
    """Tell which polygons come near the box around the chosen ones."""
    if not chosen.any():
        return chosen
    bounds = shapely.bounds(polygons)
    low, high = bounds[chosen, :2].min(axis=0), bounds[chosen, 2:].max(axis=0)
    return np.asarray(
        (bounds[:, 2:] > low - distance).all(axis=1) & (bounds[:, :2] < high + distance).all(axis=1)
    )


def within(nuclei: Nuclei, area: shapely.Geometry) -> Nuclei:
    """Return the nuclei whose anchor lies in an area, in QuPath pixels."""
    shapely.prepare(area)
    x, y = nuclei.anchors.T
    return nuclei.take(np.asarray(shapely.intersects_xy(area, x, y)))


def clear_of(nuclei: Nuclei, line: shapely.Geometry, distance: float) -> Nuclei:
    """Return the nuclei that come no nearer to a line than a distance, in QuPath pixels."""
    shapely.prepare(line)
    return nuclei.take(~np.asarray(shapely.dwithin(nuclei.polygons, line, distance), bool))
