"""Smooth random fields that wrap around, the raw material of tissue texture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft

FloatImage = npt.NDArray[np.float32]


def smooth_noise(shape: tuple[int, int], sigma_px: float, rng: np.random.Generator) -> FloatImage:
    """Return white noise blurred with a Gaussian, zero mean and unit variance, periodic.

    Parameters
    ----------
    shape
        (height, width).
    sigma_px
        Standard deviation of the Gaussian in pixels: the size of the grains.
    rng
        Source of the noise.

    Returns
    -------
    ndarray of shape (height, width), float32
    """
    spectrum = scipy.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    return _filtered(spectrum, shape, sigma_px, sigma_px, angle=0.0)


def streaks(
    direction: FloatImage,
    length_px: float,
    width_px: float,
    rng: np.random.Generator,
    orientations: int = 8,
) -> FloatImage:
    """Return noise drawn out into fibres that follow a direction field.

    The same white noise is filtered along a few fixed orientations; each pixel takes the two
    that are nearest to its own, so that fibres bend without a seam.

    Parameters
    ----------
    direction
        Shape (height, width), float32, radians from x towards y; only the axis counts.
    length_px, width_px
        Standard deviations along and across the fibres in pixels.
    rng
        Source of the noise.
    orientations
        Number of fixed orientations.

    Returns
    -------
    ndarray of shape (height, width), float32, about zero mean and unit variance
    """
    shape = (direction.shape[0], direction.shape[1])
    spectrum = scipy.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    position = (direction * np.float32(orientations / np.pi)) % np.float32(orientations)
    total = np.zeros(shape, np.float32)
    power = np.zeros(shape, np.float32)
    for step in range(orientations):
        apart = np.abs(position - step)
        weight = np.clip(1 - np.minimum(apart, orientations - apart), 0, None)
        layer = _filtered(spectrum, shape, length_px, width_px, step * np.pi / orientations)
        total += weight * layer
        power += weight**2
    return (total / np.sqrt(power)).astype(np.float32, copy=False)


def _filtered(
    spectrum: npt.NDArray[np.complex64],
    shape: tuple[int, int],
    along_px: float,
    across_px: float,
    angle: float,
) -> FloatImage:
    """Apply an oriented Gaussian to a spectrum and bring the image to unit variance."""
    fy = scipy.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    fx = scipy.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    along = fx * np.float32(np.cos(angle)) + fy * np.float32(np.sin(angle))
    across = fy * np.float32(np.cos(angle)) - fx * np.float32(np.sin(angle))
    exponent = (along * np.float32(along_px)) ** 2 + (across * np.float32(across_px)) ** 2
    gain = np.exp(np.float32(-2 * np.pi**2) * exponent)
    image: FloatImage = scipy.fft.irfft2(spectrum * gain, s=shape)
    image -= image.mean()
    return image / max(float(image.std()), 1e-6)
