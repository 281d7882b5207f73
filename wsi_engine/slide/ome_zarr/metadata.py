"""What OME-NGFF 0.4 and 0.5 say of an image: axes, levels, pixel size, order of the colours."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.ome_zarr.files import Files, read_json
from wsi_engine.slide.resolution import usable_mpp
from wsi_engine.slide.tiff_resolution import UM_PER_UNIT

MARKERS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""Names of files, one of which is in each folder that is a node of a Zarr hierarchy."""

VERSIONS = ("0.4", "0.5")

MOST_LEVELS = 32
MOST_SERIES = 200
LONGEST_PATH = 200

UM_PER_NGFF_UNIT = UM_PER_UNIT | {
    "kilometer": 1e9, "hectometer": 1e8, "meter": 1e6, "decimeter": 1e5, "centimeter": 1e4,
    "millimeter": 1e3, "nanometer": 1e-3, "angstrom": 1e-4, "picometer": 1e-6, "femtometer": 1e-9,
    "inch": 25_400.0, "foot": 304_800.0, "yard": 914_400.0, "mile": 1_609_344_000.0,
}  # fmt: skip
"""Units of length that OME-NGFF names, and others that are met with."""

_RGB = ("FF0000", "00FF00", "0000FF")
_RGB_NAMES = (("red", "green", "blue"), ("r", "g", "b"))
_NUMBERED = re.compile(r"(?:c|ch|channel)?[ _:-]*\d*")
"""Names of channels that say nothing."""


@dataclass(frozen=True, slots=True)
class Multiscale:
    """An image as its metadata describe it.

    Attributes
    ----------
    axes
        Names of the axes in their order, some of t, c, z, y, x.
    paths
        The arrays of the levels, finest first, named from the top of the hierarchy.
    mpp, mpp_source
        Pixel size of the finest level, and where it was found, or ``None`` and why not.
    channels
        Names or colours of the channels, as far as they are given.
    rgb
        Which channel is red, green and blue; ``None`` where they are other colours.
    focal_plane
        Which plane along z is shown; ``None`` where nothing says so.
    """

    axes: tuple[str, ...]
    paths: tuple[str, ...]
    mpp: Mpp | None
    mpp_source: str
    channels: tuple[str, ...]
    rgb: tuple[int, int, int] | None
    focal_plane: int | None


def ome_attributes(files: Files, group: str) -> dict[str, Any] | None:
    """Return what a group says in the terms of OME-NGFF; ``None`` if it is no group of Zarr.

    Raises
    ------
    ValueError
        When its metadata cannot be understood.
    OSError
        When they cannot be read.
    """
    newer = read_json(files, _within(group, "zarr.json"))
    if newer is not None:
        attributes = newer.get("attributes", {})
        ome = attributes.get("ome", {}) if isinstance(attributes, dict) else {}
        return ome if isinstance(ome, dict) else {}
    older = read_json(files, _within(group, ".zattrs"))
    if older is None and files.size(_within(group, ".zgroup")) is not None:
        return {}
    return older


def holds_image(attributes: dict[str, Any]) -> bool:
    """Tell from the attributes of a group whether it is for a slide: no label image, no table."""
    if "multiscales" in attributes:
        return "image-label" not in attributes
    return not attributes.keys().isdisjoint(("bioformats2raw.layout", "plate", "well"))


def image_groups(files: Files, attributes: dict[str, Any]) -> list[str]:
    """Return the groups of the images in a hierarchy: the top, or the series of bioformats2raw.

    Raises
    ------
    ValueError
        When there is none.
    """
    if "multiscales" in attributes:
        return [""]
    if "plate" in attributes or "well" in attributes:
        raise ValueError("it is a plate of wells: name the folder of one of its images, as A/1/0")
    if "bioformats2raw.layout" not in attributes:
        raise ValueError("it is a Zarr hierarchy without an image of OME-NGFF 0.4 or 0.5")
    listed = (ome_attributes(files, "OME") or {}).get("series")
    if isinstance(listed, list):
        if len(listed) > MOST_SERIES:
            raise ValueError(f"it has {len(listed)} images, more than {MOST_SERIES}")
        return [_checked_path(path) for path in listed]
    groups: list[str] = []
    for number in count():
        if number >= MOST_SERIES or ome_attributes(files, str(number)) is None:
            break
        groups.append(str(number))
    if not groups:
        raise ValueError("it is laid out by bioformats2raw and has no image: copy it again, whole")
    return groups


def read_multiscale(attributes: dict[str, Any], group: str) -> Multiscale:
    """Read what the group of an image says.

    Raises
    ------
    ValueError
        When it is of another version, contradicts itself, or names places outside of its group.
    """
    found = attributes.get("multiscales")
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        raise ValueError("its multiscales are not those of OME-NGFF")
    image: dict[str, Any] = found[0]
    version = str(image.get("version", attributes.get("version", VERSIONS[0])))
    # SpatialData's versions are these with its own name behind.
    if version.partition("-")[0] not in VERSIONS:
        raise ValueError(
            f"it is of OME-NGFF {version[:20]}, and 0.4 and 0.5 are read: convert it, for "
            "example with ngff-zarr"
        )
    axes, units = _axes(image.get("axes"))
    datasets = image.get("datasets")
    if not isinstance(datasets, list) or not 1 <= len(datasets) <= MOST_LEVELS:
        raise ValueError(f"it should list 1 to {MOST_LEVELS} levels")
    if not all(isinstance(level, dict) for level in datasets):
        raise ValueError("its list of levels is not that of OME-NGFF")
    paths = tuple(_within(group, _checked_path(level.get("path"))) for level in datasets)
    if len(set(paths)) < len(paths):
        raise ValueError("it lists a level twice")
    mpp, source = _mpp(image, datasets[0], axes, units)
    omero = attributes.get("omero")
    omero = omero if isinstance(omero, dict) else {}
    names, rgb = _channels(omero)
    return Multiscale(axes, paths, mpp, source, names, rgb, _focal_plane(omero))


