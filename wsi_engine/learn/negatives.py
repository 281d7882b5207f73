"""What is no nucleus, drawn into training crops.

Sets of annotated nuclei are chosen for their nuclei: they hold next to no blood, pigment, ink
or keratin, and a network that never saw them takes them for nuclei. Everything is drawn in
optical density, before stain and exposure are perturbed, so it takes part in that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numba import njit
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter

from wsi_engine.learn.config import AugmentConfig
from wsi_engine.learn.scene import Float32, Scene

_GLASS = np.float32(0.03)
"""Optical density of empty glass, where a drawing clears its ground."""


def draw_negatives(scene: Scene, rng: np.random.Generator, config: AugmentConfig) -> None:
    """Draw things that are no nuclei into a share of the crops."""
    if config.negatives <= 0 or rng.random() >= config.negatives:
        return
    names = list(_DRAWINGS)
    weights = np.array([_DRAWINGS[name][0] for name in names])
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    draw(name, scene, rng)


def draw(name: str, scene: Scene, rng: np.random.Generator) -> None:
    """Draw one kind of thing; see `KINDS`."""
    density = -np.log((np.clip(scene.image, 0, 255) + 1) / 256)
    density = _DRAWINGS[name][1](scene, density, rng)
    scene.image = np.asarray(256 * np.exp(-np.clip(density, 0, 5.5)) - 1, np.float32)


# Ground and colour ---------------------------------------------------------------------


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _colour(rng: np.random.Generator, rgb: tuple[float, float, float], spread: float) -> Float32:
    """Draw a direction of optical density around one, of length 1 in its largest part."""
    drawn = np.array(rgb) * np.exp(rng.normal(0, spread, 3))
    return np.asarray(drawn / drawn.max(), np.float32)


def _noise(rng: np.random.Generator, side: int, grain: float) -> Float32:
    """Return smooth noise (side, side) of deviation 1, its grain in pixels."""
    coarse = max(4, math.ceil(side / max(grain, 1.0)) + 2)
    field = Image.fromarray(rng.standard_normal((coarse, coarse)).astype(np.float32))
    # A part of it, at random, so that the grains' lattice is nowhere in particular.
    extent = coarse - 2
    top, left = rng.uniform(0, 2, 2)
    box = (left, top, left + extent, top + extent)
    smooth = np.asarray(field.resize((side, side), Image.Resampling.BICUBIC, box))
    return np.asarray((smooth - smooth.mean()) / (smooth.std() + 1e-6), np.float32)


def _region(rng: np.random.Generator, side: int, share: float, grain: float) -> Float32:
    """Return a blob or several that cover a share of the crop, soft within a pixel."""
    field = _noise(rng, side, grain)
    level = np.quantile(field, 1 - share)
    gradient = np.hypot(*np.gradient(field)) + 1e-4
    return np.asarray(np.clip((field - level) / gradient + 0.5, 0, 1), np.float32)


def _beside_nuclei(scene: Scene) -> Float32:
    """Return 1 where there is no nucleus, 0 in nuclei, soft between."""
    return np.asarray(1 - gaussian_filter(scene.nuclei(), 0.6), np.float32)


def _over(density: Float32, alpha: Float32, colour: Float32) -> Float32:
    """Put a colour, (h, w, 3) or (3,), over an image as far as alpha (h, w) says."""
    return np.asarray(density + alpha[..., None] * (colour - density), np.float32)


# Red cells -----------------------------------------------------------------------------


@njit(nogil=True, cache=True)
def _paint_cells(cells, cover, thickness):  # type: ignore[no-untyped-def]
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


def _cells(
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


def _packed(rng: np.random.Generator, side: int, spacing: float) -> npt.NDArray[np.float64]:
    """Return positions all over a crop, on a disturbed hexagonal lattice, in random order."""
    rows = np.arange(-1, side / (spacing * 0.87) + 1)
    columns = np.arange(-1, side / spacing + 1)
    y, x = np.meshgrid(rows * spacing * 0.87, columns * spacing, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    positions = np.stack([y.ravel(), x.ravel()], axis=1)
    positions += rng.normal(0, spacing * rng.uniform(0.08, 0.3), positions.shape)
    return rng.permutation(positions)


def _scattered(rng: np.random.Generator, side: int, spacing: float) -> npt.NDArray[np.float64]:
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
        cells = _cells(start + way, radius, rng)
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
        return _colour(rng, (0.45, 1.0, 0.55), 0.12) * np.float32(_log_uniform(rng, 0.2, 0.55))
    return _colour(rng, (0.15, 1.0, 0.75), 0.2) * np.float32(_log_uniform(rng, 0.25, 1.9))


def _cell_radius(scene: Scene, rng: np.random.Generator) -> float:
    return _log_uniform(rng, 2.0, 4.4) / scene.mpp


def _blood(
    scene: Scene, density: Float32, cells: npt.NDArray[np.float64], where: Float32 | None,
    rng: np.random.Generator,
) -> Float32:  # fmt: skip
    """Draw red cells over or under nuclei; ``where`` (h, w) they are, everywhere if not given."""
    side = density.shape[0]
    cover, thickness = np.zeros((2, side, side), np.float32)
    _paint_cells(cells, cover, thickness)
    alpha = cover * np.float32(rng.uniform(0.75, 1.0))
    if where is not None:
        alpha *= where
    if rng.random() < 0.3:
        scene.hide(alpha > 0.5)
    else:
        alpha *= _beside_nuclei(scene)
    thickness *= 1 + np.float32(0.08) * _noise(rng, side, 2.0)
    return _over(density, alpha, thickness[..., None] * _red(rng))


def _singles(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    radius = _cell_radius(scene, rng)
    positions = _scattered(rng, density.shape[0], radius * _log_uniform(rng, 3, 14))
    return _blood(scene, density, _cells(positions, radius, rng), None, rng)


def _stacks(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    cells = _rouleaux(rng, density.shape[0], _cell_radius(scene, rng))
    return _blood(scene, density, cells, None, rng)


def _clot(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw red cells, packed, in a vessel or all over, on plasma or fibrin."""
    side, radius = density.shape[0], _cell_radius(scene, rng)
    where = None
    if rng.random() < 0.65:
        where = _region(rng, side, rng.uniform(0.15, 0.8), side * rng.uniform(0.25, 0.6))
    ground = _colour(rng, (0.3, 1.0, 0.6), 0.2) * np.float32(rng.uniform(0.02, 0.5))
    ground = ground * (1 + np.float32(0.3) * _noise(rng, side, 6.0)[..., None])
    plasma = _beside_nuclei(scene) if where is None else where * _beside_nuclei(scene)
    density = _over(density, plasma, ground.clip(0.01))
    cells = _cells(_packed(rng, side, radius * rng.uniform(1.2, 2.3)), radius, rng)
    return _blood(scene, density, cells, where, rng)


