"""Tiles and nuclei made by hand, so that a test can say what each tile saw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.schedule.tiles import Tile, TileGrid
from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp


@dataclass(frozen=True)
class Seen:
    """A nucleus as one tile saw it, in model pixels; the anchor is the centroid unless given."""

    polygon: shapely.Polygon
    score: float = 0.5
    anchor: tuple[float, float] | None = None

    @property
    def point(self) -> tuple[float, float]:
        centroid = self.polygon.centroid
        return self.anchor or (round(centroid.x, 2), round(centroid.y, 2))


def disc(x: float, y: float, radius: float = 6, score: float = 0.5, anchor=None) -> Seen:
    """A round nucleus."""
    return Seen(shapely.Point(x, y).buffer(radius), score, anchor)


def box(x_min: float, y_min: float, x_max: float, y_max: float, score: float = 0.5) -> Seen:
    """A rectangular nucleus."""
    return Seen(shapely.box(x_min, y_min, x_max, y_max), score)


def tile_grid(rows: int, columns: int, core: int, halo: int = 0) -> TileGrid:
    """A grid whose last cores end with the slide."""
    return TileGrid(ModelBox(0, 0, columns * core, rows * core), core, halo)


def model_grid(tiles: TileGrid) -> ModelGrid:
    """Model pixels that are QuPath pixels, to keep the numbers of a test readable."""
    return ModelGrid(0.5, Mpp(0.5, 0.5), 0, 0, tiles.extent.width, tiles.extent.height)


def nuclei_of(seen: Iterable[Seen], tile: Tile) -> Nuclei:
    """What a tile reports."""
    items = list(seen)
    anchors = np.array([item.point for item in items], np.float64).reshape(-1, 2)
    return Nuclei(
        polygons=np.array([item.polygon for item in items], object),
        anchors=anchors,
        scores=np.array([item.score for item in items], np.float32),
        classes=np.full(len(items), -1, np.int16),
        probabilities=np.empty((len(items), 0), np.float32),
        owned=tile.core.holds(anchors),
        measurements=np.empty((len(items), 0), np.float32),
    )


def some_nuclei(
    count: int,
    classes: int = 0,
    seed: int = 0,
    with_hole: Sequence[int] = (),
    measurements: int = 0,
) -> Nuclei:
    """Random round nuclei with every column filled, on the 0.01 px grid."""
    rng = np.random.default_rng(seed)
    anchors = np.round(rng.uniform(0, 1000, (count, 2)), 2)
    polygons = shapely.buffer(shapely.points(anchors), rng.uniform(3, 9, count), quad_segs=4)
    for k in (k for k in with_hole if k < count):
        polygons[k] = polygons[k].difference(shapely.Point(anchors[k]).buffer(1, quad_segs=2))
    polygons = shapely.transform(polygons, lambda points: np.round(points, 2))
    probabilities = rng.dirichlet(np.ones(classes), count) if classes else np.empty((count, 0))
    return Nuclei(
        polygons=np.asarray(polygons, object).reshape(count),
        anchors=anchors,
        scores=rng.uniform(0, 1, count).astype(np.float32),
        classes=rng.integers(-1, classes, count).astype(np.int16),
        probabilities=probabilities.astype(np.float32),
        owned=rng.uniform(0, 1, count) < 0.8,
        measurements=rng.normal(size=(count, measurements)).astype(np.float32),
    )


def assert_same_nuclei(found: Nuclei, expected: Nuclei) -> None:
    """Every column is the same to the bit, and of the same type and shape."""
    assert found.polygons.shape == expected.polygons.shape
    assert shapely.equals_identical(found.polygons, expected.polygons).all()
    for name in ("anchors", "scores", "classes", "probabilities", "owned", "measurements"):
        column, wanted = getattr(found, name), getattr(expected, name)
        assert column.dtype == wanted.dtype, name
        np.testing.assert_array_equal(column, wanted, err_msg=name)
