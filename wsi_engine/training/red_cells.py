"""Red cells, drawn into training crops: single, stacked, packed, and smeared on glass."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.training.grounds import (
    GLASS,
    beside_nuclei,
    log_uniform,
    over,
    random_colour,
    random_region,
    smooth_noise,
)
from wsi_engine.training.scene import Float32, Scene


@kernel
def paint_cells(
    cells: npt.NDArray[np.float64],
    cover: npt.NDArray[np.float32],
    thickness: npt.NDArray[np.float32],
) -> None:
    """Paint elliptic cells, each over those before.

    Cells are rows of y, x, half axes a and b in pixels, cosine and sine of the angle,
    strength, paleness of the centre, paleness of the rim, crenation, its phase, and how much
    of what is below shines through.
    """
    height, width = cover.shape
    for n in range(cells.shape[0]):
        y, x, a, b, cosine, sine, strength, pale, rim, crenation, phase, through = cells[n]
        reach = int(max(a, b) * (1 + crenation)) + 2
        for i in range(max(0, int(y) - reach), min(height, int(y) + reach + 1)):
            for j in range(max(0, int(x) - reach), min(width, int(x) + reach + 1)):
                dy, dx = i + 0.5 - y, j + 0.5 - x
                u = (cosine * dx + sine * dy) / a
                v = (cosine * dy - sine * dx) / b
                r = math.sqrt(u * u + v * v)
                if crenation > 0 and r > 0.3:
                    r *= 1 + crenation * math.sin(9 * math.atan2(v, u) + phase)
                inside = min(1.0, max(0.0, (1 - r) * min(a, b) + 0.5))
                if inside <= 0:
                    continue
                thick = strength * (1 - pale * math.exp(-((r / 0.5) ** 4)))
                if r > 0.8:
                    thick *= 1 - rim * (r - 0.8) / 0.2
                below = thickness[i, j]
                thickness[i, j] += inside * (thick + through * below - below)
                cover[i, j] = max(cover[i, j], inside)


def make_cells(
    positions: npt.NDArray[np.float64], radius: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Turn positions (n, 2) into red cells of one preparation."""
    count = len(positions)
    angle = rng.uniform(0, math.pi, count)
    long = radius * np.exp(rng.normal(0, rng.uniform(0.03, 0.14), count))
    round_ = np.clip(1 - np.abs(rng.normal(0, rng.uniform(0.05, 0.3), count)), 0.45, 1)
    pale = rng.choice([0.0, 0.0, rng.uniform(0.1, 0.8)])
    pales = np.clip(pale + rng.normal(0, 0.1, count) * (pale > 0), 0, 0.9)
    crenation = rng.uniform(0.03, 0.12) if rng.random() < 0.15 else 0.0
    columns = (
        positions[:, 0], positions[:, 1], long, long * round_, np.cos(angle), np.sin(angle),
        np.exp(rng.normal(0, rng.uniform(0.03, 0.25), count)), pales,
        np.full(count, rng.uniform(-0.3, 0.7)), np.full(count, crenation),
        rng.uniform(0, 6.3, count), np.full(count, rng.choice([0.0, rng.uniform(0, 0.6)])),
    )  # fmt: skip
    return np.stack(columns, axis=1)


