"""Red blood cells among the nuclei: what lies at their places is red, not blue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.slide.dab import shows_dab
from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.protocol import RGB, Slide, SlideInfo
from wsi_engine.slide.quality.flag import Flag, level_of
from wsi_engine.slide.redness import lab_b
from wsi_engine.slide.whole_pixels import make_model_grid

FIELD_MPP, FIELD_PX = 0.5, 256
LARGEST_FIELD_COUNT = 48
MEAN_SIDE_PX = 5

REDDEST_B = 0.0
"""Mean b* of 2.5 µm around the anchor; true nuclei are bluer."""

SHARE_TO_LOOK, SHARE_BAD = 0.05, 0.20


def red_cells_flag(slide: Slide, info: SlideInfo, anchors: npt.NDArray[np.float64]) -> Flag:
    """Say how many of the nuclei are red.

    Parameters
    ----------
    slide
        Slide to read fields of 128 µm from.
    info
        Its facts, with a pixel size.
    anchors
        Places of the nuclei on the slide, QuPath pixels, shape (n, 2).
    """
    if len(anchors) == 0:
        return Flag("red cells", "not checked", None, "%", "There are no nuclei.")
    reader = GridReader(slide, make_model_grid(info, FIELD_MPP))
    places = reader.grid.from_qupath(anchors)
    corners, of = np.unique(np.floor(places / FIELD_PX), axis=0, return_inverse=True)
    count = min(len(corners), LARGEST_FIELD_COUNT)
    chosen = np.linspace(0, len(corners) - 1, count).round().astype(int)
    fields = [reader.read(_box(corners[k])) for k in chosen]
    red = np.concatenate(
        [
            _is_red(field, places[of.ravel() == k] - corners[k] * FIELD_PX)
            for k, field in zip(chosen, fields, strict=True)
        ]
    )
    share = float(red.mean())
    if share >= SHARE_TO_LOOK and shows_dab(np.stack(fields)):
        sentence = "The slide shows DAB, of which brown nuclei are as red as blood."
        return Flag("red cells", "not checked", None, "%", sentence)
    value = round(100 * share, 1)
    sentence = f"{value:g} % of {len(red):,} nuclei that were looked at are red."
    if share >= SHARE_TO_LOOK:
        sentence += " Red blood cells may have been counted: --drop-red leaves out what is red."
    level = level_of(share, SHARE_TO_LOOK, SHARE_BAD)
    return Flag("red cells", level, value, "%", sentence)


def _box(corner: npt.NDArray[np.float64]) -> ModelBox:
    return ModelBox(int(corner[0] * FIELD_PX), int(corner[1] * FIELD_PX), FIELD_PX, FIELD_PX)


def _is_red(field: RGB, places: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell of places in a field whether what lies there is red."""
    blueness = ndimage.uniform_filter(lab_b(field), MEAN_SIDE_PX)
    column, row = places.astype(int).clip(0, FIELD_PX - 1).T
    return np.asarray(blueness[row, column] > REDDEST_B)
