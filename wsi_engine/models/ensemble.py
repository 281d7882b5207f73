"""Several methods as one: each finds its nuclei, and those that enough of them see stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ModelError
from wsi_engine.models.fusion import fused
from wsi_engine.models.map_layout import MapLayout, layout_of
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.nuclei.predictions import Predictions

NAME = "ensemble"
"""Name by which methods that vote are asked for."""

DEFAULT_MEMBERS = ("mask-rcnn", "unet")
"""Those of Vuola 2019."""

SPEC = ModelSpec(
    name=NAME,
    summary=f"Vote of {' and '.join(DEFAULT_MEMBERS)}, or of those that --ensemble names",
    # What it truly is depends on who votes; see `ensemble_spec`.
    mpp=0.5,
    stride=8,
    receptive_radius_px=128,
    largest_object_px=80,
    licence="that of each",
    embedded=False,
)


@dataclass(frozen=True)
class Ensemble:
    """Models that vote on every nucleus; see `wsi_engine.models.fusion.fused`.

    Attributes
    ----------
    models
        Two or more, of one pixel size.
    layouts
        What their maps are like.
    votes
        How many of them must see a nucleus.
    spec
        The facts the engine plans by.
    """

    models: tuple[Model, ...]
    layouts: tuple[MapLayout, ...]
    votes: int
    spec: ModelSpec

    @property
    def weights(self) -> dict[str, Path]:
        """Files of weights that models found for themselves, by their names."""
        found = {model.spec.name: getattr(model, "weights", None) for model in self.models}
        return {name: path for name, path in found.items() if path is not None}

    @property
    def _step(self) -> int:
        return math.lcm(*(layout.step for layout in self.layouts))

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Return the ensemble with each model's slide-wide statistics set."""
        return replace(self, models=tuple(model.calibrate(fields) for model in self.models))

    def settings(self) -> dict[str, float]:
        """Return what each model found, by its name."""
        found = {
            f"{model.spec.name}.{name}": value
            for model in self.models
            for name, value in model.settings().items()
        }
        return {"votes": self.votes, **found}

    def to(self, device: str) -> Self:
        """Return the ensemble with each model on a device."""
        return replace(self, models=tuple(model.to(device) for model in self.models))

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the bytes of all models' maps side by side, uint8, shape (n, h, w, bytes)."""
        return np.concatenate(
            [
                layout.pack(model.maps(batch), self._step)
                for model, layout in zip(self.models, self.layouts, strict=True)
            ],
            axis=-1,
        )

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Decode each model's maps, and fuse the nuclei."""
        opinions, first = [], 0
        for model, layout in zip(self.models, self.layouts, strict=True):
            stop = first + layout.bytes * (self._step // layout.step) ** 2
            part = np.asarray(maps[..., first:stop], np.uint8)
            opinions.append(model.decode(layout.unpack(part, self._step)))
            first = stop
        return fused(opinions, self.votes, self.spec.max_overlap)


def ensemble(models: Sequence[Model], votes: int | None = None) -> Ensemble:
    """Let two or more models vote.

    Parameters
    ----------
    votes
        How many must see a nucleus; more than half of them if not given.

    Raises
    ------
    ModelError
        When there are fewer than two, they take pixels of different size or tell different
        classes, or there cannot be so many votes.
    """
    spec = ensemble_spec([model.spec for model in models])
    needed = len(models) // 2 + 1 if votes is None else votes
    if not 1 <= needed <= len(models):
        raise ModelError(f"votes = {needed}: give a number from 1 to {len(models)}")
    return Ensemble(tuple(models), tuple(map(layout_of, models)), needed, spec)


def ensemble_spec(specs: Sequence[ModelSpec]) -> ModelSpec:
    """State the facts of an ensemble by those of its models, of which none is loaded.

    Raises
    ------
    ModelError
        When they cannot vote on one tile.
    """
    names = " and ".join(spec.name for spec in specs)
    if len(specs) < 2:
        raise ModelError("an ensemble needs two or more models: name another one")
    if len({spec.mpp for spec in specs}) > 1:
        sizes = ", ".join(f"{spec.name} {spec.mpp} µm" for spec in specs)
        raise ModelError(f"{names} cannot vote on one tile, as their pixels differ: {sizes}")
    if len({spec.classes for spec in specs}) > 1:
        raise ModelError(f"{names} cannot vote on classes: leave out those that tell others")
    return ModelSpec(
        name=NAME,
        summary=f"Vote of {names}",
        mpp=specs[0].mpp,
        stride=math.lcm(*(spec.stride for spec in specs)),
        receptive_radius_px=max(spec.receptive_radius_px for spec in specs),
        # Nuclei of one model may be wider, and their anchors elsewhere, than those of another.
        largest_object_px=max(spec.largest_object_px for spec in specs),
        classes=specs[0].classes,
        licence="; ".join(dict.fromkeys(spec.licence for spec in specs)),
        embedded=all(spec.embedded for spec in specs),
        max_overlap=max(spec.max_overlap for spec in specs),
        # One computes after the other.
        bytes_per_px=max(spec.bytes_per_px for spec in specs),
    )
