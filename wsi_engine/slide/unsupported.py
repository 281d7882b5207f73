"""Why a sound file cannot be read, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wsi_engine.slide.dicom_header import DicomHeader
from wsi_engine.slide.slide_files import dicom_header, dicom_series
from wsi_engine.slide.tiff_slide import OPENSLIDE_COMPRESSIONS

CONVERT_TIFF = (
    "convert it, for example with `vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg`"
)
UNSURE = frozenset({33003, 33005})
"""Aperio's JPEG 2000: outside of Aperio's files nothing says which colours the tiles hold."""

_READABLE_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def why_not_supported(path: Path) -> str | None:
    """Say in a clause what of a sound file is not supported, and what to do.

    ``None`` where nothing of that kind is found: the file is damaged then, or of another format.
    """
    if dicom_header(path) is not None:
        return _why_not_dicom(path)
    try:
        with tifffile.TiffFile(path) as tiff:
            return _why_not_tiff(tiff)
    # Whatever it is that tifffile cannot read either, it is no matter of support.
    except Exception:
        return None


def _why_not_tiff(tiff: tifffile.TiffFile) -> str | None:
    page: Any = tiff.pages[0]
    name = getattr(page.compression, "name", str(int(page.compression)))
    if page.compression in UNSURE:
        return (
            f"its tiles are compressed with {name}, which is defined for Aperio's files only: "
            f"{CONVERT_TIFF}"
        )
    if page.dtype is not None and page.dtype != np.uint8 and page.dtype != np.uint16:
        return (
            f"its values are {page.dtype}, as those of label images and of measurements are: save "
            "colours as 8-bit RGB"
        )
    if page.samplesperpixel == 1 and _planes(tiff, page) > 1:
        return (
            f"it has {_planes(tiff, page)} grey planes where one of RGB is wanted: save it as RGB "
            "(in Bio-Formats, bfconvert -merge)"
        )
    if page.dtype == np.uint16 and _brightest(page) < 1 << 12:
        return (
            "its values are 16 bits wide, but use at most the lower 12 of them, which reads as "
            "almost black: scale them to 8 bits"
        )
    if page.compression not in OPENSLIDE_COMPRESSIONS:
        return f"its tiles are compressed with {name} and not of 8-bit RGB: {CONVERT_TIFF}"
    return None


def _planes(tiff: tifffile.TiffFile, first: Any) -> int:
    """Count the pages that are as large as the first: planes of one image, not levels."""
    pages: list[Any] = list(tiff.pages)
    size = (first.imagewidth, first.imagelength)
    return sum((page.keyframe.imagewidth, page.keyframe.imagelength) == size for page in pages)


def _brightest(page: Any) -> int:
    """Return the highest value of a tile in the middle, where slides have their tissue."""
    index = len(page.dataoffsets) // 2
    stream = page.parent.filehandle
    stream.seek(page.dataoffsets[index])
    pixels = page.decode(stream.read(page.databytecounts[index]), index)[0]
    return int(pixels.max()) if pixels is not None and pixels.size else 1 << 16


def _why_not_dicom(path: Path) -> str | None:
    """Say what of a series OpenSlide does not read: it opens all of it or nothing."""
    own = dicom_header(path)
    if own is not None and not own.is_whole_slide:
        return "it is a DICOM object of another kind than a whole slide image: name the slide"
    series = dicom_series(path)
    for file, header in series:
        if header.photometric and header.photometric not in _READABLE_COLOURS:
            what = f"{file.name} ({header.flavor or 'image'}) is {header.photometric}, not colour"
            return f"{what}, and OpenSlide opens no series with such a file: {_aside(header)}"
        if header.focal_planes > 1:
            return (
                f"{file.name} has {header.focal_planes} focal planes, and OpenSlide reads one: "
                "convert the series with one plane, for example with wsidicomizer"
            )
    sizes: dict[tuple[int, int], Path] = {}
    for file, header in series:
        other = sizes.setdefault((header.columns, header.rows), file) if header.has_levels else file
        if other != file:
            return (
                f"{other.name} and {file.name} of its series are of the same level, as those of "
                "two focal planes are, and OpenSlide reads one: move one of them out of the folder"
            )
    if series and not any(header.has_levels for _, header in series):
        return "its series has a label or an overview only: add the files of its levels"
    return None


def _aside(header: DicomHeader) -> str:
    if header.has_levels:
        return "convert the series to colour"
    return "move that file out of the folder, the slide does not need it"
