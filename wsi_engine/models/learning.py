"""What a training run asks of a method: a network, what it should answer, and how wrong it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from wsi_engine.models.protocol import Model

if TYPE_CHECKING:
    import torch
    from pydantic import BaseModel
    from torch import nn

Targets = Mapping[str, npt.NDArray[Any]]
"""What a network should answer for the crops of a batch: arrays by name, the method's own."""

Tensors = Mapping[str, "torch.Tensor"]
"""Targets on a device."""

THRESHOLDS = tuple(np.round(np.arange(0.2, 0.71, 0.05), 2).tolist())
"""Thresholds among which a run looks for the one that suits the images that are held out."""


@dataclass(frozen=True, slots=True)
class LabelledCrop:
    """What is known of a training crop, from which a method makes its targets.

    Attributes
    ----------
    labels
        uint16, ``finer`` to the model pixel and ``margin_px`` model pixels beyond the crop on
        each side, so that the nuclei at its border are seen whole. 0 is background, `UNKNOWN`
        a pixel of which nothing is known, all else a nucleus.
    peaks
        Largest distance to the boundary in each nucleus by label, in model pixels, float32.
    classes
        Class index by label, int16, `NO_CLASS` where it is not known.
    inner_boundary_weight
        Trust in the boundary between two touching nuclei, 0 to 1.
    taught
        Object probability by a teacher on the points of the method's maps, float32, NaN where
        it has not seen what is there; ``None`` without a teacher.
    """

    labels: npt.NDArray[np.uint16]
    peaks: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int16]
    margin_px: int
    finer: int
    inner_boundary_weight: float = 1.0
    taught: npt.NDArray[np.float32] | None = None

    @property
    def side_px(self) -> int:
        """Side of the crop itself in model pixels."""
        return self.labels.shape[0] // self.finer - 2 * self.margin_px


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss, and by name the parts that it is made of; scalars."""

    total: torch.Tensor
    terms: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def parts(self) -> dict[str, float]:
        """Return the loss and its parts as numbers."""
        return {"loss": self.total.item()} | {k: v.item() for k, v in self.terms.items()}


@runtime_checkable
class Thresholded(Protocol):
    """What reports only what it is sure enough of."""

    @property
    def threshold(self) -> float:
        """The lowest score, or level of a map, that counts."""
        ...


class TrainedModel(Model, Thresholded, Protocol):
    """A model that reports what it is sure enough of, and can be told how sure that is."""

    def with_threshold(self, threshold: float) -> Self:
        """Return the model with another threshold."""
        ...


@runtime_checkable
class Teacher(TrainedModel, Protocol):
    """A model from whose object probability another can learn."""

    def object_probability(self, maps: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Return the object probability of the maps of one tile, shape (h, w)."""
        ...


class Learner(Protocol):
    """A method with the settings of one training run.

    Attributes
    ----------
    mpp, stride_px, grid_px
        Side of a model pixel in µm, total stride of the network, and model pixels per point of
        its maps.
    teachable
        Whether its targets heed what a teacher says.
    classifies
        Whether it can tell classes apart.
    """

    @property
    def mpp(self) -> float: ...  # noqa: D102

    @property
    def stride_px(self) -> int: ...  # noqa: D102

    @property
    def grid_px(self) -> int: ...  # noqa: D102

    @property
    def teachable(self) -> bool: ...  # noqa: D102

    @property
    def classifies(self) -> bool: ...  # noqa: D102

    def network(self) -> nn.Module:
        """Return a fresh network, its weights random."""
        ...

    def targets(self, crops: Sequence[LabelledCrop]) -> Targets:
        """Return what the network should answer for the crops of a batch."""
        ...

    def loss(self, network: nn.Module, images: torch.Tensor, targets: Tensors) -> Loss:
        """Run a network on images, uint8 (n, h, w, 3), and compare its answers with the targets."""
        ...

    def write(self, path: Path, network: nn.Module, threshold: float) -> None:
        """Write the weights of a network as `model` and the engine read them."""
        ...

    def model(self, path: Path) -> TrainedModel:
        """Read the model that `write` wrote.

        Raises
        ------
        ModelError
            If the file holds something else.
        """
        ...

    def shape_of(self, weights: Path | None) -> BaseModel:
        """Return the section ``network`` that describes the network of trained weights.

        Raises
        ------
        ModelError
            If they cannot be read.
        """
        ...

    def trained(self, fresh: nn.Module, weights: Path | None) -> dict[str, torch.Tensor]:
        """Return the state of a trained network, folded, for a fresh one to start from.

        Parameters
        ----------
        fresh
            As `network` returns it; what the trained one does not know is taken from it.
        weights
            File of weights; ``None`` for those that come with the package.

        Raises
        ------
        ModelError
            If they cannot be read, or do not have the shape of this network.
        """
        ...


@dataclass(frozen=True, slots=True)
class Training:
    """How a method is made ready to learn.

    Attributes
    ----------
    network, learning
        The sections of a training's configuration that are the method's own: the shape of its
        network, and what it makes of labels.
    learner
        From those two and the names of the classes to a learner.
    """

    network: type[BaseModel]
    learning: type[BaseModel]
    learner: Callable[[Any, Any, tuple[str, ...]], Learner]
