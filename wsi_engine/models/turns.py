"""The flips and turns of a square, of images, of maps and of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Turn:
    """One of the eight ways in which a square can lie.

    Attributes
    ----------
    quarters
        Quarter turns against the clock (on the screen), 0 to 3, made ...
    mirrored
        ... after left and right were exchanged.
    """

    quarters: int
    mirrored: bool

    def apply(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn images of shape (n, height, width, ...); a view."""
        flipped = images[:, :, ::-1] if self.mirrored else images
        return np.rot90(flipped, self.quarters, axes=(1, 2))

    def undo(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn images of shape (n, height, width, ...) back; a view."""
        upright = np.rot90(images, -self.quarters, axes=(1, 2))
        return upright[:, :, ::-1] if self.mirrored else upright

    def undo_points(
        self, points: npt.NDArray[np.float64], height: float, width: float
    ) -> npt.NDArray[np.float64]:
        """Turn points of a turned image back.

        Parameters
        ----------
        points
            x, y in pixel corners of the turned image, shape (n, 2).
        height, width
            Sides of the upright image.
        """
        x, y = points.T
        sides = (width, height) if self.quarters % 2 == 0 else (height, width)
        for _ in range(self.quarters):
            # One quarter with the clock: what was up is right.
            x, y = sides[1] - y, x
            sides = (sides[1], sides[0])
        return np.column_stack([width - x if self.mirrored else x, y])

    def undo_rays(self, rays: int) -> npt.NDArray[np.int64]:
        """Return for each ray of an upright grid point the one to take from the turned image.

        Ray k points at the angle 2πk / rays from the x axis towards the y axis.

        Raises
        ------
        ValueError
            If ``rays`` is no multiple of four.
        """
        if rays % 4:
            raise ValueError(f"{rays} rays cannot be turned by quarters")
        upright = np.arange(rays)
        flipped = (rays // 2 - upright) % rays if self.mirrored else upright
        return np.asarray((flipped - self.quarters * (rays // 4)) % rays, np.int64)


Count = Literal[4, 8]


def turns(count: Count) -> tuple[Turn, ...]:
    """Return the four turns, or the eight flips and turns; the upright one first."""
    ways = (False, True) if count == 8 else (False,)
    return tuple(Turn(quarters, mirrored) for mirrored in ways for quarters in range(4))
