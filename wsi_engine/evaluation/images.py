"""Reading images and label images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, UnidentifiedImageError

from wsi_engine.errors import DatasetError, reason_for
from wsi_engine.nuclei import raster

UNKNOWN = raster.UNKNOWN
"""Label of a pixel of which nothing is known."""

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy")


def is_image(path: Path) -> bool:
    """Whether a file can hold an image, by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an RGB image as uint8 (h, w, 3).

    Raises
    ------
    DatasetError
        If the file cannot be read or is not an RGB (or grey) image of 8 bits.
    """
    pixels = _read_array(path)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
        raise DatasetError(
            f"{path} is no 8-bit RGB image: it has shape {pixels.shape} and type {pixels.dtype}"
        )
    return np.ascontiguousarray(pixels[..., :3])


def read_labels(path: Path) -> npt.NDArray[np.uint16]:
    """Read a label image as uint16 (h, w): 0 background, ``UNKNOWN`` unknown, else nuclei.

    Raises
    ------
    DatasetError
        If the file cannot be read or does not hold whole numbers from 0 to 65535.
    """
    labels = _read_array(path)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise DatasetError(
            f"{path} is no label image: it has shape {labels.shape} and type {labels.dtype}, "
            "where one whole number per pixel is expected (0 background, k nucleus k)"
        )
    if labels.min(initial=0) < 0 or labels.max(initial=0) > UNKNOWN:
        raise DatasetError(f"{path} holds labels outside of 0 to {UNKNOWN}")
    return np.ascontiguousarray(labels, np.uint16)


def read_taught(path: Path) -> npt.NDArray[np.uint8]:
    """Read what a teacher says, a grey image of 8 bits, uint8 (h, w).

    Raises
    ------
    DatasetError
        If the file cannot be read or is something else.
    """
    pixels = _read_array(path)
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise DatasetError(
            f"{path} is no grey 8-bit image: it has shape {pixels.shape} and type {pixels.dtype}"
        )
    return np.ascontiguousarray(pixels, np.uint8)


def _read_array(path: Path) -> npt.NDArray[np.generic]:
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if path.suffix.lower() in (".tif", ".tiff"):
            return np.asarray(tifffile.imread(path))
        with Image.open(path) as file:
            convert = file.mode in ("P", "CMYK", "LA", "PA")
            return np.asarray(file.convert("RGB") if convert else file)
    except (OSError, EOFError, ValueError, UnidentifiedImageError, tifffile.TiffFileError) as error:
        raise DatasetError(f"{path} cannot be read: {reason_for(error)}") from error
