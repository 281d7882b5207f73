"""What the nuclei themselves say against a result: none where there is tissue, absurd sizes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.diameter import is_usual, median_diameter_um
from wsi_engine.nuclei.measure.shape import SHAPE
from wsi_engine.results.finished import SlideResult
from wsi_engine.slide.quality.flag import Flag, FlagLevel
from wsi_engine.slide.resolution import OBJECTIVE_TOLERANCE

SMALLEST_EMPTY_MM2 = 0.03
"""A piece of tissue of this size without a nucleus is worth a look: the emptiest field of tnbc,
fat, has 3 nuclei in 0.016 mm²; mucus, fibrin and dirt may have none."""

AREA = SHAPE.area.name

FLAGS_OF_NUCLEI = ("nuclei", "pixel size")
"""They need no pixels."""


def nuclei_flag(result: SlideResult, tissue: shapely.Geometry | None) -> Flag:
    """Say where there is tissue without nuclei.

    Parameters
    ----------
    result
        The result whose nuclei count.
    tissue
        Tissue of the slide, in QuPath pixels; ``None`` where it is not known.
    """
    if len(result) == 0:
        return Flag("nuclei", "bad", 0.0, "", "No nucleus was found.", ())
    if tissue is None:
        sentence = "Whether all tissue has nuclei is not known: the run did not look for tissue."
        return Flag("nuclei", "not checked", None, "mm²", sentence)
    scale = result.mpp.pixel_area_um2 / 1e6
    parts = shapely.get_parts(tissue)
    large = [part for part in parts if part.area * scale >= SMALLEST_EMPTY_MM2]
    empty = tuple(piece for piece in large if not _holds_any(piece, result.anchors))
    area = sum(piece.area for piece in empty) * scale
    if not empty:
        return Flag("nuclei", "ok", 0.0, "mm²", "Every piece of tissue has nuclei.")
    pieces = "1 piece" if len(empty) == 1 else f"{len(empty)} pieces"
    sentence = f"{pieces} of tissue, {area:.2f} mm², without a nucleus: is it tissue?"
    return Flag("nuclei", "look", round(area, 3), "mm²", sentence, empty)


def _holds_any(piece: shapely.Polygon, points: npt.NDArray[np.float64]) -> bool:
    left, top, right, bottom = piece.bounds
    x, y = points.T
    near = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    shapely.prepare(piece)
    return bool(shapely.intersects_xy(piece, x[near], y[near]).any())


def pixel_size_flag(result: SlideResult) -> Flag:
    """Say whether pixel size, objective and size of the nuclei go together."""
    mpp = result.mpp.mean
    reasons = []
    power = result.record.slide.objective_power
    if power and abs(math.log(mpp * power / 10)) > math.log(OBJECTIVE_TOLERANCE):
        reasons.append(f"a {power:g}x objective has about {10 / power:.3g} µm per pixel")
    diameter = None
    if AREA in result.measurements:
        diameter = median_diameter_um(result.column(AREA))
    if diameter is not None and not is_usual(diameter):
        reasons.append(f"the median nucleus would be {diameter:.1f} µm across")
    levels: tuple[FlagLevel, ...] = ("ok", "look", "bad")
    sentence = f"{mpp:.4g} µm per pixel"
    if reasons:
        sentence += f" is doubtful: {' and '.join(reasons)}. State it with --mpp."
    elif diameter is not None:
        sentence += f"; the median nucleus is {diameter:.1f} µm across."
    else:
        sentence += "."
    return Flag("pixel size", levels[len(reasons)], round(mpp, 4), "µm", sentence)
