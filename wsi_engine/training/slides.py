"""Fields that were annotated in QuPath, read from their slides."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.drawings import read_drawing
from wsi_engine.evaluation.polygons import Polygons
from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import RGB, SlideInfo
from wsi_engine.slide.whole_pixels import make_model_grid
from wsi_engine.training.classes import ClassIndex
from wsi_engine.training.config import SlideDataConfig
from wsi_engine.training.fields import Field, labels_from_polygons, make_field, refuse_points

log = logging.getLogger(__name__)

FINEST_TRAINING_MPP = 0.25
"""Finer pixels would be averaged again before the network sees them."""

# Fields are held in memory: 1 mm x 1 mm at 0.25 µm/px takes 80 MB.
_LARGEST_FIELD_PX = 4096 * 4096
# Above any nucleus: who draws a larger one means something else.
_LARGEST_NUCLEUS_UM = 100.0


def fields_of_slide(
    slide_path: Path, annotation_path: Path, config: SlideDataConfig, index: ClassIndex, group: str
) -> list[Field]:
    """Read the annotated fields of one slide; of the slide nothing else is held.

    A nucleus counts in every field that it reaches into. Nuclei outside of all fields are
    passed over with a warning: of what surrounds them nothing is known.

    Parameters
    ----------
    annotation_path
        GeoJSON in QuPath pixels; see `wsi_engine.evaluation.drawings.Drawing`.
    group
        Patient or slide of all these fields.

    Raises
    ------
    DatasetError, SlideError, GeoJSONError
        If slide or annotations cannot be used; the message says where.
    """
    drawn = _nuclei_by_field(annotation_path, config)
    with open_slide(slide_path) as slide:
        info = _with_pixel_size(slide.info, config)
        assert info.mpp is not None
        reader = GridReader(slide, make_model_grid(info, max(FINEST_TRAINING_MPP, info.mpp.mean)))
        for shape, nuclei in drawn:
            _check_field(shape, info, reader.grid, annotation_path)
            _check_sizes(nuclei, info.mpp, annotation_path)
        fields = []
        for shape, nuclei in drawn:
            image, placed = _cut_out(reader, shape, nuclei)
            left, top = shape.bounds[:2]
            fields.append(
                make_field(
                    f"{annotation_path.name} ({left:.0f}, {top:.0f})",
                    group,
                    image,
                    labels_from_polygons(placed, image.shape[:2]),
                    index.by_label(placed.classes.tolist(), annotation_path),
                    mpp=reader.grid.mpp,
                    annotation=config.annotation,
                )
            )
        if reader.unreadable:
            spot = reader.unreadable[0]
            raise DatasetError(
                f"{slide_path} is damaged in an annotated field, near ({spot.x_min:.0f}, "
                f"{spot.y_min:.0f}): remove the field from {annotation_path.name}"
            )
    return fields


def _nuclei_by_field(
    path: Path, config: SlideDataConfig
) -> list[tuple[shapely.Geometry, Polygons]]:
    """Return each field that is drawn, and the nuclei that reach into it."""
    drawing = read_drawing(path)
    fields, nuclei = drawing.fields(), drawing.nuclei()
    if not fields:
        raise DatasetError(
            f"{path} holds no field: draw a rectangle in QuPath around what was annotated, even "
            "where there is no nucleus in it"
        )
    if config.annotation == "points":
        nuclei = nuclei.joined(drawing.points)
    elif any(len(drawing.points.within(field)) for field in fields):
        refuse_points(path, config)
    tree = shapely.STRtree(nuclei.shapes)
    members = [np.sort(tree.query(field, "intersects")) for field in fields]
    for field, inside in zip(fields, members, strict=True):
        if config.annotation == "partial" and not len(inside):
            left, top = field.bounds[:2]
            raise DatasetError(
                f"{path}: in the field at ({left:.0f}, {top:.0f}) nothing is drawn, so nothing is "
                "known of it: remove it, or state annotation: dense"
            )
    outside = len(nuclei) - len(np.unique(np.concatenate(members)))
    if outside or drawing.regions():
        log.warning(
            "%s: %d of %d nuclei lie outside of its %d fields and are not used; %d annotations lie "
            "around a rectangle and are no fields",
            path.name, outside, len(nuclei), len(fields), drawing.regions(),
        )  # fmt: skip
    return [(field, nuclei.take(inside)) for field, inside in zip(fields, members, strict=True)]


def _cut_out(reader: GridReader, field: shapely.Geometry, nuclei: Polygons) -> tuple[RGB, Polygons]:
    """Read the pixels of a field, and place its nuclei (part by part) on them."""
    grid = reader.grid
    corners = np.array(field.bounds).reshape(2, 2)
    x, y = np.floor(grid.from_qupath(corners[0])).astype(int).tolist()
    x_stop, y_stop = np.ceil(grid.from_qupath(corners[1])).astype(int).tolist()
    image = reader.read(ModelBox(x, y, x_stop - x, y_stop - y))

    def to_field(shapes: Any) -> Any:
        return shapely.transform(shapes, lambda xy: grid.from_qupath(xy) - (x, y))

    return image, Polygons(to_field(nuclei.shapes), nuclei.classes, to_field(field)).parts()


def _with_pixel_size(info: SlideInfo, config: SlideDataConfig) -> SlideInfo:
    if config.mpp is not None:
        stated = Mpp(config.mpp, config.mpp)
        return replace(info, mpp=stated, mpp_source=f"mpp of the set {config.name!r}")
    if info.mpp is None:
        raise DatasetError(
            f"{info.path}: the pixel size is unknown ({info.mpp_source}): state it as mpp in the "
            f"set {config.name!r}, in µm per pixel"
        )
    return info


def _check_field(
    shape: shapely.Geometry, info: SlideInfo, grid: ModelGrid, annotation_path: Path
) -> None:
    left, top, right, bottom = shape.bounds
    where = f"{annotation_path}: the field at ({left:.0f}, {top:.0f})"
    bounds = info.bounds
    if left < -1 or top < -1 or right > bounds.width + 1 or bottom > bounds.height + 1:
        raise DatasetError(
            f"{where} reaches to ({right:.0f}, {bottom:.0f}), outside of {info.path.name} with "
            f"its {bounds.width} x {bounds.height} px: it was drawn on another slide, or on "
            "this one at another size"
        )
    if (right - left) * (bottom - top) / (grid.scale_x * grid.scale_y) > _LARGEST_FIELD_PX:
        raise DatasetError(
            f"{where} is {right - left:.0f} x {bottom - top:.0f} px, more than is held in memory "
            f"({_LARGEST_FIELD_PX * grid.mpp**2 / 1e6:.2g} mm²): draw smaller ones"
        )


def _check_sizes(nuclei: Polygons, mpp: Mpp, annotation_path: Path) -> None:
    left, top, right, bottom = shapely.bounds(nuclei.shapes).reshape(-1, 4).T
    width_um, height_um = (right - left) * mpp.x, (bottom - top) * mpp.y
    for k in np.flatnonzero(np.maximum(width_um, height_um) > _LARGEST_NUCLEUS_UM)[:1]:
        raise DatasetError(
            f"{annotation_path}: the object at ({left[k]:.0f}, {top[k]:.0f}) is "
            f"{width_um[k]:.0f} x {height_um[k]:.0f} µm, too large for a nucleus: remove it; to "
            "make it a field, draw a rectangle"
        )
