"""Grids whose pixels are whole pixels of the slide, so that nothing is blurred.

Where a grid of 0.5 µm lies over pixels of 0.499 µm, each of its pixels is a mixture of several:
of one and next to nothing of another where the two meet, of two halves 250 pixels further on. So
colour and texture would depend on where a nucleus lies, and a network would see one sharp and
another blurred.
"""

from __future__ import annotations

import math

from wsi_engine.slide.frames import ModelGrid
from wsi_engine.slide.grid_reader import make_grid
from wsi_engine.slide.protocol import SlideInfo

LARGEST_MISFIT = 0.05
"""A network's pixels may be so much larger or smaller than those that it learnt from."""

LARGEST_ASPECT = 1.02
"""Pixels whose sides differ by more are not taken for squares."""

MEASURED_MPP = 0.5
"""Pixels are measured at about this size, in µm."""


def make_model_grid(info: SlideInfo, mpp: float) -> ModelGrid:
    """Lay the grid that a model of ``mpp`` µm sees over what QuPath shows of a slide.

    Its pixels are whole ones of the slide where some number of these is within `LARGEST_MISFIT` of
    the model's, and are of exactly ``mpp`` otherwise.

    Raises
    ------
    ResolutionError
        When the slide's pixel size is unknown.

    Examples
    --------
    >>> from wsi_engine.slide.frames import Level0Box, Mpp
    >>> from wsi_engine.slide.protocol import Level
    >>> level, box, mpp = Level(0, 9000, 9000, 1.0), Level0Box(0, 0, 9000, 9000), Mpp(0.251, 0.251)
    >>> info = SlideInfo("slide.svs", "aperio", (level,), box, mpp, "the file", 40.0, 1, ())
    >>> grid = make_model_grid(info, 0.5)
    >>> grid.mpp, grid.slide_pixels
    (0.502, (2, 2))
    """
    whole = _whole_grid(info, mpp)
    # What a rounding error misses is within.
    if whole is None or _misfit(whole, mpp) > LARGEST_MISFIT + 1e-9:
        return make_grid(info, mpp)
    return whole


def make_measured_grid(info: SlideInfo) -> ModelGrid:
    """Lay the grid on which nuclei are measured over a slide, whatever model found them.

    Its pixels are whole ones of the slide, as many as come nearest to `MEASURED_MPP`; only where
    those are no squares is the slide resampled to exactly that.

    Raises
    ------
    ResolutionError
        When the slide's pixel size is unknown.
    """
    return _whole_grid(info, MEASURED_MPP) or make_grid(info, MEASURED_MPP)


def reason_for(grid: ModelGrid, mpp: float) -> str:
    """Say why a model of ``mpp`` µm sees the pixels of a grid, in words that follow their size."""
    near = f"within {100 * LARGEST_MISFIT:g} % of {mpp:g} µm"
    if grid.slide_pixels is None:
        return f"resampled, as no whole number of the slide's pixels makes a square {near}"
    across, down = grid.slide_pixels
    one = "one pixel" if across == down == 1 else f"{across} x {down} pixels"
    return f"{one} of the slide, {near}, so that none is blurred"


def _whole_grid(info: SlideInfo, mpp: float) -> ModelGrid | None:
    """Return the grid of whole pixels that comes nearest to a size, if they are square."""
    exact = make_grid(info, mpp)
    slide = exact.slide_mpp
    across, down = _nearest_number(mpp / slide.x), _nearest_number(mpp / slide.y)
    x, y = across * slide.x, down * slide.y
    if max(x / y, y / x) > LARGEST_ASPECT:
        return None
    # The square root of a square need not be what was squared.
    side = x if x == y else math.sqrt(x * y)
    return ModelGrid(
        side, slide, exact.origin_x, exact.origin_y, exact.slide_width, exact.slide_height,
        (across, down),
    )  # fmt: skip


def _nearest_number(ratio: float) -> int:
    """Return the whole number, at least 1, that differs from a ratio by the smallest factor."""
    below = max(math.floor(ratio), 1)
    return below if ratio <= math.sqrt(below * (below + 1)) else below + 1


def _misfit(grid: ModelGrid, mpp: float) -> float:
    return max(abs(side / mpp - 1) for side in (grid.pixel.x, grid.pixel.y))
