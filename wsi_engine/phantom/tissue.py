"""How the tissue of a phantom is laid out: glands, lymphoid aggregates, direction of fibres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from wsi_engine.phantom.noise import FloatImage
from wsi_engine.phantom.outlines import Blobs, FloatArray, random_bumps

_STEP_UM = 1.5
_GLAND_RADIUS_UM = (27.0, 52.0)
_GLAND_GAP_UM = 9.0
_AGGREGATE_RADIUS_UM = (40.0, 75.0)
_FAR_UM = 1e3


@dataclass(frozen=True, slots=True)
class Tissue:
    """Maps of a field on a coarse grid.

    They wrap around: copies of the field laid side by side join without a seam.

    Attributes
    ----------
    shape
        (height, width) of the field in pixels.
    mpp
        Pixel size in µm.
    depth_um
        Shape (h, w), float32: distance to the border of the nearest gland in µm, positive
        inside it.
    direction
        Shape (h, w), float32, radians: fibres in the stroma, cells (base to apex) in glands.
    lymphoid
        Shape (h, w), float32, 0 to 1: density of lymphoid aggregates.
    """

    shape: tuple[int, int]
    mpp: float
    depth_um: FloatImage
    direction: FloatImage
    lymphoid: FloatImage

    def sample(self, values: FloatImage, points: FloatArray) -> FloatImage:
        """Return a map's values at points, shape (n, 2), (x, y) in pixels."""
        rows = (points[:, 1] * values.shape[0] / self.shape[0]).astype(np.intp)
        columns = (points[:, 0] * values.shape[1] / self.shape[1]).astype(np.intp)
        sampled: FloatImage = values[rows % values.shape[0], columns % values.shape[1]]
        return sampled

    def enlarge(self, values: FloatImage) -> FloatImage:
        """Return a map at full size, interpolated linearly."""
        zoom = (self.shape[0] / values.shape[0], self.shape[1] / values.shape[1])
        enlarged: FloatImage = scipy.ndimage.zoom(
            values, zoom, order=1, mode="grid-wrap", grid_mode=True
        )
        return enlarged

    def enlarged_direction(self) -> FloatImage:
        """Return the direction at full size; axes are averaged as doubled angles."""
        across = self.enlarge(np.sin(2 * self.direction))
        along = self.enlarge(np.cos(2 * self.direction))
        return (np.arctan2(across, along) / 2).astype(np.float32, copy=False)


def lay_out_tissue(
    shape: tuple[int, int],
    mpp: float,
    rng: np.random.Generator,
    gland_share: float = 0.46,
    aggregates_per_mm2: float = 16.0,
) -> Tissue:
    """Lay out glands with a lumen in a stroma of wavy fibres with lymphoid aggregates.

    Parameters
    ----------
    shape
        (height, width) of the field in pixels.
    mpp
        Pixel size in µm.
    rng
        Source of everything random.
    gland_share
        Share of the area that glands should take, as far as they find room; 0 gives plain
        stroma.
    aggregates_per_mm2
        Number of lymphoid aggregates per mm².
    """
    height, width = shape
    rows, columns = (max(1, round(side * mpp / _STEP_UM)) for side in shape)
    x, y = np.meshgrid(
        (np.arange(columns) + 0.5) * (width / columns), (np.arange(rows) + 0.5) * (height / rows)
    )
    glands = _place_glands(shape, mpp, gland_share, rng)
    inside = np.zeros((rows, columns), bool)
    for index in range(len(glands)):
        dx, dy = _wrapped_offset(x, y, glands.center_px[index], shape)
        inside |= glands.relative_radius(index, dx, dy) < 1
    depth = _signed_distance(inside, (height * mpp / rows, width * mpp / columns))

    lymphoid = np.zeros((rows, columns))
    for _ in range(rng.poisson(aggregates_per_mm2 * height * width * mpp**2 * 1e-6)):
        dx, dy = _wrapped_offset(x, y, rng.uniform(0, (width, height)), shape)
        distance = np.hypot(dx, dy) * mpp / rng.uniform(*_AGGREGATE_RADIUS_UM)
        lymphoid = np.maximum(lymphoid, np.clip(2.0 - 2.0 * distance, 0, 1))

    return Tissue(
        shape,
        mpp,
        depth.astype(np.float32),
        _directions(x, y, shape, depth, rng).astype(np.float32),
        lymphoid.astype(np.float32),
    )