def _within(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name


def _checked_path(path: Any) -> str:
    """Return a path that stays below where it is named."""
    if not isinstance(path, str):
        raise ValueError("it names a place that is no text")  # noqa: TRY004 - a damaged file
    parts = path.removesuffix("/").split("/")
    is_odd = any(part in ("", ".", "..") or part.startswith(("~", "__")) for part in parts)
    if is_odd or len(path) > LONGEST_PATH or any(c in path for c in "\\:\0"):
        raise ValueError(f"it names {path[:LONGEST_PATH]!r}, a place outside of itself")
    return "/".join(parts)


def _axes(axes: Any) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """Return the names of the axes, and the unit of each."""
    if not isinstance(axes, list) or not all(isinstance(axis, dict) for axis in axes):
        raise ValueError("it does not say what its axes are, as OME-NGFF 0.4 and 0.5 do")
    names = tuple(str(axis.get("name"))[:20] for axis in axes)
    known = set(names) <= set("tczyx") and len(set(names)) == len(names)
    if not known or not {"y", "x"} <= set(names):
        raise ValueError(f"its axes are {', '.join(names[:8])}, not some of t, c, z, y, x")
    units = {name: axis.get("unit") for name, axis in zip(names, axes, strict=True)}
    return names, {name: unit if isinstance(unit, str) else None for name, unit in units.items()}


def _mpp(
    image: dict[str, Any],
    finest: dict[str, Any],
    axes: tuple[str, ...],
    units: dict[str, str | None],
) -> tuple[Mpp | None, str]:
    scale = [1.0] * len(axes)
    own = finest.get("coordinateTransformations")
    for transformations in (own, image.get("coordinateTransformations")):
        factors = _scale(transformations, len(axes))
        scale = [one * other for one, other in zip(scale, factors, strict=True)]
    if not isinstance(own, list) or not own:
        return None, "the file states none"
    sizes = []
    for name in "xy":
        unit = units[name]
        if unit is None:
            return None, f"the file states {scale[axes.index(name)]:g} without a unit"
        if unit not in UM_PER_NGFF_UNIT:
            return None, f"the file states it in {unit[:40]!r}, which is no unit of length"
        sizes.append(scale[axes.index(name)] * UM_PER_NGFF_UNIT[unit])
    mpp, why_not = usable_mpp(sizes[0], sizes[1])
    return mpp, "OME-Zarr" if mpp is not None else why_not


def _scale(transformations: Any, dimensions: int) -> list[float]:
    """Return the factors that a list of transformations stretches the axes by."""
    scale = [1.0] * dimensions
    if not isinstance(transformations, list):
        return scale
    for one in transformations:
        kind = one.get("type") if isinstance(one, dict) else None
        # A translation says where the image lies in a larger world: nuclei lie on the slide.
        if kind in ("identity", "translation"):
            continue
        factors: Any = one.get("scale") if kind == "scale" else None
        if not _are_factors(factors, dimensions):
            raise ValueError(
                f"its coordinateTransformations hold {str(kind)[:20]!r}, not one positive factor "
                "per axis"
            )
        scale = [one * float(other) for one, other in zip(scale, factors, strict=True)]
    return scale


def _are_factors(factors: Any, dimensions: int) -> bool:
    return (
        isinstance(factors, list)
        and len(factors) == dimensions
        and all(
            isinstance(factor, int | float) and math.isfinite(factor) and factor > 0
            for factor in factors
        )
    )


def _channels(omero: dict[str, Any]) -> tuple[tuple[str, ...], tuple[int, int, int] | None]:
    """Return what the channels are called, and which are red, green and blue.

    Without a word, or the same word of all, they are in that order.
    """
    listed = omero.get("channels")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return (), (0, 1, 2)
    colours = [str(one.get("color", ""))[:20].upper().lstrip("#")[-6:] for one in listed]
    labels = [str(one.get("label", ""))[:40] for one in listed]
    names = tuple(label or colour for label, colour in zip(labels, colours, strict=True))
    lower = [label.casefold() for label in labels]
    for words, known in ((colours, _RGB), *((lower, names) for names in _RGB_NAMES)):
        order = _order(words, known)
        if order is not None:
            return names, order
    is_silent = len(set(colours)) <= 1 and all(map(_NUMBERED.fullmatch, lower))
    return names, (0, 1, 2) if is_silent else None


def _order(words: Sequence[str], known: Sequence[str]) -> tuple[int, int, int] | None:
    if sorted(words) != sorted(known):
        return None
    red, green, blue = (words.index(one) for one in known)
    return red, green, blue


def _focal_plane(omero: dict[str, Any]) -> int | None:
    defaults = omero.get("rdefs")
    plane = defaults.get("defaultZ") if isinstance(defaults, dict) else None
    return plane if isinstance(plane, int) and not isinstance(plane, bool) else None
