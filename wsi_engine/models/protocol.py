"""What the engine asks of a model: pixels in, maps out; maps in, polygons out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.slide.normalisation.methods import SplitDab

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The facts about a model that the engine plans by.

    Lengths are in model pixels, squares of ``mpp`` µm; on a slide they may be 5 % larger or
    smaller, for pixels of the model to be whole ones of the slide. `wsi_engine.check_model`
    measures whether the lengths are true.

    Attributes
    ----------
    name
        One word, by which the model is asked for; the ids of nuclei depend on it.
    summary
        What it is, in a line.
    mpp
        Side in µm of the pixels that the model takes.
    stride
        Total stride of the network: tile origins are multiples of it, so that the pooling
        grids of neighbouring tiles agree.
    receptive_radius_px
        How far a pixel's surroundings can change its prediction, decoding included.
    largest_object_px
        Longest side of the bounding box of an object that the model reports.
    classes
        Class names by index; empty where the model does not classify.
    licence
        Licence of the weights, or of the method.
    embedded
        Whether the weights (if any) come with the package.
    max_overlap
        Share of the smaller of two nuclei that may lie in the other. Above it, two tiles
        saw one nucleus.
    reach_px
        How far from its anchor a nucleus can extend; ``largest_object_px`` if not stated.
    bytes_per_px
        Memory in bytes that a pixel of a tile takes where it takes most, while its network
        computes it or while it is decoded. Tiles and batches are chosen by it.
    colours
        Red, green and blue of each class in QuPath, 0 to 255; ``None``, and without any, for the
        colour that QuPath or the name of the class gives.

    Examples
    --------
    >>> import wsi_engine as we
    >>> spec = we.available_models()["starconvex"].spec
    >>> spec.mpp, spec.stride, spec.halo_px
    (0.5, 8, 112)
    """

    name: str
    summary: str
    mpp: float
    stride: int
    receptive_radius_px: int
    largest_object_px: int
    classes: tuple[str, ...] = ()
    licence: str = "not stated"
    embedded: bool = True
    max_overlap: float = 0.3
    reach_px: int | None = None
    colours: tuple[tuple[int, int, int] | None, ...] = ()
    bytes_per_px: int = 512

    @property
    def class_colours(self) -> dict[str, tuple[int, int, int]]:
        """Colours of those classes that have one of their own."""
        pairs = zip(self.classes, self.colours, strict=False)
        return {name: colour for name, colour in pairs if colour is not None}

    @property
    def halo_px(self) -> int:
        """Context that a tile reads around its core, a multiple of the stride."""
        reach = self.largest_object_px if self.reach_px is None else self.reach_px
        needed = self.receptive_radius_px + reach
        return -(-needed // self.stride) * self.stride


class Model(Protocol):
    """A nucleus model.

    Any object with these methods is one; nothing is inherited. Instances are used by many
    threads and must not change in use. `wsi_engine.check_model` says whether an object keeps what
    is promised here; a run stops, with the promise and the tile, where one is broken.

    Attributes
    ----------
    spec
        Facts by which the engine plans.

    Methods
    -------
    calibrate, settings
        Set the statistics of a slide, and return them for the record of the run.
    to
        Move to a device.
    maps, decode
        Turn pixels into maps, and the maps of a tile into polygons.

    Examples
    --------
    >>> import numpy as np
    >>> import wsi_engine as we
    >>> model: we.Model = we.available_models()["watershed"].load(None)
    >>> glass = np.full((1, 256, 256, 3), 255, np.uint8)
    >>> model = model.calibrate(glass)
    >>> len(model.decode(model.maps(glass)[0]).scores)
    0
    """

    @property
    def spec(self) -> ModelSpec:
        """The facts the engine plans by."""
        ...

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Return the model with its slide-wide statistics set.

        Parameters
        ----------
        fields
            Tissue of this slide at the model's mpp, uint8, shape (n, 256, 256, 3), RGB,
            1 <= n <= 48, chosen without regard to the tiling. Called once per slide, so no
            threshold is ever a tile's own.
        """
        ...

    def settings(self) -> dict[str, float]:
        """Return what ``calibrate`` found, finite numbers by name, for the record of the run."""
        ...

    def to(self, device: str) -> Self:
        """Return the model on a device, ready for ``maps``."""
        ...

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Run the model on a batch.

        Parameters
        ----------
        batch
            uint8, shape (n, height, width, 3), RGB at about the model's mpp, height and width
            multiples of the stride; not to be written to. What is beyond the slide is mirrored.

        Returns
        -------
        numpy.ndarray
            On the host, shape (n, height / k, width / k, ...), k a whole number that divides
            the stride. Maps of a tile do not depend on the others in the batch.
        """
        ...

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn maps into polygons.

        Parameters
        ----------
        maps
            Those of one tile, ``maps(batch)[i]``, or a rectangle cut out of them.

        Returns
        -------
        Predictions
            In model pixels from the upper left corner of the maps' first point.
        """
        ...


@runtime_checkable
class Declaring(Protocol):
    """A model that says what else its nuclei depend on.

    For a model that is given to `wsi_engine.run` as an object, this decides, with its class, spec
    and settings, whether a run is the same as an earlier one.
    """

    def basis(self) -> Mapping[str, Any]:
        """Return JSON-like values by name, such as a threshold, or the digest of weights."""
        ...


@runtime_checkable
class SplitsDab(Protocol):
    """A model that can be shown haematoxylin and DAB apart."""

    def with_dab(self, split: SplitDab) -> Self:
        """Return the model that is shown them apart, or not."""
        ...
