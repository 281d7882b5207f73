"""What groups of measurements see: some nuclei, and what else is known of them.

What several groups need (pixels, stains, rings) is found when the first of them asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.measure.outlines import Outlines
from wsi_engine.nuclei.measure.pixels import Field, PixelSets, cover, stain_amounts
from wsi_engine.nuclei.measure.ring import rings
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.stain_vectors import Stains


@dataclass(frozen=True)
class OutlineView:
    """Nuclei to measure by their outlines.

    Attributes
    ----------
    polygons
        Valid polygons or multipolygons in QuPath pixels, shape (n,).
    mpp
        Size of those pixels.
    """

    polygons: Polygons
    mpp: Mpp


@dataclass(frozen=True)
class PixelView(OutlineView):
    """Nuclei to measure on pixels; not to be shared by threads.

    Attributes
    ----------
    crowd
        The nuclei and all that lie within the neighbourhood of one, in QuPath pixels, shape (m,).
    wanted
        Which of the crowd are to be measured: ``polygons == crowd[wanted]``; bool, shape (m,).
    field
        The pixels to measure on, at about 0.5 µm.
    stains
        Stain vectors of the slide.
    """

    crowd: Polygons
    wanted: npt.NDArray[np.bool_]
    field: Field
    stains: Stains

    @cached_property
    def crowd_pixels(self) -> PixelSets:
        """The pixels of all m nuclei of the crowd."""
        return cover(Outlines.of(self.crowd), self.field)

    @cached_property
    def pixels(self) -> PixelSets:
        """The pixels of the n nuclei to measure."""
        return self.crowd_pixels.take(self.wanted)

    @cached_property
    def amounts(self) -> npt.NDArray[np.float32]:
        """Amount of both stains in `pixels`, in OD; float32, shape (2, number of pixels)."""
        return stain_amounts(self.field.rgb, self.pixels, self.stains)

    @cached_property
    def ring_pixels(self) -> PixelSets:
        """The pixels of the rings around the n nuclei."""
        return rings(self.crowd, self.crowd_pixels, self.field).take(self.wanted)

    @cached_property
    def ring_amounts(self) -> npt.NDArray[np.float32]:
        """Amount of both stains in `ring_pixels`, in OD; float32, shape (2, number of pixels)."""
        return stain_amounts(self.field.rgb, self.ring_pixels, self.stains)
