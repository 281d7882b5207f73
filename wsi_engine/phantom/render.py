"""Drawing a phantom: stain by stain in optical density, then light, optics and sensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from wsi_engine.phantom.noise import FloatImage, smooth_noise, streaks
from wsi_engine.phantom.outlines import Blobs, FloatArray, Kind, PhantomNuclei
from wsi_engine.phantom.tissue import Tissue, lay_out_tissue
from wsi_engine.slide.protocol import RGB

# Unit optical densities of the red, green and blue channel (Ruifrok and Johnston 2001).
HAEMATOXYLIN = np.array([0.644, 0.717, 0.267], np.float32)
EOSIN = np.array([0.093, 0.954, 0.283], np.float32)
GLASS_RGB = (242.0, 241.0, 243.0)
"""Light through the bare slide, 0 to 255."""

_RIM_UM = 0.6
_NUCLEOLUS_UM = 0.65


@dataclass(frozen=True, slots=True)
class _Look:
    """How nuclei of one kind are stained inside.

    ``interior`` is the stain far from the rim relative to it, ``chromatin`` the contrast of
    the clumps, ``nucleoli`` the largest number of them.
    """

    interior: float
    chromatin: float
    nucleoli: int


_LOOKS = {
    Kind.EPITHELIAL: _Look(interior=0.55, chromatin=0.34, nucleoli=2),
    Kind.LYMPHOCYTE: _Look(interior=0.85, chromatin=0.30, nucleoli=0),
    Kind.SPINDLE: _Look(interior=0.85, chromatin=0.28, nucleoli=0),
}


def render_tissue(
    shape: tuple[int, int],
    nuclei: PhantomNuclei,
    mpp: float,
    rng: np.random.Generator,
    tissue: Tissue | None = None,
    blur_um: float = 0.3,
    sensor_noise: float = 1.5,
) -> RGB:
    """Draw H&E-stained tissue with exactly the nuclei given.

    Stains absorb light: optical densities add up, so overlapping nuclei are darker. The
    outline of a nucleus is where its edge has fallen to half.

    Parameters
    ----------
    shape
        (height, width) in pixels.
    nuclei
        The truth to draw; nuclei may reach over the edge of the image.
    mpp
        Pixel size in µm.
    rng
        Source of texture and noise.
    tissue
        The ground; plain stroma by default. Textures wrap around, so copies of the image
        laid side by side join without a seam.
    blur_um
        Standard deviation of the optical blur in µm.
    sensor_noise
        Standard deviation of the sensor noise, in levels of 0 to 255.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8

    Raises
    ------
    ValueError
        If ``tissue`` was laid out for another shape or pixel size.

    Examples
    --------
    >>> from wsi_engine.phantom import make_nuclei
    >>> rng = np.random.default_rng(0)
    >>> nuclei = make_nuclei([(64, 64)], mpp=0.25, rng=rng)
    >>> render_tissue((128, 128), nuclei, mpp=0.25, rng=rng).shape
    (128, 128, 3)
    """
    if tissue is None:
        tissue = lay_out_tissue(shape, mpp, rng, gland_share=0.0, aggregates_per_mm2=0.0)
    if (tissue.shape, tissue.mpp) != (shape, mpp):
        raise ValueError(f"The tissue was laid out for {tissue.shape} px of {tissue.mpp} µm.")
    haematoxylin, eosin = ground(tissue, rng)
    stain, cover = nuclear_stain(shape, nuclei, mpp, rng)
    eosin *= 1 - 0.3 * cover
    haematoxylin *= 1 - cover
    haematoxylin += stain
    stains = ((HAEMATOXYLIN, haematoxylin), (EOSIN, eosin))
    return seen(stains, blur_um / mpp, sensor_noise, rng)


def _ramp(values: npt.NDArray[np.floating[Any]], low: float, high: float) -> FloatImage:
    """Return 0 below ``low``, 1 above ``high``, linear between."""
    ramp: FloatImage = np.clip((values - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return ramp


def ground(tissue: Tissue, rng: np.random.Generator) -> tuple[FloatImage, FloatImage]:
    """Return the haematoxylin and eosin of everything but nuclei, optical densities."""
    shape, mpp = tissue.shape, tissue.mpp
    patches = smooth_noise(shape, 18 / mpp, rng)
    clumps = smooth_noise(shape, 2.2 / mpp, rng)
    grains = smooth_noise(shape, 0.3 / mpp, rng)
    # Fibres waver about their direction.
    direction = tissue.enlarged_direction() + 0.25 * smooth_noise(shape, 5 / mpp, rng)
    bundles = streaks(direction, 5 / mpp, 0.8 / mpp, rng)
    fibres = 0.7 * streaks(direction, 3 / mpp, 0.35 / mpp, rng) + 0.7 * bundles

    # Stroma: bundles of collagen with pale clefts between them.
    collagen = 0.17 + 0.03 * patches + 0.035 * fibres + 0.018 * clumps + 0.012 * grains
    clefts = _ramp(-fibres - 0.6 * clumps - 0.4 * patches, 1.3, 2.4)
    eosin = np.clip(collagen * (1 - 0.7 * clefts), 0.02, None)
    haematoxylin = np.clip(0.055 + 0.014 * clumps + 0.012 * grains, 0.0, None)
    lymphoid = tissue.enlarge(tissue.lymphoid)
    eosin *= 1 - 0.35 * lymphoid
    haematoxylin += 0.05 * lymphoid

    # Glands: a dense border, granular cytoplasm, mucin towards the apex, an empty lumen.
    depth = tissue.enlarge(tissue.depth_um)
    gland = _ramp(depth, -0.4, 0.4)
    mucin = _ramp(clumps + 0.3 * fibres, 0.1, 0.9) * _ramp(depth, 12, 15)
    cell_eosin = (0.16 + 0.02 * patches + 0.02 * fibres + 0.02 * grains) * (1 - 0.6 * mucin)
    cell_stain = (0.10 + 0.015 * clumps + 0.012 * grains + 0.02 * fibres) * (1 - 0.35 * mucin)
    lumen = _ramp(depth + 1.2 * clumps, 24.5, 25.7)
    apex = np.exp(-(((depth + 1.2 * clumps - 24.0) / 0.9) ** 2))
    cell_eosin = (cell_eosin + 0.09 * apex) * (1 - 0.94 * lumen)
    cell_stain *= 1 - 0.97 * lumen
    membrane = np.exp(-(((depth + 0.6) / 0.7) ** 2))
    eosin += gland * (cell_eosin - eosin) + 0.10 * membrane
    haematoxylin += gland * (cell_stain - haematoxylin)
    return np.clip(haematoxylin, 0, None), np.clip(eosin, 0, None)


def nuclear_stain(
    shape: tuple[int, int], nuclei: PhantomNuclei, mpp: float, rng: np.random.Generator
) -> tuple[FloatImage, FloatImage]:
    """Return the haematoxylin of all nuclei and the share of each pixel that they cover."""
    chromatin = 0.75 * smooth_noise(shape, 0.45 / mpp, rng)
    chromatin += 0.5 * smooth_noise(shape, 1.1 / mpp, rng)
    stain = np.zeros(shape, np.float32)
    cover = np.zeros(shape, np.float32)
    outlines = nuclei.outlines()
    lows = np.floor(outlines.min(axis=1)).astype(np.intp) - 2
    highs = np.ceil(outlines.max(axis=1)).astype(np.intp) + 2
    for index, (low, high) in enumerate(zip(lows, highs, strict=True)):
        depth_um = _depth_um(nuclei.shapes, index, low, high, mpp)
        # What reaches over the edge of the image is cut off.
        start = np.clip(low, 0, shape[::-1])
        stop = np.clip(high, start, shape[::-1])
        (left, top), (right, bottom) = start, stop
        depth_um = depth_um[top - low[1] : bottom - low[1], left - low[0] : right - low[0]]
        window = np.s_[top:bottom, left:right]
        covered = np.clip(depth_um / mpp + 0.5, 0, 1)
        kind = Kind(nuclei.kind[index])
        body = _body(kind, depth_um, chromatin[window], mpp, rng)
        stain[window] += nuclei.stain[index] * covered * body
        cover[window] = np.maximum(cover[window], covered)
    return stain, cover


def _depth_um(
    shapes: Blobs,
    index: int,
    low: npt.NDArray[np.intp],
    high: npt.NDArray[np.intp],
    mpp: float,
) -> FloatArray:
    """Return how deep inside a blob the pixels of a window lie; negative outside."""
    center = shapes.center_px[index]
    dx = np.arange(low[0], high[0]) + 0.5 - center[0]
    dy = np.arange(low[1], high[1]) + 0.5 - center[1]
    radius = shapes.relative_radius(index, *np.meshgrid(dx, dy))
    # To first order the distance is the level difference over the slope.
    slope_y, slope_x = np.gradient(radius)
    depth: FloatArray = (1 - radius) / np.maximum(np.hypot(slope_x, slope_y), 1e-3) * mpp
    return depth


def _body(
    kind: Kind, depth_um: FloatArray, chromatin: FloatImage, mpp: float, rng: np.random.Generator
) -> FloatArray:
    """Return the stain inside a nucleus relative to its rim: pale, clumped, with nucleoli."""
    look = _LOOKS[kind]
    body = look.interior + (1 - look.interior) * np.exp(-((depth_um / _RIM_UM) ** 2))
    body = body * np.clip(1 + look.chromatin * chromatin, 0.35, None)
    rows, columns = np.nonzero(depth_um > 2.5 * _NUCLEOLUS_UM)
    if look.nucleoli and len(rows):
        for pick in rng.integers(len(rows), size=rng.integers(look.nucleoli + 1)):
            y, x = np.ogrid[: body.shape[0], : body.shape[1]]
            square_um2 = ((y - rows[pick]) ** 2 + (x - columns[pick]) ** 2) * mpp**2
            body = body + 0.5 * np.exp(-square_um2 / _NUCLEOLUS_UM**2)
    relative: FloatArray = body
    return relative


def seen(
    stains: Sequence[tuple[npt.NDArray[np.float32], FloatImage]],
    blur_px: float,
    sensor_noise: float,
    rng: np.random.Generator,
) -> RGB:
    """Return what the camera sees through stains, by their vectors and amounts (Beer, Lambert)."""
    image = np.empty((*stains[0][1].shape, 3), np.uint8)
    for channel in range(3):
        density = sum(vector[channel] * amount for vector, amount in stains)
        light = GLASS_RGB[channel] * np.power(np.float32(10), -density)
        # The lens blurs light, not stain.
        light = scipy.ndimage.gaussian_filter(light, blur_px, mode="wrap")
        light += sensor_noise * rng.standard_normal(light.shape, dtype=np.float32)
        image[..., channel] = np.clip(np.rint(light), 0, 255)
    return image
