"""Label images: one whole number per nucleus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, UnidentifiedImageError

from wsi_engine.errors import ConversionError, reason_for
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.tracing import trace_labels
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.roi import ROI

LABEL = "Label"
"""Metadata of a detection: its number in the image."""


def read_label_image(path: str | Path) -> Iterator[PathObject]:
    """Outline every label of an image as a detection, at the borders of its pixels.

    Where a label has several 4-connected parts, the largest is outlined; holes are filled.

    Parameters
    ----------
    path
        ``.npy``, TIFF or PNG of whole numbers, 0 for background. It is held in memory.

    Yields
    ------
    PathObject
        In pixels of the image, by label.

    Raises
    ------
    ConversionError
        When the file cannot be read or is no label image.
    """
    labels = _labels(Path(path))
    xy, offsets, label_ids = trace_labels(labels)
    for polygon, label in zip(polygons_from_rings(xy, offsets), label_ids, strict=True):
        yield PathObject(
            object_type="detection", roi=ROI(polygon), metadata={LABEL: str(int(label))}
        )


def _labels(path: Path) -> npt.NDArray[np.int32]:
    try:
        if path.suffix.lower() == ".npy":
            pixels = np.load(path, allow_pickle=False)
        elif path.suffix.lower() in (".tif", ".tiff"):
            pixels = tifffile.imread(path)
        else:
            with Image.open(path) as file:
                if file.mode not in ("1", "L", "I", "I;16", "I;16B", "F"):
                    raise ConversionError(
                        f"{path.name} is no label image: it is in colour (mode {file.mode})"
                    )
                pixels = np.asarray(file)
    except FileNotFoundError:
        raise ConversionError(f"{path}: no such file") from None
    except (OSError, EOFError, ValueError, UnidentifiedImageError) as error:
        raise ConversionError(f"{path.name} cannot be read: {reason_for(error)}") from None
    pixels = np.asarray(pixels)
    if pixels.ndim != 2 or not np.issubdtype(pixels.dtype, np.integer):
        raise ConversionError(
            f"{path.name} is no label image: it has shape {pixels.shape} and type {pixels.dtype}, "
            "where one whole number per pixel is expected (0 background, k nucleus k)"
        )
    if pixels.size and (pixels.min() < 0 or pixels.max() > np.iinfo(np.int32).max):
        raise ConversionError(f"{path.name}: labels are whole numbers from 0 to 2147483647")
    return np.ascontiguousarray(pixels, np.int32)
