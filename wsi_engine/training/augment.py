"""Appearance of a training crop: stain, exposure, focus, noise and compression.

Stains are perturbed in optical density, where they add up (Tellez et al., "Quantifying the
effects of data augmentation and stain color normalization in convolutional neural networks
for computational pathology", Medical Image Analysis 2019).
"""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from wsi_engine.training.config import AugmentConfig

Float32 = npt.NDArray[np.float32]

# Ruifrok & Johnston 2001: optical density of hematoxylin and eosin in (R, G, B).
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])


def _unit_rows(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), np.float64)


def _with_residual(stains: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Complete two stain vectors by the direction that neither of them colours."""
    stains = _unit_rows(stains)
    residual = np.cross(stains[0], stains[1])
    return np.vstack([stains, residual / np.linalg.norm(residual)])


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def stain_matrix(rng: np.random.Generator, config: AugmentConfig) -> npt.NDArray[np.float64]:
    """Draw a matrix (3, 3) that turns optical density (row vectors) into another stain's."""
    factors = np.array(
        [_log_uniform(rng, *config.hematoxylin), _log_uniform(rng, *config.eosin), 1.0]
    )
    shift = config.stain_vector
    unmix = np.linalg.inv(_with_residual(_STAINS + rng.normal(0, shift, (2, 3))))
    mix = _with_residual(np.clip(_STAINS + rng.normal(0, shift, (2, 3)), 0.02, None))
    return np.asarray(unmix @ np.diag(factors) @ mix, np.float64)


def stain(
    crop: Float32, white: npt.NDArray[np.float64], rng: np.random.Generator, config: AugmentConfig
) -> Float32:
    """Perturb stain and exposure of a crop.

    Parameters
    ----------
    crop
        Intensities in [0, 255], shape (h, w, 3).
    white
        Intensity of the set's empty background, shape (3,).
    """
    density = -np.log((crop + 1) / 256)
    base = -np.log((white + 1) / 256).astype(np.float32)
    if rng.random() < 0.85:
        matrix = stain_matrix(rng, config).astype(np.float32)
        exposure = base * np.float32(1 - rng.uniform(*config.white))
        density = (density - base) @ matrix + exposure
    if rng.random() < 0.1:
        grey = density.mean(axis=2, keepdims=True)
        density = density + np.float32(rng.uniform(0.3, 0.9)) * (grey - density)
    return np.asarray(256 * np.exp(-np.clip(density, 0, 5.5)) - 1, np.float32)


def expose(crop: Float32, rng: np.random.Generator, config: AugmentConfig) -> Float32:
    """Perturb brightness, contrast and the white balance of a crop in [0, 255]."""
    contrast = np.float32(math.exp(rng.normal(0, config.contrast)))
    offset = rng.normal(0, config.brightness) + rng.normal(0, config.brightness / 3, 3)
    return np.asarray((crop - 128) * contrast + np.float32(128) + 255 * offset, np.float32)


def focus(crop: Float32, rng: np.random.Generator, config: AugmentConfig) -> Float32:
    """Blur a crop, or sharpen it by unsharp masking, or leave it."""
    choice = rng.random()
    if choice < 0.35:
        return _gaussian(crop, rng.uniform(0.3, max(0.3, config.blur_px)))
    if choice < 0.55:
        amount = np.float32(rng.uniform(0.2, 1.2))
        return crop + amount * (crop - _gaussian(crop, rng.uniform(0.6, 1.2)))
    return crop


def _gaussian(crop: Float32, sigma: float) -> Float32:
    rows = gaussian_filter1d(crop, sigma, axis=0, truncate=3)
    return np.asarray(gaussian_filter1d(rows, sigma, axis=1, truncate=3), np.float32)


def digitise(
    crop: Float32, rng: np.random.Generator, config: AugmentConfig
) -> npt.NDArray[np.uint8]:
    """Add sensor noise, round to 8 bits and perhaps compress as JPEG."""
    if rng.random() < 0.4 and config.noise > 0:
        deviation = np.float32(255 * rng.uniform(0, config.noise))
        crop = crop + deviation * rng.standard_normal(crop.shape, np.float32)
    pixels = np.clip(np.rint(crop), 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        stream = io.BytesIO()
        quality = int(rng.integers(config.jpeg, 96))
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        pixels = np.asarray(Image.open(stream))
    return pixels


def augment(
    crop: Float32, white: npt.NDArray[np.float64], rng: np.random.Generator, config: AugmentConfig
) -> npt.NDArray[np.uint8]:
    """Give a crop another laboratory's stain and another scanner's optics.

    Parameters
    ----------
    crop
        Intensities in [0, 255], float32 (h, w, 3).
    white
        Intensity of the set's empty background, shape (3,).

    Returns
    -------
    uint8 (h, w, 3)
    """
    crop = stain(crop, white, rng, config)
    crop = expose(crop, rng, config)
    crop = focus(crop, rng, config)
    if config.coarser > 1 and rng.random() < 0.35:
        side = round(crop.shape[0] / rng.uniform(1.0, config.coarser))
        small = digitise(_resized(crop, side), rng, config)
        enlarged = Image.fromarray(small).resize(crop.shape[1::-1], Image.Resampling.BICUBIC)
        return np.asarray(enlarged)
    return digitise(crop, rng, config)


def _resized(crop: Float32, side: int) -> Float32:
    """Shrink a square crop to a side, by the mean over areas."""
    channels = [
        Image.fromarray(channel).resize((side, side), Image.Resampling.BOX)
        for channel in np.moveaxis(crop, 2, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)
