"""What the nuclei themselves say against a result: none where there is tissue, absurd sizes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.diameter import is_usual, median_diameter_um
from wsi_engine.nuclei.measure.shape import SHAPE
from wsi_engine.results.finished import SlideResult
from wsi_engine.slide.quality.flag import Flag, FlagLevel, level_of
from wsi_engine.slide.resolution import OBJECTIVE_TOLERANCE
from wsi_engine.slide.unreadable import area_of

SMALLEST_EMPTY_MM2 = 0.03
"""A piece of tissue of this size without a nucleus is worth a look: the emptiest field of tnbc,
fat, has 3 nuclei in 0.016 mm²; mucus, fibrin and dirt may have none."""

AREA = SHAPE.area.name

CROWDED_PER_MM2, CROWD_SIDE_UM = 20_000.0, 50.0
"""Lymphocytes of 7 µm that touch one another on all sides come to so many."""

CROWDED_SHARE, CROWDED_SHARE_BAD = 0.02, 0.10
"""Shares of the nuclei that lie in squares with more."""

DAMAGED_SHARE_BAD = 0.05

FLAGS_OF_NUCLEI = ("nuclei", "density", "damage", "pixel size")
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


def density_flag(result: SlideResult) -> Flag:
    """Say where nuclei lie closer than any can."""
    if len(result) == 0:
        return Flag("density", "not checked", None, "%", "There are no nuclei.")
    scale = np.array([result.mpp.x, result.mpp.y]) / CROWD_SIDE_UM
    cells, of, counts = np.unique(
        np.floor(result.anchors * scale), axis=0, return_inverse=True, return_counts=True
    )
    crowded = counts > CROWDED_PER_MM2 * CROWD_SIDE_UM**2 / 1e6
    share = float(crowded[of.ravel()].mean())
    if share < CROWDED_SHARE:
        return Flag("density", "ok", round(100 * share, 1), "%", "Nowhere are nuclei too dense.")
    sentence = (
        f"{100 * share:.0f} % of the nuclei lie where there are more than {CROWDED_PER_MM2:,.0f} "
        "per mm², closer than cells can: are they nuclei, and is the pixel size right?"
    )
    level = level_of(share, CROWDED_SHARE, CROWDED_SHARE_BAD)
    corners = cells[crowded] / scale
    squares = shapely.box(*corners.T, *(corners + 1 / scale).T)
    where = shapely.get_parts(shapely.union_all(squares))
    return Flag("density", level, round(100 * share, 1), "%", sentence, tuple(where))


def damage_flag(result: SlideResult) -> Flag:
    """Say how much of the slide could not be read."""
    boxes, bounds = result.record.unreadable, result.record.slide.bounds
    if not boxes:
        return Flag("damage", "ok", 0.0, "mm²", "All that was looked at could be read.")
    scale = result.mpp.pixel_area_um2 / 1e6
    lost = float((area_of(boxes) & shapely.box(0, 0, bounds.width, bounds.height)).area) * scale
    searched = float(result.searched.area) * scale
    level: FlagLevel = "bad" if lost > DAMAGED_SHARE_BAD * searched else "look"
    sentence = f"{lost:.3f} mm² could not be read: nuclei there are missing, and area is less."
    return Flag("damage", level, round(lost, 4), "mm²", sentence)


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