def _place_glands(
    shape: tuple[int, int], mpp: float, share: float, rng: np.random.Generator
) -> Blobs:
    """Throw glands at random, largest first; those that come too near another are dropped."""
    height, width = shape
    radius_um = np.sort(rng.uniform(*_GLAND_RADIUS_UM, 400))[::-1]
    centers = rng.uniform(0, (width, height), (400, 2))
    area_left = share * height * width * mpp**2
    placed: list[int] = []
    for index, radius in enumerate(radius_um):
        x, y = centers[placed, 0], centers[placed, 1]
        dx, dy = _wrapped_offset(x, y, centers[index], shape)
        room = np.hypot(dx, dy) * mpp - radius_um[placed] - radius - _GLAND_GAP_UM
        area = np.pi * radius**2
        if area <= area_left and bool((room > 0).all()):
            placed.append(index)
            area_left -= area
    count = len(placed)
    # Elongation keeps the area, and the long axis stays within the gap left above.
    stretch = rng.uniform(1.0, 1.15, count)
    radius_px = radius_um[placed] / mpp
    return Blobs(
        centers[placed],
        np.stack([radius_px * stretch, radius_px / stretch], axis=1),
        rng.uniform(0, np.pi, count),
        random_bumps(count, 0.06, rng),
    )


def _wrapped_offset(
    x: FloatArray, y: FloatArray, center: FloatArray, shape: tuple[int, int]
) -> tuple[FloatArray, FloatArray]:
    """Return the shortest way (dx, dy) in pixels from a centre, across the edges if need be."""
    height, width = shape
    return (
        (x - center[0] + width / 2) % width - width / 2,
        (y - center[1] + height / 2) % height - height / 2,
    )


def _signed_distance(inside: npt.NDArray[np.bool_], step_um: tuple[float, float]) -> FloatArray:
    """Return the distance to the border of a periodic mask in µm, positive inside."""
    if not inside.any():
        return np.full(inside.shape, -_FAR_UM)
    rows, columns = inside.shape
    tiled = np.tile(inside, (3, 3))
    within = scipy.ndimage.distance_transform_edt(tiled, sampling=step_um)
    without = scipy.ndimage.distance_transform_edt(~tiled, sampling=step_um)
    signed = scipy.ndimage.gaussian_filter(within - without, 1.0)
    middle: FloatArray = signed[rows : 2 * rows, columns : 2 * columns]
    return middle


def _directions(
    x: FloatArray,
    y: FloatArray,
    shape: tuple[int, int],
    depth_um: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Return fibres that wander through the stroma, run around glands, and point into them."""
    height, width = shape
    wander = np.full(depth_um.shape, rng.uniform(0, np.pi))
    for _ in range(5):
        # Whole numbers of waves, so that the field wraps around.
        waves_x, waves_y = rng.integers(-2, 3, 2)
        phase = rng.uniform(0, 2 * np.pi)
        wave = 2 * np.pi * (waves_x * x / width + waves_y * y / height)
        wander += 0.5 * np.sin(wave + phase)

    padded = np.pad(depth_um, 1, mode="wrap")
    slope_y, slope_x = np.gradient(padded)
    inwards = np.arctan2(slope_y, slope_x)[1:-1, 1:-1]
    # Axes have no head: average them as doubled angles.
    along_gland = np.clip(np.exp(depth_um / 14.0), 0, 1)
    blend = (1 - along_gland) * np.exp(2j * wander) - along_gland * np.exp(2j * inwards)
    fibres = np.angle(blend) / 2
    directions: FloatArray = np.where(depth_um > 0, inwards, fibres)
    return directions
