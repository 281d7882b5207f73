"""What star-convex maps say, whatever computed them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from wsi_engine.models.map_model import MapModel
from wsi_engine.models.starconvex.decoding import decode_maps
from wsi_engine.models.starconvex.fading import faded, fading_of
from wsi_engine.models.turns import Turn
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.slide.dab import SPLIT_OFF, shows_dab, views_of
from wsi_engine.slide.normalisation.methods import SplitDab


class StarConvexMaps(MapModel):
    """The part of a star-convex model that does not depend on what runs its network.

    Its maps are (n, h / grid, w / grid, 1 + rays + classes).

    Attributes
    ----------
    grid_px
        Model pixels per point of the output grid.
    consensus
        How far away, in grid points, a point may be to have a say in a polygon.
    largest_density
        What is stained darker than this, in the median, is shown paler; ``None`` for nothing.
    fading
        Share of its optical density that the slide is shown with.
    dab
        Whether haematoxylin and DAB are shown apart: ``auto`` where a slide shows DAB, of
        networks that know their slides (``largest_density``).
    splits_dab
        Whether they are, on the slide that it was calibrated to.
    """

    grid_px: int
    consensus: int
    largest_density: float | None
    fading: float
    dab: SplitDab
    splits_dab: bool

    def with_dab(self, split: SplitDab) -> Self:
        """Return the model that shows haematoxylin and DAB apart, or not."""
        return cast("Self", replace(cast("Any", self), dab=split))

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Return the model for a slide, of which fields are given, shape (n, h, w, 3)."""
        known, splits, fading = self.largest_density, self.dab == "always", 1.0
        if known is None and not splits:
            return self
        if known is not None:
            splits = splits or (self.dab == "auto" and shows_dab(fields))
            fading = fading_of(views_of(fields).haematoxylin if splits else fields, known)
        return cast("Self", replace(cast("Any", self), fading=fading, splits_dab=splits))

    def settings(self) -> dict[str, float]:
        """Return threshold and fading, and whether DAB is split off, for the record of the run."""
        settings = {"threshold": self.threshold}
        if self.largest_density is not None:
            settings |= {"fading": self.fading}
        return settings | {SPLIT_OFF: 1.0} if self.splits_dab else settings

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Run the network on pixels, uint8 (n, h, w, 3), as pale as the slide is to be shown.

        Where the slide shows DAB it sees two views, and each point keeps what it is surer of.
        """
        if not self.splits_dab:
            return super().maps(faded(batch, self.fading))
        views = views_of(batch)
        haematoxylin = super().maps(faded(views.haematoxylin, self.fading))
        both = super().maps(faded(views.both, self.fading))
        surer = np.greater(*(maps[..., :1].astype(np.float32) for maps in (both, haematoxylin)))
        return np.where(surer, both, haematoxylin)

    def object_probability(self, maps: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Return the object probability at each grid point of one tile, shape (h, w)."""
        return np.asarray(1 / (1 + np.exp(-maps[..., 0].astype(np.float32))), np.float32)

    def upright(self, maps: npt.NDArray[np.generic], turn: Turn) -> npt.NDArray[np.generic]:
        """Turn the maps of a turned batch back, and the rays of each point with them."""
        upright = turn.undo(maps)
        rays = maps.shape[-1] - 1 - len(self.spec.classes)
        order = np.arange(maps.shape[-1])
        order[1 : 1 + rays] = 1 + turn.undo_rays(rays)
        return np.asarray(upright[..., order])

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile into polygons; see `decode_maps`."""
        return decode_maps(
            maps,
            threshold=self.threshold,
            max_overlap=self.spec.max_overlap,
            largest_px=self.spec.largest_object_px,
            classes=len(self.spec.classes),
            consensus=self.consensus,
            grid_px=self.grid_px,
        )
