"""The JSON files of HoVer-Net, of whole slides and of tiles."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wsi_engine.convert.cells import Cell, cell_of, detections
from wsi_engine.convert.json_members import json_members
from wsi_engine.convert.types import Types, class_of_type
from wsi_engine.errors import ConversionError
from wsi_engine.qupath.objects import PathObject

log = logging.getLogger(__name__)

_CELLS = frozenset({"nuc"})


def read_hovernet(
    path: str | Path, *, types: Types | None = None, pixel_centres: bool = True
) -> Iterator[PathObject]:
    """Read the nuclei of HoVer-Net as detections, one after the other.

    Parameters
    ----------
    path
        ``{"mag": 40, "nuc": {"1": {"contour": ..., "type": ...}, ...}}``, or the nuclei alone.
    types
        Classes of the type numbers, see `types.read_types`; without them a class is ``Type 1``.
        Type 0 is HoVer-Net's background, and no class.
    pixel_centres
        Outline the pixels that contours mean; else contours are taken as they are.

    Yields
    ------
    PathObject
        In the pixels in which HoVer-Net worked: those of ``mag`` (see `magnification`), or of
        the tile.

    Raises
    ------
    ConversionError
        When the file cannot be read; the message names the nucleus.
    """
    yield from detections(_cells(Path(path), types or {}), pixel_centres=pixel_centres)


def magnification(path: str | Path) -> float | None:
    """Return the magnification at which HoVer-Net worked, where the file begins with it."""
    for member in json_members(Path(path), _CELLS):
        if member.name == "mag" and isinstance(member.value, int | float):
            return float(member.value)
        break
    return None


def _cells(path: Path, types: Types) -> Iterator[Cell]:
    some = False
    for member in json_members(path, _CELLS):
        name = member.name if member.key is None else member.key
        some |= member.name in _CELLS or _is_nucleus(member.value)
        if member.key is None and not _is_nucleus(member.value):
            continue
        where = f"{path.name}: nucleus {name}"
        if not isinstance(member.value, dict):
            raise ConversionError(f"{where} is no object")
        number = member.value.get("type")
        classification = class_of_type(number or None, types, where)
        yield cell_of(member.value, where, classification)
    if not some:
        raise ConversionError(f'{path.name} is no file of HoVer-Net: it has no nuclei ("nuc")')


def _is_nucleus(value: Any) -> bool:
    return isinstance(value, dict) and ("contour" in value or "centroid" in value)
