"""Tissue out of focus: fine detail that has faded while coarse detail stays.

Blur takes away the fine detail first. How much fine detail there is against coarser detail of the
same place does not depend on how much stain there is, and little on what tissue it is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage

from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.optical_density import floored_od
from wsi_engine.slide.protocol import Slide, SlideInfo
from wsi_engine.slide.quality.flag import Flag, level_of

FIELD_MPP, FIELD_PX = 0.5, 256
LARGEST_FIELD_COUNT = 48
"""Fields of 128 µm; up to so many, spread evenly over the tissue. They are read at twice the
resolution that is judged: how well a scanner made the coarser levels is not the question."""

JUDGED_MPP = 2 * FIELD_MPP

COARSEST_SLIDE_MPP = 1.05
"""A coarser slide has no fine detail even where it is sharp."""

FINE_UM = (0.5, 1.2)
COARSE_UM = (1.2, 5.0)
"""Standard deviations of the Gaussians whose difference is fine and coarse detail. Below 0.5 µm
there is camera noise, which would make a strongly blurred field look sharp."""

SHARPNESS = 0.40
"""A field with less is out of focus. Measured on three scanners and the fields of tnbc: the least
sharp of 204 fields has 0.42. Blurred by a Gaussian of 1 µm, with a camera's noise, 66 to 100 % have
less than 0.40; by 1.25 to 5 µm, all have less than 0.38."""

SHARE_TO_LOOK, SHARE_BAD = 0.05, 0.25
"""Shares of the fields that are blurred. On the sharp slides above it was 0."""


def focus_flag(slide: Slide, info: SlideInfo, area: shapely.Geometry) -> Flag:
    """Say how much of the tissue is out of focus.

    Parameters
    ----------
    slide
        Slide to read from.
    info
        Its facts, with a pixel size.
    area
        Tissue in QuPath pixels.
    """
    assert info.mpp is not None
    if info.mpp.mean > COARSEST_SLIDE_MPP:
        sentence = f"Focus cannot be judged at {info.mpp.mean:.3g} µm per pixel."
        return Flag("blur", "ok", None, "%", sentence)
    reader = GridReader(slide, make_grid(info, FIELD_MPP))
    corners = _fields(reader, area)
    if len(corners) == 0:
        field = f"field of {FIELD_PX * FIELD_MPP:.0f} µm"
        sentence = f"Focus could not be judged: no {field} has its centre in tissue."
        return Flag("blur", "look", None, "%", sentence)
    sharp = np.array([sharpness(reader.read(_box(corner))) for corner in corners])
    blurred = sharp < SHARPNESS
    share = float(blurred.mean())
    boxes = [reader.grid.box_to_qupath(_box(corner)) for corner in corners[blurred]]
    squares = [shapely.box(box.x_min, box.y_min, box.x_max, box.y_max) for box in boxes]
    where = shapely.get_parts(shapely.union_all(squares))
    if share == 0:
        sentence = f"All of {len(sharp)} fields of tissue are in focus."
    else:
        sentence = (
            f"{int(blurred.sum())} of {len(sharp)} fields of tissue are out of focus: nuclei there "
            "are missed or too large."
        )
    level = level_of(share, SHARE_TO_LOOK, SHARE_BAD)
    return Flag("blur", level, round(100 * share, 1), "%", sentence, tuple(where))


def sharpness(field: npt.NDArray[np.uint8]) -> float:
    """Return the contrast of fine detail relative to that of coarse detail.

    Parameters
    ----------
    field
        uint8, shape (256, 256, 3), at 0.5 µm per pixel.

    Returns
    -------
    float
        About 0.5 to 1 in focus; 0.1 to 0.3 out of focus; infinite where there is no coarse detail.
    """
    wide = field.astype(np.uint16)
    four = wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2]
    density = floored_od(((four + 2) // 4).astype(np.uint8)) @ np.full(3, 1 / 3, np.float32)
    fine, middle, coarse = (
        ndimage.gaussian_filter(density, sigma / JUDGED_MPP) for sigma in (*FINE_UM, COARSE_UM[1])
    )
    contrast = float(np.std(middle - coarse))
    return float(np.std(fine - middle)) / contrast if contrast > 0 else np.inf


def _box(corner: npt.NDArray[np.int64]) -> ModelBox:
    return ModelBox(int(corner[0]), int(corner[1]), FIELD_PX, FIELD_PX)


def _fields(reader: GridReader, area: shapely.Geometry) -> npt.NDArray[np.int64]:
    """Choose fields whose centre is tissue; return their upper left corners, shape (n, 2)."""
    extent = reader.grid.extent
    x, y = np.meshgrid(
        np.arange(0, max(extent.width - FIELD_PX, 0) + 1, FIELD_PX),
        np.arange(0, max(extent.height - FIELD_PX, 0) + 1, FIELD_PX),
    )
    corners = np.column_stack([x.ravel(), y.ravel()])
    shapely.prepare(area)
    centres = reader.grid.to_qupath(corners.astype(np.float64) + FIELD_PX / 2)
    corners = corners[shapely.contains_xy(area, centres[:, 0], centres[:, 1])]
    count = min(len(corners), LARGEST_FIELD_COUNT)
    return corners[np.linspace(0, max(len(corners) - 1, 0), count).round().astype(int)]