def _smear(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw red cells on glass and nothing else."""
    side, radius = density.shape[0], _cell_radius(scene, rng)
    scene.clear()
    density = np.full_like(density, _GLASS) + np.float32(rng.uniform(0, 0.25)) * _colour(
        rng, (0.4, 1.0, 0.7), 0.3
    )
    spacing = radius * _log_uniform(rng, 1.3, 5)
    place = _packed if rng.random() < 0.6 else _scattered
    cells = _cells(place(rng, side, spacing), radius, rng)
    if rng.random() < 0.2:
        cells = _rouleaux(rng, side, radius)
    return _blood(scene, density, cells, None, rng)


# Pigment, carbon, ink ------------------------------------------------------------------


def _grains(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw pigment in clusters of grains: melanin, haemosiderin, or carbon."""
    side = density.shape[0]
    if rng.random() < 0.4:
        colour = _colour(rng, (1.0, 1.0, 1.0), 0.05) * np.float32(rng.uniform(1.2, 3.5))
    else:
        colour = _colour(rng, (0.45, 0.75, 1.0), 0.15) * np.float32(rng.uniform(0.6, 2.5))
    cells = []
    for _ in range(rng.integers(1, 10)):
        count = int(rng.integers(4, 90))
        middle = rng.uniform(0, side, 2)
        spread = _log_uniform(rng, 1.0, 8.0) / scene.mpp
        shape = np.array([1.0, rng.uniform(0.3, 1.0)])
        angle = rng.uniform(0, math.pi)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        positions = middle + (rng.normal(0, spread / 2, (count, 2)) * shape) @ turn
        cells.append(_cells(positions, _log_uniform(rng, 0.25, 1.1) / scene.mpp, rng))
    drawn = np.concatenate(cells)
    drawn[:, 7] = 0.0
    cover, thickness = np.zeros((2, side, side), np.float32)
    _paint_cells(drawn, cover, thickness)
    alpha = cover * np.float32(rng.uniform(0.6, 1.0))
    scene.hide(gaussian_filter(alpha, 0.5 / scene.mpp) > 0.35)
    return _over(density, alpha, thickness[..., None] * colour)


def _ink(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw marking ink: dense, of any colour, in strokes or drops, with a dark or faded edge."""
    side = density.shape[0]
    colours = (
        (1.0, 0.6, 0.15),
        (1.0, 0.45, 0.8),
        (0.1, 0.9, 1.0),
        (1.0, 1.0, 1.0),
        (0.1, 0.3, 1.0),
    )
    colour = _colour(rng, colours[rng.integers(len(colours))], 0.15)
    grain = side * _log_uniform(rng, 0.03, 0.7)
    where = _region(rng, side, rng.uniform(0.05, 0.6), grain)
    where = gaussian_filter(where, rng.uniform(0.3, 2.0))
    inside = distance_transform_edt(where > 0.5)
    edge = 1 + rng.uniform(-0.5, 1.0) * np.exp(-inside / (rng.uniform(0.5, 3) / scene.mpp))
    texture = 1 + rng.uniform(0, 0.4) * _noise(rng, side, _log_uniform(rng, 1.5, 20))
    depth = np.float32(_log_uniform(rng, 0.3, 3.0)) * (edge * texture).clip(0.05)
    scene.hide(where * depth > 0.6, opaque=False)
    # Ink is seen through: its density adds to the tissue's.
    added = (where * depth)[..., None] * colour
    return np.asarray(density + added, np.float32)


# Folds, mucin, keratin -----------------------------------------------------------------


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
        + rng.uniform(0, 4) * _noise(rng, side, side / 5)
    )
    return np.asarray(across, np.float32), np.asarray(along, np.float32)


def _fold(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw a fold of the section: a band of double density, out of focus, with dark edges."""
    side = density.shape[0]
    across, _ = _bent(rng, side)
    half = _log_uniform(rng, 1.0, 20.0) / scene.mpp
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


def _mucin(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw droplets of mucin: pale, grey-blue, round or pear-shaped, some with a thin wall."""
    side = density.shape[0]
    radius = _log_uniform(rng, 4.0, 14.0) / scene.mpp
    spacing = radius * _log_uniform(rng, 1.8, 5.0)
    place = _packed if rng.random() < 0.4 else _scattered
    cells = _cells(place(rng, side, spacing), radius, rng)
    cells[:, 7] = rng.uniform(0, 0.5)
    cells[:, 8] = rng.uniform(-1.0, 0.3)
    cells[:, 11] = 0.0
    cover, thickness = np.zeros((2, side, side), np.float32)
    _paint_cells(cells, cover, thickness)
    colour = _colour(rng, (1.0, 0.85, 0.45), 0.2) * np.float32(_log_uniform(rng, 0.06, 0.4))
    texture = 1 + np.float32(rng.uniform(0, 0.35)) * _noise(rng, side, rng.uniform(1.5, 8))
    alpha = gaussian_filter(cover, rng.uniform(0.3, 1.5)) * np.float32(rng.uniform(0.7, 1))
    alpha *= _beside_nuclei(scene)
    return _over(density, alpha, (thickness * texture.clip(0.1))[..., None] * colour)


def _keratin(scene: Scene, density: Float32, rng: np.random.Generator) -> Float32:
    """Draw flakes and lamellae of keratin, or torn fibres, on glass or beside tissue."""
    side = density.shape[0]
    if rng.random() < 0.5:
        scene.clear()
        density = np.full_like(density, _GLASS)
    colour = _colour(rng, (0.25, 1.0, 0.65), 0.15)
    for _ in range(rng.integers(2, 9)):
        across, along = _bent(rng, side)
        half = _log_uniform(rng, 0.6, 9.0) / scene.mpp
        length = _log_uniform(rng, 6.0, 70.0) / scene.mpp
        middle = rng.uniform(-side / 2, side / 2)
        taper = half * np.sqrt(np.clip(1 - ((along - middle) / length) ** 2, 0, 1))
        alpha = np.clip((taper - np.abs(across)) + 0.5, 0, 1) * (taper > 0.3)
        lamellae = 1 + rng.uniform(0, 0.5) * np.sin(
            across / (rng.uniform(0.3, 1.6) / scene.mpp) + 0.5 * _noise(rng, side, side / 8)
        )
        edge = np.exp(-np.clip(taper - np.abs(across), 0, None) / (0.5 / scene.mpp))
        depth = _log_uniform(rng, 0.08, 0.8) * (lamellae + rng.uniform(-0.3, 1.5) * edge)
        depth = depth * (1 + 0.15 * _noise(rng, side, 4.0))
        if rng.random() < 0.5:
            alpha = alpha * _beside_nuclei(scene)
        else:
            scene.hide(alpha > 0.5)
        density = _over(
            density, np.asarray(alpha, np.float32), depth.clip(0.02)[..., None] * colour
        )
    return density


_DRAWINGS: dict[str, tuple[float, Callable[[Scene, Float32, np.random.Generator], Float32]]] = {
    "red cells": (2.0, _singles),
    "rouleaux": (1.0, _stacks),
    "clot": (2.5, _clot),
    "smear": (1.0, _smear),
    "pigment": (1.0, _grains),
    "ink": (0.8, _ink),
    "fold": (0.7, _fold),
    "mucin": (1.3, _mucin),
    "keratin": (1.2, _keratin),
}
"""How often each kind is drawn, relative to the others, and what draws it."""

KINDS = tuple(_DRAWINGS)
"""Names of the things that can be drawn."""
