"""Drawing tissue as immunohistochemistry shows it: DAB where the antigen is, and haematoxylin."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from wsi_engine.phantom.outlines import FloatArray, PhantomNuclei
from wsi_engine.phantom.render import ground, nuclear_stain, seen
from wsi_engine.phantom.tissue import Tissue
from wsi_engine.slide.protocol import RGB

_HAEMATOXYLIN = np.array([0.651, 0.701, 0.290], np.float32)
_DAB = np.array([0.269, 0.568, 0.778], np.float32)
"""Unit optical densities of the red, green and blue channel (Ruifrok and Johnston 2001)."""

_COUNTERSTAIN = 0.7
"""How much of the haematoxylin of an H&E section the counterstain of nuclei has."""
_LEFT_BESIDE_DAB = 0.25
"""Share of it in nuclei that DAB fills."""
_BLUE_HAZE = 0.3
"""How much the counterstain takes of what eosin would stain."""

Where = Literal["nuclei", "cytoplasm"]


def render_immunostain(
    shape: tuple[int, int],
    nuclei: PhantomNuclei,
    dab: FloatArray,
    mpp: float,
    rng: np.random.Generator,
    tissue: Tissue,
    where: Where = "nuclei",
    blur_um: float = 0.3,
    sensor_noise: float = 1.5,
) -> RGB:
    """Draw tissue stained with an antibody by DAB, and with haematoxylin.

    Parameters
    ----------
    shape
        (height, width) in pixels.
    nuclei
        The truth to draw.
    dab
        Optical density of DAB at the rim of each nucleus, shape (n,); 0 for negative ones. Of an
        antigen in the cytoplasm, the largest is that of the cells of glands.
    mpp
        Pixel size in µm.
    rng
        Source of texture and noise.
    tissue
        The ground, laid out for this shape and pixel size.
    where
        Where the antigen is: in nuclei (Ki-67, ER), or in the cytoplasm of glands.
    blur_um, sensor_noise
        As for `render_tissue`.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8

    Examples
    --------
    >>> from wsi_engine.phantom import lay_out_tissue, scatter_nuclei
    >>> rng = np.random.default_rng(0)
    >>> tissue = lay_out_tissue((128, 128), 0.5, rng)
    >>> nuclei = scatter_nuclei(tissue, rng)
    >>> dab = np.where(np.arange(len(nuclei)) % 3 == 0, 0.6, 0.0)
    >>> render_immunostain((128, 128), nuclei, dab, 0.5, rng, tissue).shape
    (128, 128, 3)
    """
    haze, eosin = ground(tissue, rng)
    counterstain = nuclei.stain * _COUNTERSTAIN
    if where == "nuclei":
        # DAB keeps haematoxylin out of what it fills.
        counterstain = counterstain * np.where(np.asarray(dab) > 0, _LEFT_BESIDE_DAB, 1)
    stain, cover = nuclear_stain(
        shape, PhantomNuclei(nuclei.shapes, nuclei.kind, counterstain), mpp, rng
    )
    haematoxylin = (0.5 * haze + _BLUE_HAZE * eosin) * (1 - cover) + stain
    if where == "nuclei":
        positive = PhantomNuclei(nuclei.shapes, nuclei.kind, np.asarray(dab, np.float64))
        brown, _ = nuclear_stain(shape, positive, mpp, rng)
    else:
        brown = _glandular(tissue, eosin, np.float32(np.max(dab, initial=0))) * (1 - 0.8 * cover)
    return seen(((_HAEMATOXYLIN, haematoxylin), (_DAB, brown)), blur_um / mpp, sensor_noise, rng)


def _glandular(
    tissue: Tissue, eosin: npt.NDArray[np.float32], density: np.float32
) -> npt.NDArray[np.float32]:
    """Return the DAB of the cytoplasm of glands, as grained as their eosin is."""
    inside = np.clip(tissue.enlarge(tissue.depth_um) / 0.8 + 0.5, 0, 1)
    brown: npt.NDArray[np.float32] = density * inside * eosin / np.float32(0.16)
    return brown