def packed(rng: np.random.Generator, side: int, spacing: float) -> npt.NDArray[np.float64]:
    """Return positions all over a crop, on a disturbed hexagonal lattice, in random order."""
    rows = np.arange(-1, side / (spacing * 0.87) + 1)
    columns = np.arange(-1, side / spacing + 1)
    y, x = np.meshgrid(rows * spacing * 0.87, columns * spacing, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    positions = np.stack([y.ravel(), x.ravel()], axis=1)
    positions += rng.normal(0, spacing * rng.uniform(0.08, 0.3), positions.shape)
    return rng.permutation(positions)


def scattered(rng: np.random.Generator, side: int, spacing: float) -> npt.NDArray[np.float64]:
    """Return positions at random, some in loose clusters."""
    count = rng.poisson((side / spacing) ** 2)
    positions = rng.uniform(0, side, (count, 2))
    if count and rng.random() < 0.6:
        middles = rng.uniform(0, side, (max(1, count // 12), 2))
        chosen = middles[rng.integers(len(middles), size=count)]
        near = chosen + rng.normal(0, side * rng.uniform(0.04, 0.15), (count, 2))
        positions = np.where(rng.random((count, 1)) < 0.7, near, positions)
    return positions


def _rouleaux(rng: np.random.Generator, side: int, radius: float) -> npt.NDArray[np.float64]:
    """Return cells stacked along curves, on edge or tilted."""
    chains = []
    for _ in range(rng.integers(2, 14)):
        count = int(rng.integers(4, 16))
        step = radius * rng.uniform(0.45, 1.1)
        turn = rng.normal(0, 0.12) + rng.normal(0, 0.1, count)
        angles = rng.uniform(0, 2 * math.pi) + np.cumsum(turn)
        start = rng.uniform(0, side, 2)
        way = np.cumsum(np.stack([np.sin(angles), np.cos(angles)], axis=1) * step, axis=0)
        cells = make_cells(start + way, radius, rng)
        # Discs lie across the stack.
        cells[:, 3] = cells[:, 2]
        cells[:, 2] *= rng.uniform(0.3, 0.95)
        cells[:, 4], cells[:, 5] = np.cos(angles), np.sin(angles)
        chains.append(cells)
    return np.concatenate(chains)


def _red(rng: np.random.Generator) -> Float32:
    """Draw the optical density of a red cell, (3,): pale pink to brick, seldom violet."""
    if rng.random() < 0.15:
        # Violet ones are never dark: dark and violet is what nuclei are.
        return random_colour(rng, (0.45, 1.0, 0.55), 0.12) * np.float32(log_uniform(rng, 0.2, 0.55))
    return random_colour(rng, (0.15, 1.0, 0.75), 0.2) * np.float32(log_uniform(rng, 0.25, 1.9))


def _cell_radius(scene: Scene, rng: np.random.Generator) -> float:
    return log_uniform(rng, 2.0, 4.4) / scene.mpp


def _blood(
    scene: Scene, density: Float32, cells: npt.NDArray[np.float64], where: Float32 | None,
    rng: np.random.Generator,
) -> Float32:  # fmt: skip
    """Draw red cells over or under nuclei; ``where`` (h, w) they are, everywhere if not given."""
    side = density.shape[0]
    cover, thickness = np.zeros((2, side, side), np.float32)
    paint_cells(cells, cover, thickness)
    alpha = cover * np.float32(rng.uniform(0.75, 1.0))
    if where is not None:
        alpha *= where
    if rng.random() < 0.3:
        scene.hide(alpha > 0.5)
    else:
        alpha *= beside_nuclei(scene)
    thickness *= 1 + np.float32(0.08) * smooth_noise(rng, side, 2.0)
    return over(density, alpha, thickness[..., None] * _red(rng))


def singles(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw red cells here and there, some in loose clusters."""
    radius = _cell_radius(scene, rng)
    positions = scattered(rng, density.shape[0], radius * log_uniform(rng, 3, 14))
    return _blood(scene, density, make_cells(positions, radius, rng), None, rng)


def stacks(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw rouleaux: red cells stacked like coins."""
    cells = _rouleaux(rng, density.shape[0], _cell_radius(scene, rng))
    return _blood(scene, density, cells, None, rng)


def clot(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw red cells, packed, in a vessel or all over, on plasma or fibrin."""
    side, radius = density.shape[0], _cell_radius(scene, rng)
    where = None
    if rng.random() < 0.65:
        where = random_region(rng, side, rng.uniform(0.15, 0.8), side * rng.uniform(0.25, 0.6))
    ground = random_colour(rng, (0.3, 1.0, 0.6), 0.2) * np.float32(rng.uniform(0.02, 0.5))
    ground = ground * (1 + np.float32(0.3) * smooth_noise(rng, side, 6.0)[..., None])
    plasma = beside_nuclei(scene) if where is None else where * beside_nuclei(scene)
    density = over(density, plasma, ground.clip(0.01))
    cells = make_cells(packed(rng, side, radius * rng.uniform(1.2, 2.3)), radius, rng)
    return _blood(scene, density, cells, where, rng)


def smear(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw red cells on glass and nothing else."""
    side, radius = density.shape[0], _cell_radius(scene, rng)
    scene.clear()
    density = np.full_like(density, GLASS) + np.float32(rng.uniform(0, 0.25)) * random_colour(
        rng, (0.4, 1.0, 0.7), 0.3
    )
    spacing = radius * log_uniform(rng, 1.3, 5)
    place = packed if rng.random() < 0.6 else scattered
    cells = make_cells(place(rng, side, spacing), radius, rng)
    if rng.random() < 0.2:
        cells = _rouleaux(rng, side, radius)
    return _blood(scene, density, cells, None, rng)
