"""Boundary refinement behind any model: its outlines, moved to where the pixels say they are.

Maps carry the haematoxylin of their pixels, so that outlines and pixels meet where maps are
decoded. A nucleus moves by at most a µm, on what is within a few µm of it; its neighbours only
bound it. So it comes out alike in every tile that sees it and its neighbours whole, which the
receptive radius accounts for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage

from wsi_engine.models.active_contour import moved_borders
from wsi_engine.models.gradient_step import stepped
from wsi_engine.models.map_layout import MapLayout, layout_of
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.models.territory import grown
from wsi_engine.models.wrapper import Wrapper
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.raster import rasterise
from wsi_engine.nuclei.tracing import trace_labels
from wsi_engine.slide.stain import haematoxylin

Kind = Literal["gradient", "contour"]

REACH_UM = 1.0
"""A border moves by no more."""

SIGMA_UM = 0.5
"""Haematoxylin is blurred so far, against the grain of the scanner."""

LEAST_LEFT = 0.5
"""A nucleus that would lose more of its area stays as the model drew it."""

PIXELS = MapLayout(1, (), np.dtype(np.int16))


@dataclass(frozen=True)
class Refined(Wrapper):
    """A model whose outlines are refined; anchors, scores and classes stay.

    Attributes
    ----------
    kind
        ``gradient``: each vertex goes along its normal to where haematoxylin falls off most
        steeply. ``contour``: morphological active contours without edges.
    layout
        What the maps of the model are like.
    """

    kind: Kind
    layout: MapLayout

    @property
    def spec(self) -> ModelSpec:
        """The facts of the model, for larger objects and neighbours that are to be whole."""
        inner, reach = self.model.spec, self.reach_px
        return replace(
            inner,
            receptive_radius_px=inner.receptive_radius_px + inner.largest_object_px + reach,
            largest_object_px=inner.largest_object_px + 2 * reach,
            reach_px=None if inner.reach_px is None else inner.reach_px + reach,
        )

    @property
    def reach_px(self) -> int:
        """Furthest move, in model pixels."""
        return max(1, round(REACH_UM / self.model.spec.mpp))

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the bytes of the model's maps, and behind them those of haematoxylin."""
        step = self.layout.step
        parts = [self.layout.pack(self.model.maps(batch), step)]
        return np.concatenate([*parts, PIXELS.pack(haematoxylin(batch), step)], axis=-1)

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Decode as the model does, and refine the outlines."""
        step, mine = self.layout.step, self.layout.bytes
        packed = np.asarray(maps, np.uint8)
        found = self.model.decode(self.layout.unpack(packed[..., :mine], step))
        if len(found) == 0:
            return found
        density = PIXELS.unpack(packed[..., mine:], step).astype(np.float32)
        image = ndimage.gaussian_filter(density, SIGMA_UM / self.model.spec.mpp, truncate=4.0)
        labels = _labels_of(found, image.shape)
        territory = grown(labels, self.reach_px)
        if self.kind == "gradient":
            moved = stepped(found.xy, found.offsets, territory, image, self.reach_px)
            return replace(found, xy=moved)
        return _redrawn(found, *moved_borders(labels, territory, image, self.reach_px))


def refined(model: Model, kind: Kind) -> Refined:
    """Refine the outlines of a model."""
    return Refined(model, kind, layout_of(model))


def _labels_of(found: Predictions, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Draw nuclei as labels from 1, in their order; where they overlap, the surer is on top."""
    order = np.lexsort((found.anchors[:, 0], found.anchors[:, 1], found.scores))
    starts, stops = found.offsets[:-1][order], found.offsets[1:][order]
    xy = np.concatenate([found.xy[i:j] for i, j in zip(starts, stops, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(stops - starts)]).astype(np.int64)
    drawn = rasterise(xy, offsets, (shape[0], shape[1]))
    return np.concatenate([[0], order + 1]).astype(np.int32)[drawn]


def _redrawn(
    found: Predictions, labels: npt.NDArray[np.int32], excess: npt.NDArray[np.float32]
) -> Predictions:
    """Outline the labels; where too little is left of a nucleus, it stays as it was."""
    xy, offsets, label_ids = trace_labels(labels, excess, 0.0)
    old, new = polygons_from_rings(found.xy, found.offsets), polygons_from_rings(xy, offsets)
    rings = [found.xy[i:j] for i, j in zip(found.offsets[:-1], found.offsets[1:], strict=True)]
    good = shapely.area(new) >= LEAST_LEFT * shapely.area(old[label_ids - 1])
    for k in np.flatnonzero(good).tolist():
        rings[label_ids[k] - 1] = xy[offsets[k] : offsets[k + 1]]
    counts = [len(ring) for ring in rings]
    return replace(
        found,
        xy=np.concatenate(rings),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )
