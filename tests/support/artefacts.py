"""What goes wrong on real slides, painted on generated tissue: pen, blur, folds."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from tests.support.slides import ellipse, glass
from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.slide.optical_density import floored_od

MPP = 0.5
INKS = {
    "blue": (45, 95, 190),
    "green": (30, 130, 70),
    "black": (25, 25, 28),
    "red": (225, 30, 40),
}
SENSOR_NOISE = 1.5


def generated_slide(side_um: float = 1000.0, seed: int = 5) -> np.ndarray:
    """An island of generated H&E tissue on glass at 0.5 µm, uint8, shape (side, side, 3)."""
    rng = np.random.default_rng(seed)
    side = round(side_um / MPP)
    shape = (side // 2, side // 2)
    tissue = lay_out_tissue(shape, MPP, rng)
    field = render_tissue(shape, scatter_nuclei(tissue, rng), MPP, rng, tissue)
    image = glass(2 * shape[0], 2 * shape[1])
    island = ellipse(image, (shape[1], shape[0]), (0.8 * shape[1], 0.7 * shape[0]))
    # Generated fields join without a seam.
    image[island] = np.tile(field, (2, 2, 1))[island]
    return image


def band(
    image: np.ndarray, centre_um: tuple[float, float], length_um: float, width_um: float,
    degrees: float = 30.0, mpp: float = MPP,
) -> np.ndarray:  # fmt: skip
    """Mask of a straight band."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    dx, dy = x * mpp - centre_um[0], y * mpp - centre_um[1]
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (abs(dx * c + dy * s) < length_um / 2) & (abs(dy * c - dx * s) < width_um / 2)


def folded(image: np.ndarray, where: np.ndarray, layers: int = 3, mpp: float = MPP) -> np.ndarray:
    """Lay tissue on itself: displaced copies add their optical densities."""
    density = floored_od(image)
    below = sum(
        np.roll(density, (round(120 / mpp) * k, round(-90 / mpp) * k), (0, 1))
        for k in range(1, layers)
    )
    soft = ndimage.gaussian_filter(where.astype(np.float32), 1.0 / mpp)[..., None]
    return _rgb(density + soft * below)


def defocused(image: np.ndarray, where: np.ndarray, sigma_um: float, mpp: float = MPP):
    """Blur by a Gaussian; the noise of the camera comes after the optics."""
    blurred = ndimage.gaussian_filter(image.astype(np.float32), (sigma_um / mpp,) * 2 + (0,))
    blurred += np.random.default_rng(0).normal(0, SENSOR_NOISE, image.shape)
    sharp = image.copy()
    sharp[where] = np.clip(np.rint(blurred), 0, 255).astype(np.uint8)[where]
    return sharp


def penned(
    image: np.ndarray, points_um: list[tuple[float, float]], ink: str, width_um: float = 120.0,
    mpp: float = MPP,
) -> np.ndarray:  # fmt: skip
    """Draw a stroke of a marker: ink absorbs what light the tissue leaves."""
    canvas = Image.new("L", image.shape[1::-1])
    ImageDraw.Draw(canvas).line(
        [(x / mpp, y / mpp) for x, y in points_um], fill=255, width=round(width_um / mpp)
    )
    cover = ndimage.gaussian_filter(np.asarray(canvas) / np.float32(255), 2.0 / mpp)[..., None]
    absorbed = floored_od(np.array(INKS[ink], np.uint8).reshape(1, 1, 3))
    return _rgb(floored_od(image) + cover * absorbed)


def _rgb(density: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(256 * 10.0 ** -density.astype(np.float64) - 1), 0, 255).astype(np.uint8)
