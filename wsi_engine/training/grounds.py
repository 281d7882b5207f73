"""What drawings of things that are no nuclei are made of: colours, textures, regions."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from wsi_engine.training.scene import Float32, Scene

GLASS = np.float32(0.03)
"""Optical density of empty glass, where a drawing clears its ground."""


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def random_colour(
    rng: np.random.Generator, rgb: tuple[float, float, float], spread: float
) -> Float32:
    """Draw a direction of optical density around one, of length 1 in its largest part."""
    drawn = np.array(rgb) * np.exp(rng.normal(0, spread, 3))
    return np.asarray(drawn / drawn.max(), np.float32)


def smooth_noise(rng: np.random.Generator, side: int, grain: float) -> Float32:
    """Return smooth noise (side, side) of deviation 1, its grain in pixels."""
    coarse = max(4, math.ceil(side / max(grain, 1.0)) + 2)
    field = Image.fromarray(rng.standard_normal((coarse, coarse)).astype(np.float32))
    # A part of it, at random, so that the grains' lattice is nowhere in particular.
    extent = coarse - 2
    top, left = rng.uniform(0, 2, 2)
    box = (left, top, left + extent, top + extent)
    smooth = np.asarray(field.resize((side, side), Image.Resampling.BICUBIC, box))
    return np.asarray((smooth - smooth.mean()) / (smooth.std() + 1e-6), np.float32)


def random_region(rng: np.random.Generator, side: int, share: float, grain: float) -> Float32:
    """Return a blob or several that cover a share of the crop, soft within a pixel."""
    field = smooth_noise(rng, side, grain)
    level = np.quantile(field, 1 - share)
    gradient = np.hypot(*np.gradient(field)) + 1e-4
    return np.asarray(np.clip((field - level) / gradient + 0.5, 0, 1), np.float32)


def beside_nuclei(scene: Scene) -> Float32:
    """Return 1 where there is no nucleus, 0 in nuclei, soft between."""
    return np.asarray(1 - gaussian_filter(scene.nuclei(), 0.6), np.float32)


def over(density: Float32, alpha: Float32, colour: Float32) -> Float32:
    """Put a colour, (h, w, 3) or (3,), over an image as far as alpha (h, w) says."""
    return np.asarray(density + alpha[..., None] * (colour - density), np.float32)
