"""Pigment, ink, folds, mucin and keratin, drawn into training crops."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from wsi_engine.training.grounds import (
    GLASS,
    beside_nuclei,
    log_uniform,
    over,
    random_colour,
    random_region,
    smooth_noise,
)
from wsi_engine.training.red_cells import make_cells, packed, paint_cells, scattered
from wsi_engine.training.scene import Float32, Scene


def grains(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw pigment in clusters of grains: melanin, haemosiderin, or carbon."""
    side = density.shape[0]
    if rng.random() < 0.4:
        colour = random_colour(rng, (1.0, 1.0, 1.0), 0.05) * np.float32(rng.uniform(1.2, 3.5))
    else:
        colour = random_colour(rng, (0.45, 0.75, 1.0), 0.15) * np.float32(rng.uniform(0.6, 2.5))
    cells = []
    for _ in range(rng.integers(1, 10)):
        count = int(rng.integers(4, 90))
        middle = rng.uniform(0, side, 2)
        spread = log_uniform(rng, 1.0, 8.0) / scene.mpp
        shape = np.array([1.0, rng.uniform(0.3, 1.0)])
        angle = rng.uniform(0, math.pi)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        positions = middle + (rng.normal(0, spread / 2, (count, 2)) * shape) @ turn
        cells.append(make_cells(positions, log_uniform(rng, 0.25, 1.1) / scene.mpp, rng))
    drawn = np.concatenate(cells)
    drawn[:, 7] = 0.0
    cover, thickness = np.zeros((2, side, side), np.float32)
    paint_cells(drawn, cover, thickness)
    alpha = cover * np.float32(rng.uniform(0.6, 1.0))
    scene.hide(gaussian_filter(alpha, 0.5 / scene.mpp) > 0.35)
    return over(density, alpha, thickness[..., None] * colour)


def ink(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw marking ink: dense, of any colour, in strokes or drops, with a dark or faded edge."""
    side = density.shape[0]
    colours = (
        (1.0, 0.6, 0.15),
        (1.0, 0.45, 0.8),
        (0.1, 0.9, 1.0),
        (1.0, 1.0, 1.0),
        (0.1, 0.3, 1.0),
    )
    colour = random_colour(rng, colours[rng.integers(len(colours))], 0.15)
    grain = side * log_uniform(rng, 0.03, 0.7)
    where = random_region(rng, side, rng.uniform(0.05, 0.6), grain)
    where = gaussian_filter(where, rng.uniform(0.3, 2.0))
    inside = distance_transform_edt(where > 0.5)
    edge = 1 + rng.uniform(-0.5, 1.0) * np.exp(-inside / (rng.uniform(0.5, 3) / scene.mpp))
    texture = 1 + rng.uniform(0, 0.4) * smooth_noise(rng, side, log_uniform(rng, 1.5, 20))
    depth = np.float32(log_uniform(rng, 0.3, 3.0)) * (edge * texture).clip(0.05)
    scene.hide(where * depth > 0.6, opaque=False)
    # Ink is seen through: its density adds to the tissue's.
    added = (where * depth)[..., None] * colour
    return np.asarray(density + added, np.float32)


def _bent(rng: np.random.Generator, side: int) -> tuple[Float32, Float32]:
    """Return coordinates across and along a bent band through the crop, (side, side) pixels."""
    axis = np.arange(side) + 0.5 - rng.uniform(0.2, 0.8) * side
    angle = rng.uniform(0, math.pi)
    y, x = axis[:, None], axis[None, :]
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    across = (
        across
        + rng.normal(0, 0.25) / side * along**2
        + rng.uniform(0, 4) * smooth_noise(rng, side, side / 5)
    )
    return np.asarray(across, np.float32), np.asarray(along, np.float32)


def fold(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw a fold of the section: a band of double density, out of focus, with dark edges."""
    side = density.shape[0]
    across, _ = _bent(rng, side)
    half = log_uniform(rng, 1.0, 20.0) / scene.mpp
    band = np.clip((half - np.abs(across)) / 1.5 + 0.5, 0, 1)
    edges = np.exp(-(((np.abs(across) - half) / (rng.uniform(0.4, 1.5) / scene.mpp)) ** 2))
    # The second layer's nuclei are nobody's: it is out of focus so far that it has none.
    sigma = rng.uniform(3, 6) / scene.mpp
    blurred = gaussian_filter(density[::-1, ::-1], (sigma, sigma, 0), truncate=2)
    mean = density.mean(axis=(0, 1))
    added = band[..., None] * blurred * rng.uniform(0.6, 1.1)
    added = added + edges[..., None] * mean * rng.uniform(0.2, 1.5)
    scene.hide(np.maximum(band, edges) > 0.4, opaque=False)
    return np.asarray(density + added, np.float32)


def mucin(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw droplets of mucin: pale, grey-blue, round or pear-shaped, some with a thin wall."""
    side = density.shape[0]
    radius = log_uniform(rng, 4.0, 14.0) / scene.mpp
    spacing = radius * log_uniform(rng, 1.8, 5.0)
    place = packed if rng.random() < 0.4 else scattered
    cells = make_cells(place(rng, side, spacing), radius, rng)
    cells[:, 7] = rng.uniform(0, 0.5)
    cells[:, 8] = rng.uniform(-1.0, 0.3)
    cells[:, 11] = 0.0
    cover, thickness = np.zeros((2, side, side), np.float32)
    paint_cells(cells, cover, thickness)
    colour = random_colour(rng, (1.0, 0.85, 0.45), 0.2) * np.float32(log_uniform(rng, 0.06, 0.4))
    texture = 1 + np.float32(rng.uniform(0, 0.35)) * smooth_noise(rng, side, rng.uniform(1.5, 8))
    alpha = gaussian_filter(cover, rng.uniform(0.3, 1.5)) * np.float32(rng.uniform(0.7, 1))
    alpha *= beside_nuclei(scene)
    return over(density, alpha, (thickness * texture.clip(0.1))[..., None] * colour)


def keratin(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw flakes and lamellae of keratin, or torn fibres, on glass or beside tissue."""
    side = density.shape[0]
    if rng.random() < 0.5:
        scene.clear()
        density = np.full_like(density, GLASS)
    colour = random_colour(rng, (0.25, 1.0, 0.65), 0.15)
    for _ in range(rng.integers(2, 9)):
        across, along = _bent(rng, side)
        half = log_uniform(rng, 0.6, 9.0) / scene.mpp
        length = log_uniform(rng, 6.0, 70.0) / scene.mpp
        middle = rng.uniform(-side / 2, side / 2)
        taper = half * np.sqrt(np.clip(1 - ((along - middle) / length) ** 2, 0, 1))
        alpha = np.clip((taper - np.abs(across)) + 0.5, 0, 1) * (taper > 0.3)
        lamellae = 1 + rng.uniform(0, 0.5) * np.sin(
            across / (rng.uniform(0.3, 1.6) / scene.mpp) + 0.5 * smooth_noise(rng, side, side / 8)
        )
        edge = np.exp(-np.clip(taper - np.abs(across), 0, None) / (0.5 / scene.mpp))
        depth = log_uniform(rng, 0.08, 0.8) * (lamellae + rng.uniform(-0.3, 1.5) * edge)
        depth = depth * (1 + 0.15 * smooth_noise(rng, side, 4.0))
        if rng.random() < 0.5:
            alpha = alpha * beside_nuclei(scene)
        else:
            scene.hide(alpha > 0.5)
        density = over(density, np.asarray(alpha, np.float32), depth.clip(0.02)[..., None] * colour)
    return density
