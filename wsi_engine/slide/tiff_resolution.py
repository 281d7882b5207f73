"""Pixel size of a TIFF: from its resolution tags, OME-XML, or what ImageJ writes."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

import tifffile

from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.resolution import usable_mpp

UM_PER_UNIT = {
    "m": 1e6,
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    "nm": 1e-3,
    "inch": 25_400.0,
    "in": 25_400.0,
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", r"\u00b5m"), 1.0),
}

_INCH, _CENTIMETRE = 2, 3
LARGEST_OME_XML = 1 << 24


def mpp_of_tiff(tiff: tifffile.TiffFile) -> tuple[Mpp | None, str]:
    """Return the pixel size that the first page of a TIFF states, and where.

    Resolution tags come first, as OpenSlide reads those alone; what they state is passed over
    where no slide can have it, such as a printer's 72 dpi.

    Returns
    -------
    mpp, source
        ``None`` with the reason where the file states none that can be.
    """
    refused = "the file states none"
    for source, read in (
        ("resolution tags", _from_tags),
        ("OME-XML", _from_ome),
        ("ImageJ", _from_imagej),
    ):
        stated = read(tiff)
        if stated is None:
            continue
        mpp, why_not = usable_mpp(*stated)
        if mpp is not None:
            return mpp, source
        refused = why_not
    return None, refused


def _from_tags(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    first: Any = tiff.pages[0]
    tags = first.tags
    unit = tags.valueof("ResolutionUnit", _INCH)
    per_unit = {_INCH: 25_400.0, _CENTIMETRE: 10_000.0}.get(int(unit))
    if per_unit is None:
        return None
    x, y = (_pixels(tags.valueof(f"{axis}Resolution")) for axis in "XY")
    return _sizes(x, y, per_unit)


def _from_imagej(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    if not tiff.is_imagej:
        return None
    unit = str((tiff.imagej_metadata or {}).get("unit", ""))
    first: Any = tiff.pages[0]
    tags = first.tags
    per_unit = UM_PER_UNIT.get(unit.lower())
    if per_unit is None:
        return None
    x, y = (_pixels(tags.valueof(f"{axis}Resolution")) for axis in "XY")
    return _sizes(x, y, per_unit)


def _from_ome(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    text = tiff.ome_metadata
    # Nothing of OME-XML needs entities, and some of them never end.
    if not text or len(text) > LARGEST_OME_XML or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    sizes = [
        _number(pixels.get(f"PhysicalSize{axis}"))
        * UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), math.nan)
        for axis in "XY"
    ]
    return (sizes[0], sizes[1]) if all(map(math.isfinite, sizes)) else None


def _sizes(x: float, y: float, um_per_unit: float) -> tuple[float, float] | None:
    if not (math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0):
        return None
    return um_per_unit / x, um_per_unit / y


def _pixels(value: Any) -> float:
    """Read a rational tag: pixels per unit."""
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return math.nan


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan
