"""Test-time augmentation around any model: several views of a tile, one answer.

Where a model's maps turn with the image, they are turned back and averaged, and decoded once.
Elsewhere each view is decoded, its polygons turned back, and the nuclei that at least half of
the views see stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from wsi_engine.models.fusion import fused
from wsi_engine.models.map_layout import layout_of
from wsi_engine.models.protocol import Model
from wsi_engine.models.turns import Count, Turn, turns
from wsi_engine.models.wrapper import Wrapper
from wsi_engine.nuclei.predictions import Predictions


@runtime_checkable
class Turnable(Model, Protocol):
    """A model whose maps can be turned back and averaged."""

    def upright(self, maps: npt.NDArray[np.generic], turn: Turn) -> npt.NDArray[np.generic]:
        """Turn the maps of a turned batch, shape (n, h, w, ...), back."""
        ...


def augmented(model: Model, count: Count) -> Model:
    """Let a model see every tile in four turns, or in eight flips and turns.

    It takes so many times as long. The facts of the model stay as they are, so a run plans,
    and names its nuclei, as without.
    """
    if isinstance(model, Turnable):
        return _AveragedMaps(model, turns(count))
    return _FusedViews(model, turns(count), layout_of(model).step)


@dataclass(frozen=True)
class _Views(Wrapper):
    """What both ways have in common: the model and the views that it is given."""

    views: tuple[Turn, ...]

    def settings(self) -> dict[str, float]:
        return {**self.model.settings(), "views": len(self.views)}


@dataclass(frozen=True)
class _AveragedMaps(_Views):
    """A model that decodes the mean of its views' maps."""

    model: Turnable

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        total: npt.NDArray[np.float32] | None = None
        for view in self.views:
            turned = self.model.maps(np.ascontiguousarray(view.apply(batch)))
            maps = self.model.upright(turned, view)
            total = maps.astype(np.float32) if total is None else np.add(total, maps, out=total)
        assert total is not None
        total /= len(self.views)
        # The model decodes what it is used to: as many bytes as without.
        whole = np.issubdtype(turned.dtype, np.integer)
        return (np.rint(total) if whole else total).astype(turned.dtype)


@dataclass(frozen=True)
class _FusedViews(_Views):
    """A model that decodes each of its views, and keeps what at least half of them see.

    Attributes
    ----------
    step
        Model pixels per point of its maps.
    """

    step: int

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Return the maps of all views, turned back, along a new last axis."""
        return np.stack(
            [
                view.undo(self.model.maps(np.ascontiguousarray(view.apply(batch))))
                for view in self.views
            ],
            axis=-1,
        )

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        height, width = (side * self.step for side in maps.shape[:2])
        opinions = []
        for k, view in enumerate(self.views):
            turned = np.ascontiguousarray(view.apply(maps[None, ..., k])[0])
            opinions.append(_turned_back(self.model.decode(turned), view, height, width))
        votes = -(-len(self.views) // 2)
        return fused(opinions, votes, self.spec.max_overlap)


def _turned_back(found: Predictions, view: Turn, height: int, width: int) -> Predictions:
    xy = view.undo_points(found.xy, height, width)
    if view.mirrored:  # so that rings go round in the sense that they did
        for start, stop in zip(found.offsets[:-1], found.offsets[1:], strict=True):
            xy[start:stop] = xy[start:stop][::-1]
    return replace(found, xy=xy, anchors=view.undo_points(found.anchors, height, width))
