"""The frame that all maps of a slide share: what QuPath shows, in the units of a drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from markupsafe import Markup

from wsi_engine.report import svg
from wsi_engine.slide.frames import Mpp

LONGER_SIDE = 1000.0
ROUND_LENGTHS_UM = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)


@dataclass(frozen=True)
class MapFrame:
    """A slide as a drawing whose longer side has 1000 units.

    Parameters
    ----------
    width_px, height_px
        Size of what QuPath shows, in full-resolution pixels.
    mpp
        Pixel size.
    """

    width_px: int
    height_px: int
    mpp: Mpp

    @property
    def unit_um(self) -> float:
        """Length of one unit in µm."""
        return max(self.width_px * self.mpp.x, self.height_px * self.mpp.y) / LONGER_SIDE

    @property
    def width(self) -> float:
        """Width in units."""
        return self.width_px * self.mpp.x / self.unit_um

    @property
    def height(self) -> float:
        """Height in units."""
        return self.height_px * self.mpp.y / self.unit_um

    def to_units(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Convert points, shape (n, 2), from QuPath pixels."""
        return points * (np.array([self.mpp.x, self.mpp.y]) / self.unit_um)

    def outline(self, areas: tuple[shapely.Geometry, ...], **attributes: str | float) -> Markup:
        """Draw areas in QuPath pixels, no finer than half a unit."""
        scaled = [shapely.transform(area, self.to_units) for area in areas]
        return svg.shapes([shapely.simplify(area, 0.5) for area in scaled], **attributes)

    def scale_bar(self) -> Markup:
        """Draw a bar of a round length, about a sixth of the width, and say how long it is."""
        return scale_bar(self.width, self.height, self.unit_um)


def scale_bar(width: float, height: float, unit_um: float, size: float = 32.0) -> Markup:
    """Draw a bar of a round length in the lower left corner, and say how long it is.

    Parameters
    ----------
    width, height
        Size of the drawing in its units.
    unit_um
        Length of its unit in µm.
    size
        Size of the text in units.
    """
    wanted = width * unit_um / 5
    length_um = max((r for r in ROUND_LENGTHS_UM if r <= wanted), default=ROUND_LENGTHS_UM[0])
    label = f"{length_um} µm" if length_um < 1000 else f"{length_um // 1000} mm"
    length, margin = length_um / unit_um, size * 0.6
    ground = max(length, 0.62 * size * len(label)) + margin
    return svg.tag(
        "g",
        svg.box(
            margin / 2, height - 2.1 * size, ground, 1.8 * size, fill="#fff", fill_opacity=0.85
        ),
        svg.box(margin, height - 0.75 * size, length, size / 5, fill="#1a1a1a"),
        svg.text(margin, height - size, label, font_size=size, fill="#1a1a1a"),
    )
