"""``cells.json`` of CellViT and CellViT++."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wsi_engine.convert.cells import Cell, cell_of, detections
from wsi_engine.convert.json_members import json_members
from wsi_engine.convert.types import Types, class_of_type, types_of
from wsi_engine.errors import ConversionError
from wsi_engine.qupath.objects import PathObject

MPP_TOLERANCE = 0.035
"""Difference of pixel size in µm within which CellViT takes the slide's pixels for its own."""


def read_cellvit(
    path: str | Path, *, types: Types | None = None, pixel_centres: bool = True
) -> Iterator[PathObject]:
    """Read the cells of CellViT as detections, one after the other.

    Parameters
    ----------
    path
        ``cells.json``, or ``cell_detection.json``, whose cells are points.
    types
        Classes of the type numbers, over the file's own ``type_map``.
    pixel_centres
        Outline the pixels that contours mean; else contours are taken as they are.

    Yields
    ------
    PathObject
        In full-resolution pixels as OpenSlide counts them. The class ``Background`` is none.

    Raises
    ------
    ConversionError
        When the file cannot be read; the message names the cell.
    """
    path = Path(path)
    type_map, px = _header(path)
    known = {**types_of(type_map, f"type_map of {path.name}"), **(types or {})}
    yield from detections(_cells(path, known, px), pixel_centres=pixel_centres, px=px)


def _header(path: Path) -> tuple[dict[str, Any], float]:
    """Return the map of types and the size of CellViT's pixels in full-resolution pixels."""
    found: dict[str, Any] = {}
    listed = False
    for member in json_members(path, frozenset({"cells"})):
        if member.key is None:
            found[member.name] = member.value
        listed |= member.name == "cells"
        # CellViT writes these before the cells: the rest need not be looked at.
        if listed and "type_map" in found and "wsi_metadata" in found:
            break
    if not listed:
        raise ConversionError(f'{path.name} is no file of CellViT: it has no list of "cells"')
    return found.get("type_map") or {}, _pixel_size(found.get("wsi_metadata"))


def _pixel_size(metadata: Any) -> float:
    """Follow CellViT, which rescales what it traced on a slide of another resolution."""
    if not isinstance(metadata, dict):
        return 1.0
    slide, traced = metadata.get("base_mpp"), metadata.get("target_patch_mpp")
    if not isinstance(slide, int | float) or not isinstance(traced, int | float) or slide <= 0:
        return 1.0
    return traced / slide if abs(traced - slide) > MPP_TOLERANCE else 1.0


def _cells(path: Path, types: Types, px: float) -> Iterator[Cell]:
    for member in json_members(path, frozenset({"cells"})):
        if member.name != "cells" or member.key is None:
            continue
        where = f"{path.name}: cell {member.key}"
        if not isinstance(member.value, dict):
            raise ConversionError(f"{where} is no object")
        classification = class_of_type(member.value.get("type"), types, where)
        if classification is not None and classification.names[0].lower() == "background":
            classification = None
        cell = cell_of(member.value, where, classification)
        if px == 1.0:
            yield cell
        else:
            # What was traced is a whole number; what was written was rounded once more.
            contour = None if cell.contour is None else np.rint(cell.contour / px)
            centroid = None if cell.centroid is None else cell.centroid / px
            yield replace(cell, contour=contour, centroid=centroid)
