"""Tissue out of focus: its steepest edges have become wide.

How steep an edge is against the contrast that it joins does not depend on how much stain there
is, and hardly on the tissue: wherever there is some, a few edges are as steep as the optics allow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage

from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.optical_density import floored_od
from wsi_engine.slide.protocol import Slide, SlideInfo
from wsi_engine.slide.quality.flag import Flag, level_of
from wsi_engine.slide.whole_pixels import make_model_grid

FIELD_MPP, FIELD_PX = 0.5, 256
LARGEST_FIELD_COUNT = 48
"""Fields of 128 µm; up to so many, spread evenly over the tissue."""

COARSEST_SLIDE_MPP = 1.05
"""A coarser slide has no steep edges even where it is sharp."""

SMOOTHING_UM = 0.5
"""Standard deviation of the Gaussian before edges are looked at: below there is camera noise."""

CONTRAST_UM = 5.5
"""Side of the square in which contrast is measured: from a nucleus to what is beside it."""

SMALLEST_CONTRAST_OD, CONTRAST_SHARE = 0.02, 0.5
"""Edges are looked at where there is contrast, and half of the largest around."""

STEEPEST = 99
"""Percentile of the steepness: that of the steepest edges, but not of single pixels."""

SHARPNESS = 0.41
"""A field with less, in 1/µm, is out of focus. Of 328 sharp fields (CMU-1, TCGA-CR, TCGA-V5, tnbc,
monuseg) all have 0.50 and more; blurred by a Gaussian of 1 µm, with a camera's noise, 55 to 100 %
have less than 0.41, by 1.25 to 5 µm all in which contrast is left. A wrong pixel
size passes for blur: of 90 fields of nuinsseg 30 have less at the stated 0.25 µm, at which nuclei
are half as large again as elsewhere, and 4 at 0.1667 µm, at which they are not."""

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
    # Resampled to 0.5 µm, a sharp slide of 0.499 µm loses up to a tenth of its sharpness.
    reader = GridReader(slide, make_model_grid(info, FIELD_MPP))
    corners = _fields(reader, area)
    if len(corners) == 0:
        field = f"field of {FIELD_PX * FIELD_MPP:.0f} µm"
        sentence = f"Focus could not be judged: no {field} has its centre in tissue."
        return Flag("blur", "look", None, "%", sentence)
    mpp = reader.grid.mpp
    sharp = np.array([sharpness(reader.read(_box(corner)), mpp) for corner in corners])
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


def sharpness(field: npt.NDArray[np.uint8], mpp: float = FIELD_MPP) -> float:
    """Return how steep the steepest edges are, against the contrast around them.

    Parameters
    ----------
    field
        uint8, shape (256, 256, 3), at about 0.5 µm per pixel.
    mpp
        Size of its pixels in µm.

    Returns
    -------
    float
        In 1/µm, the reciprocal width of an edge: 0.5 to 0.75 in focus, 0.2 to 0.4 out of focus,
        also where half of the field is; infinite where there is no contrast.
    """
    density = floored_od(field) @ np.full(3, 1 / 3, np.float32)
    density = ndimage.gaussian_filter(density, SMOOTHING_UM / mpp)
    steepness = np.hypot(*np.gradient(density, mpp))
    side = round(CONTRAST_UM / FIELD_MPP)
    contrast = ndimage.maximum_filter(density, side) - ndimage.minimum_filter(density, side)
    quarters = [
        _steepest(steepness[rows, columns], contrast[rows, columns])
        for rows in (slice(FIELD_PX // 2), slice(FIELD_PX // 2, None))
        for columns in (slice(FIELD_PX // 2), slice(FIELD_PX // 2, None))
    ]
    return sorted(quarters)[1]


def _steepest(steepness: npt.NDArray[np.float32], contrast: npt.NDArray[np.float32]) -> float:
    typical = CONTRAST_SHARE * float(np.percentile(contrast, STEEPEST))
    there = contrast > max(SMALLEST_CONTRAST_OD, typical)
    if not there.any():
        return np.inf
    return float(np.percentile(steepness[there] / contrast[there], STEEPEST))


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
