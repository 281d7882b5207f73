"""How much coarser a level is than the finest one."""

from __future__ import annotations


def true_downsample(full: tuple[int, int], size: tuple[int, int], reported: float) -> float:
    """Undo what a level's size was rounded by.

    OpenSlide divides the sizes: it says 2.0053 for 3001 x 201 pixels of which the last row and
    column were dropped when they were halved to 1500 x 100. Taken at its word, the right end
    of that level would lie 8 full-resolution pixels off.
    """
    nearest = round(reported)
    rounded = all(abs(whole / nearest - part) < 1 for whole, part in zip(full, size, strict=True))
    return float(nearest) if rounded else reported
