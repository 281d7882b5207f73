"""What the star-convex network learns: its shape, and the targets that it makes of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from wsi_engine.errors import ModelError
from wsi_engine.models.learning import LabelledCrop, Loss, Targets, Tensors, Training
from wsi_engine.models.starconvex.spec import CHANNELS, DEPTH, stride_px
from wsi_engine.models.starconvex.targets import StarTargets, size_weights, star_targets

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wsi_engine.models.starconvex.model import StarConvexModel
    from wsi_engine.models.starconvex.network import StarConvexNet

_MAX_OVERLAP = 0.3


class NetworkConfig(BaseModel):
    """Shape of the network; see `wsi_engine.models.starconvex.network.StarConvexNet`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, ...] = Field(default=CHANNELS, min_length=2)
    features: int = Field(default=64, ge=1)
    rays: int = Field(default=32, ge=8)
    mpp: float = Field(default=0.5, gt=0)
    grid_px: Literal[1, 2, 4] = 2
    depth: int = Field(default=DEPTH, ge=1)
    residual: bool = False
    pixel_features: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _has_whole_residuals(self) -> Self:
        if self.residual and self.depth % 2 == 0:
            raise ValueError("depth must be odd where residual is set: one and pairs of two")
        return self


class LearningConfig(BaseModel):
    """What is made of labels.

    Attributes
    ----------
    size_balance
        How much more a point of a small nucleus weighs than one of a large: its weight goes
        with the nucleus' area to minus this power. 0 weighs points alike, 1 nuclei.
    peaks_on_grid
        Whether the best grid point of a nucleus, however small, has the object probability 1;
        see `wsi_engine.models.starconvex.targets.star_targets`.
    taught_share
        How much of the object probability's target comes from the teacher, where a set has
        one; the rest comes from the labels.
    distance_loss
        Whether errors of the distances count in pixels, as in Schmidt et al. 2018, or in
        proportion to the distance, so that no size of nucleus counts more than another.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_balance: float = Field(default=0.0, ge=0, le=1)
    peaks_on_grid: bool = False
    taught_share: float = Field(default=0.5, ge=0, le=1)
    distance_loss: Literal["absolute", "relative"] = "absolute"


@dataclass(frozen=True, slots=True)
class StarConvexLearner:
    """The star-convex method in one training run; see `wsi_engine.models.learning.Learner`."""

    shape: NetworkConfig
    learning: LearningConfig
    classes: tuple[str, ...] = ()

    teachable = True
    classifies = True

    @property
    def mpp(self) -> float:
        """Side of a model pixel in µm."""
        return self.shape.mpp

    @property
    def stride_px(self) -> int:
        """Total stride in model pixels."""
        return stride_px(len(self.shape.channels), self.shape.grid_px)

    @property
    def grid_px(self) -> int:
        """Model pixels per point of the output grid."""
        return self.shape.grid_px

    def network(self) -> StarConvexNet:
        """Return a fresh network."""
        from wsi_engine.models.starconvex.network import StarConvexNet

        shape = self.shape
        return StarConvexNet(
            shape.channels, shape.features, shape.rays, self.classes,
            grid_px=shape.grid_px, depth=shape.depth, residual=shape.residual,
            pixel_features=shape.pixel_features,
        )  # fmt: skip

    def crop_targets(self, crop: LabelledCrop) -> StarTargets:
        """Return what the network should answer at each grid point of a crop."""
        grid, finer = self.shape.grid_px, crop.finer
        side = crop.side_px // grid
        targets = star_targets(
            crop.labels,
            crop.peaks,
            shape=(side, side),
            first=(crop.margin_px + grid / 2) * finer,
            spacing=grid * finer,
            unit=1 / finer,
            rays=self.shape.rays,
            inner_boundary_weight=crop.inner_boundary_weight,
            peaks_on_grid=self.learning.peaks_on_grid,
        )
        if crop.taught is not None and self.learning.taught_share > 0:
            targets = _blended(targets, crop.taught, self.learning.taught_share)
        return targets

    def targets(self, crops: Sequence[LabelledCrop]) -> Targets:
        """Return the targets of a batch; distances only at grid points inside nuclei.

        Returns
        -------
        dict of str to numpy.ndarray
            ``probability`` and ``probability_weight``, float32 on the output grid, shape
            (n, h / grid, w / grid); ``points``, the flat index of the grid points inside nuclei
            into those, int64 (k,); ``distances`` at those points and ``distances_weight``,
            float32 (k, rays); ``classes``, the class index there, int64 (k,), `NO_CLASS` where
            it is not known.
        """
        each = [self.crop_targets(crop) for crop in crops]
        inside = [target.inside for target in each]
        points = np.flatnonzero(np.stack(inside))
        weight = np.stack([target.probability_weight for target in each])
        distances, distances_weight = (
            np.concatenate([getattr(t, name)[at] for t, at in zip(each, inside, strict=True)])
            for name in ("distances", "distances_weight")
        )
        if self.learning.size_balance > 0:
            by_size = size_weights(distances, self.learning.size_balance)
            weight.reshape(-1)[points] *= by_size
            distances_weight *= by_size[:, None]
        classes = [
            crop.classes[target.labels[at]]
            for crop, target, at in zip(crops, each, inside, strict=True)
        ]
        return {
            "probability": np.stack([target.probability for target in each]),
            "probability_weight": weight,
            "points": points,
            "distances": distances,
            "distances_weight": distances_weight,
            "classes": np.concatenate(classes).astype(np.int64),
        }

    def loss(self, network: nn.Module, images: torch.Tensor, targets: Tensors) -> Loss:
        """Run a network on images and compare its answers; see `star_loss`."""
        from wsi_engine.models.layers import normalise
        from wsi_engine.models.starconvex.losses import star_loss

        maps = network(normalise(images)).float()
        return star_loss(maps, targets, relative=self.learning.distance_loss == "relative")

    def write(self, path: Path, network: nn.Module, threshold: float) -> None:
        """Write the weights of a network."""
        from wsi_engine.models.starconvex.model import save_weights
        from wsi_engine.models.starconvex.network import StarConvexNet

        assert isinstance(network, StarConvexNet)
        save_weights(
            path, network, mpp=self.shape.mpp, threshold=threshold, max_overlap=_MAX_OVERLAP
        )

    def model(self, path: Path) -> StarConvexModel:
        """Read the model that was written."""
        from wsi_engine.models.starconvex.model import load_weights

        return load_weights(path)

    def shape_of(self, weights: Path | None) -> NetworkConfig:
        """Return the shape of the network of trained weights."""
        from wsi_engine.models.starconvex.model import load_starconvex
        from wsi_engine.models.starconvex.network import StarConvexNet, describe

        model = load_starconvex(weights)
        assert isinstance(model.network, StarConvexNet)
        facts = {name: fact for name, fact in describe(model.network).items() if name != "classes"}
        return NetworkConfig(**facts, mpp=model.spec.mpp)

    def trained(self, fresh: nn.Module, weights: Path | None) -> dict[str, torch.Tensor]:
        """Return the state of a trained network of this shape, with the classes of this run.

        Classes that it knows by the same name are taken over, others start afresh.
        """
        from wsi_engine.models.starconvex.model import load_starconvex
        from wsi_engine.models.starconvex.network import StarConvexNet, describe

        trained = load_starconvex(weights).network
        assert isinstance(trained, StarConvexNet)
        assert isinstance(fresh, StarConvexNet)
        wanted, given = describe(fresh), describe(trained)
        for name in wanted:
            if name != "classes" and wanted[name] != given[name]:
                raise ModelError(
                    f"it has network.{name} {given[name]}, the run asks for {wanted[name]}"
                )
        state = {name: value.float() for name, value in trained.state_dict().items()}
        known = 1 + self.shape.rays
        for name in ("head.weight", "head.bias"):
            own = fresh.state_dict()[name].detach().clone()
            own[:known] = state[name][:known]
            for k, kind in enumerate(self.classes):
                if kind in trained.classes:
                    own[known + k] = state[name][known + trained.classes.index(kind)]
            state[name] = own
        return state


def _blended(targets: StarTargets, taught: npt.NDArray[np.float32], share: float) -> StarTargets:
    """Mix what a teacher says into the object probability, wherever it saw the same."""
    seen = np.isfinite(taught)
    own = np.where(targets.probability_weight > 0, targets.probability, taught)
    mixed = np.where(seen, (1 - share) * own + share * taught, targets.probability)
    weight = np.where(
        seen, np.maximum(targets.probability_weight, share), targets.probability_weight
    )
    return replace(
        targets, probability=mixed.astype(np.float32), probability_weight=weight.astype(np.float32)
    )


TRAINING = Training(NetworkConfig, LearningConfig, StarConvexLearner)
